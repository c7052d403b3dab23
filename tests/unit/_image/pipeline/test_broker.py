# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the reader may ask of the module: what no reader needs is refused before anything is done."""

from __future__ import annotations

import gzip
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from module_utils._errors import CommandFailed, NoSpace, Unsupported
from module_utils._host.processes.answer import Json
from module_utils._host.processes.conversation import Conversation, Line
from module_utils._image import opening
from module_utils._image.compression.decoder_process import PROCESS_BYTES
from module_utils._image.limits import Limits
from module_utils._image.opening import open_family
from module_utils._image.pipeline.broker import Broker, NotAsked
from module_utils._image.pipeline.offer import Layer, Offered
from tests.unit._image.unpacked import options
from tests.unit.support.processes import assert_ends

MIB = 1 << 20
LIMITS = Limits(decoder_memory_bytes=64 * MIB)
STREAM = ["gzip", "the layer", 0, 100]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A broker for one file."""
    (tmp_path / "archive").write_bytes(gzip.compress(b"content"))
    with open(tmp_path / "archive", "rb") as file:
        made = Broker(options(tmp_path, limits=LIMITS), [file.fileno()])
        try:
            yield made
        finally:
            made.close()


def decoder(memory_bytes: Any = MIB, streams: Any = (STREAM,)) -> Json:
    """A question for a decoder."""
    return {
        "decoder": {"memory_bytes": memory_bytes, "streams": list(streams) if isinstance(streams, tuple) else streams}
    }


def close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


@pytest.mark.parametrize(
    "question",
    [
        None,
        [],
        {},
        "decoder",
        {"decoder": None},
        {"decoder": {}},
        {"decoder": {"memory_bytes": 1, "streams": [STREAM]}, "end": None},
        {"run": "/bin/sh"},
        {"file": None},
        {"why": 0},
        {"why": -1},
        {"why": None},
        decoder(memory_bytes=-1),
        decoder(memory_bytes=1.5),
        decoder(memory_bytes=True),
        decoder(memory_bytes="1"),
        decoder(memory_bytes=64 * MIB - PROCESS_BYTES + 1),
        decoder(memory_bytes=1 << 70),
        decoder(streams=()),
        decoder(streams={}),
        decoder(streams="gzip"),
        decoder(streams=tuple([STREAM] * ((1 << 14) + 1))),
        decoder(streams=(["none", "it", 0, 1],)),
        decoder(streams=(["../gzip", "it", 0, 1],)),
        decoder(streams=([["gzip"], "it", 0, 1],)),
        decoder(streams=(["gzip", "it", 1, 1],)),
        decoder(streams=(["gzip", "it", -1, 1],)),
        decoder(streams=(["gzip", "it", "/etc/shadow", 1],)),
        decoder(streams=(["gzip", "it", 0, -1],)),
        decoder(streams=(["gzip", "it", 0, 1 << 63],)),
        decoder(streams=(["gzip", "it", 0],)),
    ],
)
def test_what_no_reader_asks_is_refused(broker: Broker, question: Json) -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises(NotAsked):
        broker.answer(question)
    assert os.listdir("/proc/self/fd") == before
    assert broker._helpers == []


@pytest.mark.parametrize(
    "layers", [None, {}, [["sha256:ab"]], [["sha256:ab", -1]], [[1, 1]], [["a" * 257, 1]], [["sha256:ab", 1]] * 1000]
)
def test_a_question_for_an_origin_is_looked_at(tmp_path: Path, layers: Json) -> None:
    made = Broker(options(tmp_path, limits=LIMITS._replace(layers=4)), [], lambda _layers: Offered(0, True))
    with pytest.raises(NotAsked):
        made.answer({"origin": {"layers": layers}})


def test_an_origin_is_asked_for_once_and_only_where_one_is_offered(broker: Broker, tmp_path: Path) -> None:
    question = {"origin": {"layers": [["sha256:ab", 5], ["", 1]]}}
    asked: list[object] = []
    with pytest.raises(NotAsked):
        broker.answer(question)
    with open(tmp_path / "archive", "rb") as file:

        def offer(layers: object) -> Offered:
            asked.append(layers)
            return Offered(file.fileno(), False, (file.fileno(), file.fileno()), ("ab", "cd"))

        made = Broker(options(tmp_path, limits=LIMITS), [], offer)
        result, fds = made.answer(question)
        assert (result, asked) == ({"trusted": False, "layers": ("ab", "cd")}, [[Layer("sha256:ab", 5), Layer("", 1)]])
        assert [os.fstat(fd).st_ino for fd in fds] == [os.fstat(file.fileno()).st_ino] * 3
        close(fds)
        with pytest.raises(NotAsked):
            made.answer(question)


def test_all_decoders_have_no_more_memory_than_the_limit_together(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(16)))
    share = 32 * MIB - PROCESS_BYTES
    for _turn in range(2):
        for _number in range(2):
            close(broker.answer(decoder(share)).fds)
        with pytest.raises(NotAsked):
            broker.answer(decoder(0))
        broker.answer({"end": None})


def test_there_are_no_more_decoders_than_processors(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1})
    close([*broker.answer(decoder()).fds, *broker.answer(decoder()).fds])
    with pytest.raises(NotAsked):
        broker.answer(decoder())


def test_decoders_have_ended_when_it_says_so(broker: Broker) -> None:
    close(broker.answer(decoder()).fds)
    pid = broker._helpers[0].pid
    broker.answer({"end": None})
    assert_ends(str(pid))
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def test_a_decoder_that_has_not_ended_is_not_waited_for(broker: Broker) -> None:
    number, fds = broker.answer(decoder())
    begun = time.monotonic()
    with pytest.raises(CommandFailed, match="without an answer"):
        broker.answer({"why": number})
    assert time.monotonic() - begun < 20
    close(fds)


def test_only_pipes_and_files_to_read_leave(broker: Broker) -> None:
    fds = broker.answer(decoder()).fds
    try:
        assert [stat.S_IFMT(os.fstat(fd).st_mode) for fd in fds] == [stat.S_IFIFO, stat.S_IFIFO, stat.S_IFREG]
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.write(fds[2], b"x")
    finally:
        close(fds)


def test_a_file_of_the_spool_never_gets_a_name(broker: Broker, tmp_path: Path) -> None:
    number, (fd,) = broker.answer({"file": {"again": False}})
    assert number is None
    before = os.listdir(tmp_path)
    directory = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    with pytest.raises(FileNotFoundError):
        os.link(f"/proc/self/fd/{fd}", "named", dst_dir_fd=directory, follow_symlinks=True)
    assert os.listdir(tmp_path) == before
    close([fd, directory])


def test_a_file_that_is_read_again_has_a_number_that_a_decoder_takes(broker: Broker) -> None:
    number, (fd,) = broker.answer({"file": {"again": True}})
    assert number == 1
    os.close(fd)
    close(broker.answer(decoder(streams=(["gzip", "it", 1, 1],))).fds)
    for _number in range(7):
        close(broker.answer({"file": {"again": True}}).fds)
    with pytest.raises(NotAsked):  # each is kept open
        broker.answer({"file": {"again": True}})


def test_what_goes_wrong_is_an_error_for_the_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = Broker(options(tmp_path / "gone"), [])
    with pytest.raises((Unsupported, NoSpace)):
        gone.answer({"file": {"again": False}})

    def ask(_read: object, _options: object, line: Line) -> None:
        line.ask({"file": {"again": False}})

    monkeypatch.setattr(opening, "read_and_write", ask)
    with pytest.raises(Unsupported, match="making a file in the spool"):
        opened(tmp_path / "gone", tmp_path)


def opened(spool: Path, directory: Path, **given: Any) -> None:
    """Open an image."""
    (directory / "layer").write_bytes(b"")
    with open(directory / "layer", "rb") as layer, open_family([layer.fileno()], options(spool, **given)):
        pass


def test_a_reader_that_asks_for_what_it_may_not_have_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(_read: object, _options: object, line: Line) -> None:
        (tmp_path / "pid").write_text("asked")
        line.ask({"decoder": {"memory_bytes": 1 << 40, "streams": [STREAM]}})
        (tmp_path / "pid").write_text("answered")

    monkeypatch.setattr(opening, "read_and_write", ask)
    with pytest.raises(CommandFailed, match="asks for what no reader needs") as caught:
        opened(tmp_path, tmp_path)
    assert not caught.value.retryable
    assert (tmp_path / "pid").read_text() == "asked"


def test_a_reader_that_asks_without_end_is_ended_when_its_time_is_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(_read: object, _options: object, line: Line) -> None:
        while True:
            os.close(line.ask({"file": {"again": False}}).fds[0])

    monkeypatch.setattr(opening, "read_and_write", ask)
    with pytest.raises(Exception, match="limit seconds"):
        opened(tmp_path, tmp_path, limits=Limits(seconds=1))


def test_a_reader_that_asks_and_does_not_listen_delays_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(_read: object, _options: object, line: Line) -> None:
        while True:
            line.say({"ask": {"file": {"again": False}}})

    monkeypatch.setattr(opening, "read_and_write", ask)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(CommandFailed, match="does not listen"):
        opened(tmp_path, tmp_path)
    assert os.listdir("/proc/self/fd") == before


def test_more_descriptors_than_one_message_carries_arrive(tmp_path: Path) -> None:
    def work(line: Line) -> list[int]:
        result, fds = line.ask("many")
        return [result, len(fds), len({os.fstat(fd).st_ino for fd in fds})]

    child = Conversation(work, what="asking", kept_fds=())
    files = [os.open(tmp_path / str(at), os.O_CREAT | os.O_RDWR) for at in range(600)]
    try:
        assert child.hear(30) == {"ask": "many"}
        child.reply({"result": "here"}, files)
        assert child.result() == ["here", 600, 600]
    finally:
        close(files)
        child.close()

"""Decoders are processes that have nothing: looked up in /proc while one works, and tried from inside."""

from __future__ import annotations

import gzip
import json
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from module_utils._errors import CommandFailed, Untrusted
from module_utils._image.compression import choice as compression
from module_utils._image.compression import decoder_process as decoding
from module_utils._image.compression import streams
from module_utils._image.compression.decoders import Decoder, Packed
from module_utils._image.compression.sniffing import Compression
from module_utils._image.compression.streams import Input, Open, Stream
from module_utils._image.extent import Extent
from module_utils._image.limits import Deadline, Limits
from module_utils._image.pipeline.broker import Broker
from module_utils._image.pipeline.unpacking import open_image
from tests.unit._image.unpacked import needs_root, options, plan_of
from tests.unit.builders import images, tar
from tests.unit.support.processes import assert_ends
from tests.unit.support.system_calls import CALLS, NEEDED, needs_x86_64, tried

LAYER = tar.tar(tar.file(b"f", random.Random(2).randbytes(100_000)))
MIB = 1 << 20


class Said:
    """A stream that gives what ``look`` finds, as JSON, whatever is to be decompressed; ``look`` runs in the decoder's process."""

    def __init__(self, look: Callable[[Input], Any], source: Input) -> None:
        self._look = look
        self._source = source
        self._is_over = False

    def read(self, count: int) -> bytes:
        if self._is_over:
            return b""
        self._is_over = True
        return json.dumps(self._look(self._source)).encode()[:count]

    def close(self) -> None:
        """Nothing is held."""


def inside(tmp_path: Path, look: Callable[[Input], Any]) -> Any:
    """What ``look`` finds in the process of a decoder."""
    said = b""

    def take(data: memoryview, _read_bytes: int) -> None:
        nonlocal said
        said += data

    with_decoder(tmp_path, lambda source, _memory: Said(look, source), lambda decoder, _pid: decoder.run(0, take))
    return json.loads(said)


def with_decoder(
    tmp_path: Path, opened: Open, use: Callable[[Decoder, int], object], limits: Limits | None = None
) -> None:
    """A decoder for a file of ten bytes, and its pid."""
    chosen = limits or Limits()
    (tmp_path / "packed").write_bytes(b"0123456789")
    fd = os.open(tmp_path / "packed", os.O_RDONLY)
    broker = Broker(options(tmp_path, limits=chosen), [fd])
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(compression, "decoder", lambda _kind, _what: opened)
            packed = Packed(Extent(fd, 0, 10), 0, "it", Compression.GZIP)
            decoder = Decoder([packed], broker.answer, Deadline(chosen), 8 * MIB)
        use(decoder, broker._helpers[decoder.number].pid)
        decoder.close()
    finally:
        broker.close()
        os.close(fd)


@needs_root
def test_a_decoder_has_nothing_but_its_input_and_its_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "allow_only", lambda _calls: True)  # it would not let it look

    def look(_source: Input) -> dict[str, Any]:
        found: dict[str, Any] = {
            "root": os.listdir("/"),
            "ids": [*os.getresuid(), *os.getresgid()],
            "groups": os.getgroups(),
        }
        open_fds = []
        for fd in range(3, 64):
            try:
                open_fds.append(os.fstat(fd).st_mode >> 12)
            except OSError:
                continue
        try:
            os.mkdir("/new")
        except OSError as error:
            found["mkdir"] = error.errno
        return {**found, "open": sorted(open_fds), "pid": os.getpid(), "parent": os.getppid()}

    found = inside(tmp_path, look)
    assert found["root"] == []
    assert found["mkdir"] in (13, 30)  # EACCES, EROFS
    assert found["ids"] == [65534] * 6
    assert found["groups"] == []
    assert (found["pid"], found["parent"]) == (1, 0)
    assert found["open"] == [1, 1, 1, 8]  # the pipes of orders, output and answer; the archive


@needs_root
def test_a_decoder_seen_from_outside(tmp_path: Path) -> None:
    def wait(_source: Input) -> list[int]:
        time.sleep(60)
        return []

    seen: dict[str, Any] = {}

    def watch(_decoder: Decoder, pid: int) -> None:
        until = time.monotonic() + 20
        while "Seccomp:\t2" not in Path(f"/proc/{pid}/status").read_text():
            assert time.monotonic() < until
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            name, _colon, value = line.partition(":\t")
            seen[name] = value
        for name in ("pid", "ipc", "net", "uts", "cgroup", "mnt"):
            assert os.readlink(f"/proc/{pid}/ns/{name}") != os.readlink(f"/proc/self/ns/{name}"), name
        seen["mounts"] = Path(f"/proc/{pid}/mounts").read_text()
        lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
        seen["limits"] = {line[:26].strip(): line[26:].split()[1] for line in lines}

    with_decoder(tmp_path, lambda source, _memory: Said(wait, source), watch)
    assert {seen[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert seen["NoNewPrivs"] == "1"
    assert len(seen["mounts"].splitlines()) == 1
    assert seen["limits"]["Max file size"] == seen["limits"]["Max core file size"] == "0"
    assert seen["limits"]["Max cpu time"] == str(Limits().seconds + 10)
    assert int(seen["limits"]["Max address space"]) < 1 << 31


@needs_root
@needs_x86_64
def test_each_class_of_call_is_refused_to_a_decoder(tmp_path: Path) -> None:
    assert inside(tmp_path, lambda _source: {name: tried(name) for name in CALLS}) == dict.fromkeys(CALLS, "EPERM")


@needs_x86_64
def test_a_decoder_is_refused_even_more_than_a_writer(tmp_path: Path) -> None:
    CALLS.update(
        {
            "mkdirat": (258, (-1, 0, 0)),
            "fchmod": (91, (-1, 0)),
            "wait4": (61, (-1, 0, 0, 0)),
            "pread64": (17, (-1, 0, 0, 0)),
        }
    )
    names = ("mkdirat", "fchmod", "wait4", "pread64")
    try:
        assert inside(tmp_path, lambda _source: [tried(name) for name in names]) == ["EPERM"] * len(names)
    finally:
        for name in names:
            del CALLS[name]
    assert NEEDED


@pytest.mark.parametrize("kind", ["fast", "standard library"])
def test_no_decoder_runs_in_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    if kind != "fast":
        import zlib

        monkeypatch.setattr(compression, "_fastest_zlib", lambda: zlib)
    old = streams.ZlibMember.output

    def output(self: Any, data: bytes, count: int) -> bytes:
        assert os.getpid() != here, "a decoder runs here"
        return old(self, data, count)

    here = os.getpid()
    monkeypatch.setattr(streams.ZlibMember, "output", output)
    assert plan_of(tmp_path, images.docker_archive([LAYER], gzip.compress)).leaves.names == [b"f"]


class Turned:
    """What a turned decoder may send instead of what it should: bytes that go into the pipe as they are."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __call__(self, _source: Input, _memory: int) -> Stream:
        for fd in range(3, 64):
            try:
                os.write(fd, self._data)
            except OSError:
                continue
        os._exit(0)


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff\xff\x7f" + bytes(100),  # a frame of 2 GiB
        (decoding.ANSWER + (1 << 20)).to_bytes(4, "little") + bytes(100),  # a long answer
        (decoding.ANSWER + 2).to_bytes(4, "little") + b"{}",
        (decoding.ANSWER + 4).to_bytes(4, "little") + b"[[[[",
        (decoding.ANSWER + 9).to_bytes(4, "little") + b'{"error":1}'[:9],
        b"\x01\x00",
        b"",
    ],
)
def test_one_that_does_not_keep_to_the_protocol_is_given_up(tmp_path: Path, data: bytes) -> None:
    def use(decoder: Decoder, _pid: int) -> None:
        with pytest.raises(CommandFailed):
            decoder.run(0, lambda _data, _read: None)

    with_decoder(tmp_path, Turned(data), use)


def test_one_that_says_nothing_is_given_up_at_the_deadline_and_none_is_left(tmp_path: Path) -> None:
    def sleep(_source: Input) -> None:
        time.sleep(600)

    pids: list[int] = []

    def use(decoder: Decoder, pid: int) -> None:
        pids.append(pid)
        with pytest.raises(Untrusted, match="limit seconds"):
            decoder.run(0, lambda _data, _read: None)

    with_decoder(tmp_path, lambda source, _memory: Said(sleep, source), use, Limits(seconds=1))
    assert_ends(str(pids[0]))


def test_a_decoder_dies_with_the_process_that_wanted_it(tmp_path: Path) -> None:
    def sleep(_source: Input) -> None:
        time.sleep(600)

    def wait(decoder: Decoder, pid: int) -> None:
        (tmp_path / "pid").write_text(str(pid))
        decoder.run(0, lambda _data, _read: None)

    child = os.fork()
    if child == 0:
        try:
            with_decoder(tmp_path, lambda source, _memory: Said(sleep, source), wait)
        finally:
            os._exit(0)
    until = time.monotonic() + 20
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert time.monotonic() < until
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert_ends((tmp_path / "pid").read_text())


def test_a_text_that_a_turned_decoder_sends_is_shown_without_control_characters(tmp_path: Path) -> None:
    error = {"kind": "untrusted", "msg": "\x1b[2Jgone", "hint": "\x07", "retryable": False, "details": {}, "trail": []}
    message = json.dumps({"error": error}).encode()
    frames = b"".join(
        (decoding.ANSWER + len(part)).to_bytes(4, "little") + part for part in (b'{"result": []}', message)
    )

    def use(decoder: Decoder, _pid: int) -> None:
        decoder._missing_isolation = None
        with pytest.raises((Untrusted, CommandFailed)) as caught:
            decoder.run(0, lambda _data, _read: None)
        assert "\x1b" not in str(caught.value)
        assert "\x07" not in caught.value.hint

    with_decoder(tmp_path, Turned(frames[frames.index(b"]}") + 2 :]), use)


@needs_root
def test_where_all_walls_stand_around_decoders_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(images.docker_archive([LAYER] * 2, gzip.compress))
    fd = os.open(tmp_path / "archive", os.O_RDONLY)
    try:
        with open_image(fd, options(tmp_path)) as unpacking:
            assert unpacking.missing_isolation == frozenset()
    finally:
        os.close(fd)

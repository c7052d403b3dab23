# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A child that says several things, and is given a descriptor."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from module_utils._errors import BadInput, CommandFailed
from module_utils._host.processes.conversation import Conversation, Late, Line


@contextmanager
def talking(work: Callable[[Line], object]) -> Iterator[Conversation]:
    """A child that does ``work``."""
    child = Conversation(work, what="talking", kept_fds=())
    try:
        yield child
    finally:
        child.close()
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)


def test_messages_come_in_order_and_the_result_last() -> None:
    def work(line: Line) -> str:
        line._end.sendall(b'{"at": 1}\n{"at":')  # two messages may come in one piece
        line._end.sendall(b" 2}\n")
        line.say({"at": 3, "text": "\n" * 200_000})
        return "done"

    with talking(work) as child:
        assert [(child.hear(30) or {})["at"] for _turn in range(3)] == [1, 2, 3]
        assert child.hear(30) is None
        assert child.result() == "done"


def test_a_descriptor_is_given_by_a_descendant_too(tmp_path: Path) -> None:
    def work(line: Line) -> str:
        line.say({})
        fd = line.take_fd()[1]
        return os.read(fd, 100).decode() + str(os.get_inheritable(fd))

    (tmp_path / "file").write_text("content ")
    with talking(work) as child, open(tmp_path / "file", "rb") as file:
        child.hear(30)
        pid = os.fork()
        if pid == 0:
            child.give(file.fileno())
            os._exit(0)
        os.waitpid(pid, 0)
        assert child.result() == "content False"


def test_an_error_of_the_child_comes_out_of_the_result() -> None:
    def work(_line: Line) -> None:
        raise BadInput("no", hint="yes")

    with talking(work) as child:
        assert child.hear(30) is None
        child.give(0)  # it has ended: nothing to raise here
        with pytest.raises(BadInput, match="no"):
            child.result()


def test_a_child_that_says_nothing_in_time_is_late() -> None:
    with talking(lambda _line: time.sleep(3600)) as child, pytest.raises(Late):
        child.hear(0.05)


def test_when_its_time_is_up_a_child_is_late_whatever_it_has_said() -> None:
    with talking(lambda line: line._end.sendall(b'{"at": 1}\n' * 2)) as child:
        assert child.hear(30) == {"at": 1}
        with pytest.raises(Late):
            child.hear(0)


def test_a_child_that_never_ends_its_message_is_late() -> None:
    def work(line: Line) -> None:
        while True:
            line._end.send(b" ")
            time.sleep(0.01)

    with talking(work) as child, pytest.raises(Late):
        child.hear(0.2)


def test_a_child_that_hangs_up_and_continues_is_ended() -> None:
    def work(line: Line) -> None:
        line._end.close()
        time.sleep(3600)

    with talking(work) as child:
        assert child.hear(30) is None
        with pytest.raises(CommandFailed, match="without an answer"):
            child.result()


@pytest.mark.parametrize("said", [b"null\n", b"[]\n", b"1\n", b"{\n", b"[" * 100_000 + b"\n", b"\xff\n", b"\n"])
def test_what_is_no_message_is_refused(said: bytes) -> None:
    with talking(lambda line: line._end.sendall(said)) as child, pytest.raises(CommandFailed, match="no message"):
        child.hear(30)


def test_a_message_that_would_fill_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("module_utils._host.processes.conversation._MAX_BYTES", 1 << 20)
    with (
        talking(lambda line: line._end.sendall(b" " * (1 << 22))) as child,
        pytest.raises(CommandFailed, match="says more"),
    ):
        child.hear(30)


def test_a_child_that_is_given_nothing_ends() -> None:
    with talking(lambda line: line.take_fd()) as child:
        child._end.close()
        with pytest.raises(CommandFailed):
            child.result()

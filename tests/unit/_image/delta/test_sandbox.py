# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the processes may do that compare an earlier tree and change it, tried from inside."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from module_utils._host.processes.child import in_child
from module_utils._image.delta.comparing import rows_of
from module_utils._image.delta.sandbox import OLD_FILE, lock_changing, lock_comparing
from module_utils._image.limits import Limits
from module_utils._image.writing.sandbox import DIRECTORY, NEW_FILE, contain
from tests.unit._image.unpacked import needs_root
from tests.unit.support.system_calls import CALLS, needs_x86_64, tried

pytestmark = needs_root

Attempt = Callable[[], object]


def root() -> int:
    return os.open("/", DIRECTORY)


READING: dict[str, Attempt] = {
    "read a file": lambda: os.close(os.open("file", OLD_FILE)),
    "list": lambda: os.close(os.open("/", DIRECTORY)),
    "look": lambda: os.stat("file"),
}
CHANGING: dict[str, Attempt] = {
    "make a file": lambda: os.close(os.open("new", NEW_FILE, 0o600)),
    "make a directory": lambda: os.mkdir("d", dir_fd=root()),
    "move": lambda: os.rename("moved", "elsewhere", src_dir_fd=root(), dst_dir_fd=root()),
    "remove": lambda: os.unlink("removed", dir_fd=root()),
    "change the mode": lambda: os.chmod("file", 0o600, dir_fd=root()),
}
NEVER: dict[str, Attempt] = {
    "write to a file": lambda: os.open("file", os.O_WRONLY),
    "open to read and write": lambda: os.open("file", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC),
    "follow a link": lambda: os.open("link", os.O_RDONLY | os.O_CLOEXEC),
    "start a program": lambda: os.execv("/program", ["program"]),  # noqa: S606
}


def tried_inside(directory: Path, lock: Callable[[], bool], attempts: dict[str, Attempt]) -> Any:
    """What came of each attempt in a process whose root is ``directory``, behind ``lock``."""
    for name in ("file", "moved", "removed", "program"):
        (directory / name).write_bytes(b"x")
    (directory / "link").symlink_to("file")
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)

    def outcome(attempt: Attempt) -> str:
        try:
            attempt()
        except OSError as error:
            return str(error.strerror)
        return "done"

    def work() -> list[object]:
        missing = contain(fd, Limits(), lambda: None, lock)
        return [missing, {name: outcome(attempt) for name, attempt in attempts.items()}]

    try:
        return in_child(work, what="the test", apart=True)
    finally:
        os.close(fd)


REFUSED = "Operation not permitted"


def test_who_compares_can_read_and_change_nothing(tmp_path: Path) -> None:
    found = tried_inside(tmp_path, lock_comparing, {**READING, **CHANGING, **NEVER})
    assert found == [[], {**dict.fromkeys(READING, "done"), **dict.fromkeys((*CHANGING, *NEVER), REFUSED)}]


def test_who_changes_opens_no_file_that_is_there(tmp_path: Path) -> None:
    found = tried_inside(tmp_path, lock_changing, {**CHANGING, **NEVER, "read a file": READING["read a file"]})
    assert found == [[], {**dict.fromkeys(CHANGING, "done"), **dict.fromkeys((*NEVER, "read a file"), REFUSED)}]


@needs_x86_64
@pytest.mark.parametrize("lock", [lock_comparing, lock_changing])
def test_each_class_of_call_is_refused_to_both(tmp_path: Path, lock: Callable[[], bool]) -> None:
    allowed = {"unlinkat", "renameat2"} if lock is lock_changing else set()
    names = [name for name in CALLS if name not in allowed]
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        answers = in_child(
            lambda: [contain(fd, Limits(), lambda: None, lock), {name: tried(name) for name in names}],
            what="it",
            apart=True,
        )
    finally:
        os.close(fd)
    assert answers == [[], dict.fromkeys(names, "EPERM")]


@pytest.mark.parametrize("answer", ["", "0", "00", "000100", "zz", None, {"a": 1}])
def test_an_answer_of_another_length_is_none(answer: object) -> None:
    with pytest.raises(Exception, match="cannot be understood"):
        rows_of(answer, [5, 6])


def test_an_answer_names_the_rows_that_differ() -> None:
    assert rows_of("000100", [5, 6, 9]) == [6]

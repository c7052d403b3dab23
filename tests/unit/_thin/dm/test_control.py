"""Requests to device-mapper without a program: what the kernel is given and what is made of its answers."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import time
from pathlib import Path

import pytest

from module_utils._errors import CommandFailed, NoSpace, Unsupported
from module_utils._host.processes.command import Runner
from module_utils._thin.dm import control
from module_utils._thin.dm.control import ControlNode, ask
from module_utils._thin.dm.cookie import udev_cookie
from module_utils._thin.dm.dmsetup import IoctlFailed

# linux/dm-ioctl.h: DM_TARGET_MSG and DM_TABLE_STATUS on every architecture but the few whose ioctl numbers are built otherwise
TARGET_MESSAGE, TABLE_STATUS = 0xC138FD0E, 0xC138FD0C
CREATE, REMOVE, RESUME, LOAD = 0xC138FD03, 0xC138FD04, 0xC138FD06, 0xC138FD09
READ_ONLY, EVENT_SENT = 1 << 0, 1 << 13
UDEV_FLAGS = 0x4E  # no rules of subsystems, disks and others; ours is the primary source
NO_FLUSH = 1 << 11
WORDS = ("message", "pool", "0", "delete 7")


def a_runner(directory: Path, timeout_seconds: float = 60.0) -> Runner:
    """One that finds a dmsetup, which is not to be started."""
    (directory / "dmsetup").touch(mode=0o700)
    return Runner(timeout_seconds, search=(str(directory),))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[int, bytes]]:
    """What the kernel was called with; a status call is answered as the kernel does, behind a header of its own size."""
    made: list[tuple[int, bytes]] = []
    (tmp_path / "control").touch()

    def ioctl(_fd: int, number: int, buffer: bytearray, _mutate: bool) -> int:
        made.append((number, bytes(buffer)))
        if number == TABLE_STATUS:
            buffer[16:20] = struct.pack("=I", 312)
            answer = (
                struct.pack("=QQiI16s", 0, 4096, 0, 0, b"thin-pool") + b"7 12/1024 0/64 - rw no_discard_passdown -\0"
            )
            buffer[312 : 312 + len(answer)] = answer
        return 0

    monkeypatch.setattr(control, "NODE", str(tmp_path / "control"))
    monkeypatch.setattr("fcntl.ioctl", ioctl)
    return made


def test_a_message_is_put_as_the_kernels_header_says(calls: list[tuple[int, bytes]]) -> None:
    ControlNode().message("pool", "create_thin 12")
    [(number, given)] = calls
    version, size, start = struct.unpack_from("=3I I I", given)[:3], *struct.unpack_from("=II", given, 12)
    assert (number, version, size, start) == (TARGET_MESSAGE, (4, 0, 0), len(given), 312)
    assert given[48:176].rstrip(b"\0") == b"pool"
    assert given[312:] == bytes(8) + b"create_thin 12\0", "the target at sector 0 gets the text"


def test_a_status_reads_as_dmsetup_prints_it_and_commits_nothing(calls: list[tuple[int, bytes]]) -> None:
    assert ControlNode().status("pool") == "0 4096 thin-pool 7 12/1024 0/64 - rw no_discard_passdown -"
    [(number, given)] = calls
    assert number == TABLE_STATUS
    assert struct.unpack_from("=I", given, 28)[0] == NO_FLUSH


def test_a_device_is_made_loaded_and_resumed_with_the_flags_for_udev(calls: list[tuple[int, bytes]]) -> None:
    ControlNode().create("snap", "FLYD-1", "0 4096 thin 254:0 7", read_only=True, limit_seconds=5)
    assert [number for number, _given in calls] == [CREATE, LOAD, RESUME]
    created, loaded, resumed = (given for _number, given in calls)
    assert created[176:305].rstrip(b"\0") == b"FLYD-1"
    assert [struct.unpack_from("=I", given, 28)[0] for given in (created, loaded)] == [READ_ONLY] * 2
    assert struct.unpack_from("=I", loaded, 20)[0] == 1, "one target"
    begin, sectors, _status, following, kind = struct.unpack_from("=QQiI16s", loaded, 312)
    assert (begin, sectors, following, kind.rstrip(b"\0")) == (0, 4096, len(loaded) - 312, b"thin")
    assert loaded[352:].rstrip(b"\0") == b"254:0 7"
    assert len(loaded) % 8 == 0
    assert struct.unpack_from("=I", resumed, 32)[0] >> 16 == UDEV_FLAGS


def test_a_resume_has_the_flags_for_udev(calls: list[tuple[int, bytes]]) -> None:
    ControlNode().resume("snap", limit_seconds=5)
    [(number, given)] = calls
    assert (number, struct.unpack_from("=I", given, 32)[0] >> 16) == (RESUME, UDEV_FLAGS)


def test_udev_is_waited_for_only_when_the_kernel_has_sent_an_event(
    calls: list[tuple[int, bytes]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "udev").mkdir()
    (tmp_path / "udev/control").touch()
    monkeypatch.setattr(control, "udev_cookie", lambda: udev_cookie(str(tmp_path / "udev")))
    ControlNode().resume("snap", limit_seconds=60)  # the calls are answered without the flag of an event
    assert len(calls) == 1
    sends = fcntl.ioctl

    def ioctl(fd: int, number: int, buffer: bytearray, mutate: bool) -> int:
        sends(fd, number, buffer, mutate)
        buffer[28:32] = struct.pack("=I", EVENT_SENT)
        return 0

    monkeypatch.setattr("fcntl.ioctl", ioctl)
    with pytest.raises(CommandFailed, match="udev did not end within"):
        ControlNode().resume("snap", limit_seconds=0.2)


@pytest.mark.parametrize("failing", [LOAD, RESUME])
def test_a_device_whose_table_is_refused_is_removed_again(
    calls: list[tuple[int, bytes]], monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    answers = fcntl.ioctl

    def ioctl(fd: int, number: int, buffer: bytearray, mutate: bool) -> int:
        answers(fd, number, buffer, mutate)
        if number == failing:
            raise OSError(errno.EINVAL, "")
        return 0

    monkeypatch.setattr("fcntl.ioctl", ioctl)
    with pytest.raises(OSError, match=r"\[Errno 22\]"):
        ControlNode().create("snap", "FLYD-1", "0 8 error", read_only=False, limit_seconds=5)
    assert calls[-1][0] == REMOVE


def test_a_name_that_the_kernel_has_no_room_for_is_not_cut(calls: list[tuple[int, bytes]]) -> None:
    with pytest.raises(AssertionError, match="at most 127"):
        ControlNode().message("n" * 128, "delete 1")
    assert calls == []


def test_without_a_control_node_there_is_no_device_mapper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "NODE", "/nonesuch/control")
    with pytest.raises(Unsupported, match="/nonesuch/control cannot be opened: No such file") as caught:
        ask(a_runner(tmp_path), WORDS, lambda: ControlNode().message("pool", "delete 7"))
    assert "dm_mod" in caught.value.hint


def test_what_is_asked_is_logged_as_dmsetup_would_be_called(tmp_path: Path) -> None:
    runner = a_runner(tmp_path)
    assert ask(runner, WORDS, lambda: "said") == "said"
    assert runner.ran == ["dmsetup message pool 0 delete 7"]


@pytest.mark.parametrize("number", [errno.EEXIST, errno.ENODATA, errno.EOPNOTSUPP])
def test_a_refusal_has_the_kernels_errno(tmp_path: Path, number: int) -> None:
    def refuse() -> str:
        raise OSError(number, os.strerror(number))

    with pytest.raises(IoctlFailed, match=f"delete 7`: the kernel refuses: {os.strerror(number)}") as caught:
        ask(a_runner(tmp_path), WORDS, refuse)
    assert caught.value.number == number
    assert caught.value.details["errno"] == errno.errorcode[number]


def test_a_full_metadata_device_is_no_space(tmp_path: Path) -> None:
    def refuse() -> str:
        raise OSError(errno.ENOSPC, "")

    with pytest.raises(NoSpace, match="no room for its metadata"):
        ask(a_runner(tmp_path), WORDS, refuse)


def test_a_kernel_that_does_not_answer_costs_the_time_limit_and_no_more(tmp_path: Path) -> None:
    def hang() -> str:
        time.sleep(3600)
        return ""

    with pytest.raises(
        CommandFailed, match=r"`dmsetup message pool 0 delete 7` did not end within 0.2 s and was killed"
    ) as caught:
        ask(a_runner(tmp_path, 0.2), WORDS, hang)
    assert caught.value.retryable


def test_the_child_holds_nothing_that_others_wait_for(tmp_path: Path) -> None:
    """Ansible waits for the end of a module's output; a child that hangs in the kernel for hours must not have it open."""
    link = "/proc/self/fd"
    seen = ask(a_runner(tmp_path), WORDS, lambda: " ".join(os.readlink(f"{link}/{fd}") for fd in range(3)))
    assert seen.split()[:2] == [os.devnull] * 2
    assert seen.split()[2] not in (os.readlink(f"{link}/{fd}") for fd in range(3))
    with (tmp_path / "open").open("w") as file:
        assert ask(a_runner(tmp_path), WORDS, lambda: str(os.path.exists(f"{link}/{file.fileno()}"))) == "False"


def test_without_dmsetup_nothing_begins(tmp_path: Path) -> None:
    """What follows a message is a device, which only dmsetup makes: a volume would be left without one."""
    with pytest.raises(Unsupported, match="dmsetup is not installed"):
        ask(Runner(search=(str(tmp_path),)), WORDS, lambda: str((tmp_path / "asked").write_text("")))
    assert not (tmp_path / "asked").exists()

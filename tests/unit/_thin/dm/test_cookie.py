"""What udev is given with an event: the flags, and a semaphore that its last rule lowers."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest

from module_utils._errors import CommandFailed
from module_utils._thin.dm import cookie as cookies
from module_utils._thin.dm.cookie import udev_cookie

# libdevmapper.h: DM_UDEV_DISABLE_SUBSYSTEM_RULES_FLAG, _DISK_, _OTHER_, DM_UDEV_PRIMARY_SOURCE_FLAG
FLAGS = 0x2 | 0x4 | 0x8 | 0x40
DMSETUP = shutil.which("dmsetup", path="/usr/sbin:/sbin:/usr/bin:/bin")
needs_dmsetup = pytest.mark.skipif(DMSETUP is None, reason="dmsetup is not installed")


@pytest.fixture
def udev(tmp_path: Path) -> str:
    """The directory of a udev that runs."""
    (tmp_path / "control").touch()
    return str(tmp_path)


def semaphore_of(event_number: int) -> int:
    """The semaphore that the cookie names, -1 when there is none."""
    return int(ctypes.CDLL(None).semget(0x0D4D << 16 | event_number & 0xFFFF, 1, 0))


def lower(event_number: int) -> None:
    """What `dmsetup udevcomplete` does."""
    operation = (ctypes.c_ushort * 3)(0, 0xFFFF, 0)  # number 0, minus one
    assert ctypes.CDLL(None).semop(semaphore_of(event_number), operation, 1) == 0


def test_an_event_has_the_flags_that_keep_rules_off(udev: str) -> None:
    with udev_cookie(udev) as cookie:
        assert cookie.event_number >> 16 == FLAGS
        assert cookie.event_number & 0xFFFF != 0


def test_without_udev_there_are_flags_and_nothing_to_wait_for(tmp_path: Path) -> None:
    with udev_cookie(str(tmp_path)) as cookie:
        assert cookie.event_number == FLAGS << 16
        cookie.wait(60)


@needs_dmsetup
def test_device_mappers_own_rules_read_the_flags(udev: str) -> None:
    with udev_cookie(udev) as cookie:
        said = subprocess.run(
            [str(DMSETUP), "udevflags", str(cookie.event_number)], capture_output=True, text=True, check=True
        ).stdout.split()
    assert sorted(said) == [
        "DM_UDEV_DISABLE_DISK_RULES_FLAG='1'",
        "DM_UDEV_DISABLE_OTHER_RULES_FLAG='1'",
        "DM_UDEV_DISABLE_SUBSYSTEM_RULES_FLAG='1'",
        "DM_UDEV_PRIMARY_SOURCE_FLAG='1'",
    ]


def test_udev_is_waited_for_and_nothing_is_left(udev: str) -> None:
    with udev_cookie(udev) as cookie:
        later = threading.Timer(0.2, lower, [cookie.event_number])
        begun = time.monotonic()
        later.start()
        cookie.wait(30)
        assert time.monotonic() - begun > 0.1
        later.join()
    assert semaphore_of(cookie.event_number) == -1


def test_a_udev_that_is_stuck_costs_the_limit_and_leaves_nothing(udev: str) -> None:
    begun = time.monotonic()
    with pytest.raises(CommandFailed, match=r"udev did not end within 0\.3 s") as caught, udev_cookie(udev) as cookie:
        cookie.wait(0.3)
    assert caught.value.retryable
    assert 0.2 < time.monotonic() - begun < 10
    assert semaphore_of(cookie.event_number) == -1


def test_a_waiting_that_an_operator_ends_is_over(udev: str) -> None:
    with udev_cookie(udev) as cookie:
        ctypes.CDLL(None).semctl(semaphore_of(cookie.event_number), 0, 0)  # as `dmsetup udevcomplete_all` does
        cookie.wait(30)


def test_a_number_that_is_taken_is_not_used_twice(udev: str, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = iter([b"\x07\x51", b"\x07\x51", b"\x08\x51"])
    monkeypatch.setattr(os, "urandom", lambda _length: next(numbers))
    with udev_cookie(udev) as one, udev_cookie(udev) as two:
        assert (one.event_number & 0xFFFF, two.event_number & 0xFFFF) == (0x5107, 0x5108)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.ENOMEM])
def test_a_host_without_semaphores_left_says_so(udev: str, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    class Refusing:
        @staticmethod
        def semget(*_: int) -> int:
            ctypes.set_errno(number)
            return -1

    monkeypatch.setattr(cookies, "_libc", Refusing)
    with pytest.raises(CommandFailed, match=os.strerror(number)) as caught, udev_cookie(udev):
        pass
    assert "udevcookies" in caught.value.hint

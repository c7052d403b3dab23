"""The filter alone, on a process of root's that has everything else: what is not on a list is refused, by any entry."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable

import pytest

from module_utils._host.confinement import seccomp
from module_utils._host.confinement.seccomp import COMPUTING, Call, allow_only, calls
from module_utils._host.confinement.syscalls import ARCHITECTURES
from module_utils._host.processes.answer import Json
from module_utils._host.processes.child import in_child
from module_utils._image.writing.sandbox import lock_calls
from tests.unit.support.system_calls import CALLS, X86_64, OldEntry, needs_x86_64, tried

pytestmark = pytest.mark.skipif(not X86_64, reason="the numbers are those of x86_64")

GETPID_32, KILL_32 = 20, 37


def inside(look: Callable[[], Json], lock: Callable[[], bool] = lock_calls) -> Json:
    """What ``look`` finds when only the list of ``lock`` is allowed."""

    def work() -> Json:
        assert lock()
        return look()

    return in_child(work, what="the test")


@pytest.fixture(scope="module", params=["writer", "decoder"])
def answers(request: pytest.FixtureRequest) -> dict[str, str]:
    """What each call ended with."""
    lock = lock_calls if request.param == "writer" else lambda: allow_only(COMPUTING)
    return dict(inside(lambda: {name: tried(name) for name in CALLS}, lock))


@pytest.mark.parametrize("name", CALLS)
def test_a_call_that_is_not_needed_is_refused(answers: dict[str, str], name: str) -> None:
    assert answers[name] == "EPERM"


@pytest.mark.parametrize("name", ["getpid", "read", "execve", "kill init", "socket"])
def test_the_same_under_the_numbers_of_x32(name: str) -> None:
    assert inside(lambda: tried(name, x32=True)) == "EPERM"


@needs_x86_64
def test_the_entry_of_32_bit_programs_leads_nowhere() -> None:
    def try_both() -> list[int]:
        entry = OldEntry()
        before = entry(GETPID_32)
        assert lock_calls()
        return [os.getpid(), before, entry(GETPID_32), entry(KILL_32, 1)]

    pid, before, *after = in_child(try_both, what="the test")
    if before != pid:
        pytest.skip("this kernel has no such entry")
    assert after == [-errno.EPERM, -errno.EPERM]


def test_clone3_does_not_exist_so_that_libc_takes_clone() -> None:
    assert inside(lambda: tried("clone3")) == "ENOSYS"


def test_a_list_can_only_be_made_narrower() -> None:
    def work() -> list[str]:
        assert allow_only(COMPUTING)
        with pytest.raises(OSError, match="Operation not permitted"):
            allow_only((*COMPUTING, *calls("kill")))
        return [tried("kill init"), "still here"]

    assert in_child(work, what="the test") == ["EPERM", "still here"]


def test_what_is_on_the_list_works() -> None:
    def work() -> int:
        return len([bytes(1 << 20) for _ in range(20)]) + len(os.urandom(1))

    assert inside(work, lambda: allow_only(COMPUTING)) == 21


@pytest.mark.parametrize("machine", ["riscv64", "s390x", "i686"])
def test_on_another_processor_nothing_is_set_and_that_is_said(machine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name = os.uname()
    monkeypatch.setattr(os, "uname", lambda: type(name)((*name[:4], machine)))
    assert allow_only(COMPUTING) is False


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_jumps_stay_inside_of_the_filter_for_each_processor(machine: str) -> None:
    code = list(seccomp._filter(machine, (*COMPUTING, Call("kill", error=errno.ENOSYS))))
    for at, one in enumerate(code):
        opcode, if_true, if_false, _value = struct.unpack("=HBBI", one)
        if opcode == 0x15:
            assert max(if_true, if_false) + at + 1 < len(code)
    assert len(code) < 4096

"""Work in a child: its answer, its errors and its end."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from module_utils._errors import BadInput, CommandFailed, NoSpace, Unsupported
from module_utils._host.isolation import (
    MS_NODEV,
    in_child,
    mount,
    no_new_privileges,
    own_mount_namespace,
    unmount,
)
from tests.unit.processes import assert_ends
from tests.unit.real import needs_loops


def test_the_result_comes_back_from_another_process() -> None:
    assert in_child(lambda: {"pid": os.getpid(), "list": [1, None, "x"]}, what="counting")["pid"] != os.getpid()


def test_what_the_child_changes_stays_with_it() -> None:
    seen = []
    in_child(lambda: seen.append(1), what="changing")
    assert seen == []


def test_an_error_of_ours_is_raised_here_with_all_it_knows() -> None:
    def work() -> None:
        raise BadInput("bad", hint="mend it", member="etc/passwd")

    with pytest.raises(BadInput, match="bad") as caught:
        in_child(work, what="reading")
    assert (caught.value.hint, caught.value.details) == ("mend it", {"member": "etc/passwd"})


def test_an_os_error_becomes_one_of_ours() -> None:
    def work() -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(NoSpace, match="writing: no space"):
        in_child(work, what="writing")


def test_a_child_that_is_killed_is_named_by_its_work() -> None:
    with pytest.raises(CommandFailed, match="the child for writing ended without an answer") as caught:
        in_child(lambda: os.kill(os.getpid(), signal.SIGKILL), what="writing")
    assert caught.value.retryable


def test_a_fault_of_the_program_is_no_answer(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CommandFailed, match="without an answer"):
        in_child(lambda: 1 / 0, what="dividing")
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_what_is_no_json_is_no_answer(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CommandFailed, match="without an answer"):
        in_child(lambda: object(), what="answering")
    assert "not JSON serializable" in capfd.readouterr().err


def test_no_child_is_left_behind() -> None:
    before = _children()  # other tests of this process may have some
    in_child(lambda: None, what="nothing")
    assert _children() == before


def _children() -> str:
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text()


def test_a_child_cannot_gain_privileges() -> None:
    status = in_child(lambda: Path("/proc/self/status").read_text(), what="looking")
    assert "NoNewPrivs:\t1" in status


def test_privileges_are_given_up_for_good() -> None:
    assert in_child(no_new_privileges, what="giving up") is None


def test_a_child_dies_with_its_parent(tmp_path: Path) -> None:
    def work() -> None:
        (tmp_path / "new").write_text(str(os.getpid()))
        (tmp_path / "new").rename(tmp_path / "pid")
        time.sleep(600)

    parent = os.fork()
    if parent == 0:
        in_child(work, what="sleeping")
        os._exit(0)
    until = time.monotonic() + 20
    while not (tmp_path / "pid").exists():
        assert time.monotonic() < until
        time.sleep(0.02)
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    assert_ends((tmp_path / "pid").read_text())


@needs_loops
def test_real_a_mount_of_the_child_is_seen_by_nobody_else(tmp_path: Path) -> None:
    def work() -> bool:
        own_mount_namespace()
        mount("tmpfs", str(tmp_path), "tmpfs", MS_NODEV)
        (tmp_path / "inside").touch()
        return os.path.ismount(tmp_path)

    assert in_child(work, what="mounting") is True
    assert list(tmp_path.iterdir()) == []


@needs_loops
def test_real_unmounting_never_forces(tmp_path: Path) -> None:
    def work() -> None:
        own_mount_namespace()
        mount("tmpfs", str(tmp_path), "tmpfs", MS_NODEV)
        with open(tmp_path / "held", "w"):
            unmount(str(tmp_path))

    with pytest.raises(Unsupported, match="Device or resource busy"):
        in_child(work, what="unmounting")

"""Work in a child: its answer, its errors and its end."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from module_utils._errors import BadInput, CommandFailed, NoSpace
from module_utils._host.processes import child
from module_utils._host.processes.child import Helper, in_child
from module_utils._host.processes.process import descendants_activity
from tests.unit.support.processes import assert_ends


def test_the_result_comes_back_from_another_process() -> None:
    assert in_child(lambda: {"pid": os.getpid(), "list": [1, None, "x"]}, what="counting")["pid"] != os.getpid()


def test_what_the_child_changes_stays_with_it() -> None:
    seen = []
    in_child(lambda: seen.append(1), what="changing")
    assert seen == []


def test_an_own_error_is_raised_here_with_all_it_knows() -> None:
    def work() -> None:
        raise BadInput("bad", hint="mend it", member="etc/passwd")

    with pytest.raises(BadInput, match="bad") as caught:
        in_child(work, what="reading")
    assert (caught.value.hint, caught.value.details) == ("mend it", {"member": "etc/passwd"})


def test_an_os_error_becomes_a_flyd_error() -> None:
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


def watched(work: Callable[[], object], seconds: float) -> object:
    """The result of a child that may make no progress for so long, begun by a process that has no other children."""

    def watch() -> object:
        return in_child(
            work, what="working", timeout_seconds=seconds, progress=lambda: descendants_activity(os.getpid())
        )

    return in_child(watch, what="watching")


def test_a_child_that_is_late_is_killed() -> None:
    with pytest.raises(CommandFailed, match=r"sleeping did not end within 0.2 s and was killed") as caught:
        in_child(lambda: time.sleep(600), what="sleeping", timeout_seconds=0.2)
    assert caught.value.retryable


def test_a_child_that_does_nothing_is_killed_and_with_it_what_it_has_begun(tmp_path: Path) -> None:
    def sleep() -> None:
        (tmp_path / "pid").write_text(str(os.getpid()))
        time.sleep(600)

    with pytest.raises(CommandFailed, match=r"working made no progress for 0.5 s and was killed"):
        watched(lambda: in_child(sleep, what="sleeping"), 0.5)
    assert_ends((tmp_path / "pid").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("generations", [1, 2])
def test_a_child_may_take_as_long_as_it_or_what_it_has_begun_gets_on(tmp_path: Path, generations: int) -> None:
    def write() -> str:
        for number in range(20):
            (tmp_path / "file").write_text(str(number))
            time.sleep(0.1)
        return "done"

    work = write if generations == 1 else lambda: in_child(write, what="writing")
    assert watched(work, 0.9) == "done"


@pytest.mark.slow
def test_a_child_may_wait_for_another_of_its_parent_that_gets_on(tmp_path: Path) -> None:
    def wait_for_another() -> object:
        with subprocess.Popen(["sh", "-c", "for i in $(seq 20); do echo $i > file; sleep 0.1; done"], cwd=tmp_path):
            return in_child(
                lambda: time.sleep(1.8),
                what="waiting",
                timeout_seconds=0.9,
                progress=lambda: descendants_activity(os.getpid()),
            )

    assert in_child(wait_for_another, what="beginning") is None


def test_a_child_keeps_no_output_of_its_parent_open_and_no_signal_of_its_group_ends_it() -> None:
    def work() -> list[object]:
        return [os.getpid() == os.getsid(0), *(os.readlink(f"/proc/self/fd/{fd}") for fd in range(3))]

    is_apart, *streams, errors = in_child(work, what="looking")
    assert (is_apart, streams) == (True, [os.devnull] * 2)
    assert errors.startswith("pipe:")


def test_output_of_a_child_is_reported_and_is_no_part_of_its_answer(capfd: pytest.CaptureFixture[str]) -> None:
    assert in_child(lambda: os.write(2, b"{a warning\n") and "x" * 200_000, what="warning") == "x" * 200_000
    assert capfd.readouterr().err == "{a warning\n"


def test_a_parent_without_standard_error_gets_its_answer_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", None)
    assert in_child(lambda: os.write(2, b"a warning\n"), what="warning") == 10


def test_a_helper_works_beside_its_maker_and_answers_any_descendant(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    helper = Helper(lambda: (tmp_path / "fifo").read_text(), what="waiting")
    (tmp_path / "fifo").write_text("go")  # in vain if it had been waited for
    assert in_child(helper.result, what="asking") == "go"
    helper.close()


def test_the_answer_of_a_helper_is_there_once() -> None:
    helper = Helper(lambda: 1, what="counting")
    assert helper.result() == 1
    with pytest.raises(ValueError, match="read before"):
        helper.result()
    helper.close()


def test_a_helper_keeps_no_output_of_its_maker_open() -> None:
    helper = Helper(lambda: [os.readlink(f"/proc/self/fd/{fd}") for fd in range(2)], what="looking")
    assert helper.result() == [os.devnull] * 2
    helper.close()


def test_closing_waits_no_longer_than_it_may_for_a_helper_that_does_not_die(monkeypatch: pytest.MonkeyPatch) -> None:
    helper = Helper(lambda: time.sleep(600), what="hanging")
    pid = helper.pid
    with monkeypatch.context() as patched:
        patched.setattr(child, "_REAP_SECONDS", 0.2)
        patched.setattr(os, "kill", lambda _pid, _signal: None)  # as for a process that hangs in the kernel
        helper.close()
    os.kill(pid, 0)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)

"""A program that the lab runs cannot outlive its time, nor fail without a word."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from programs import LabError, run


def test_stdout_is_returned() -> None:
    assert run(["sh", "-c", "echo yes; echo no >&2"], timeout_seconds=10) == "yes\n"


def test_a_failure_reports_the_status_and_the_last_line() -> None:
    with pytest.raises(LabError, match=r"^sh failed \(exit status 3\): because$"):
        run(["sh", "-c", "echo first >&2; echo because >&2; exit 3"], timeout_seconds=10)


def test_a_missing_program_is_named() -> None:
    with pytest.raises(LabError, match="no-such-program cannot be started"):
        run(["no-such-program"], timeout_seconds=10)


def test_a_failure_with_a_log_names_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with pytest.raises(LabError, match=str(log)):
        run(["sh", "-c", "echo said; exit 1"], timeout_seconds=10, log=log)
    assert log.read_text() == "said\n"


@pytest.mark.slow
def test_a_slow_program_is_stopped_with_all_it_started(tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    grandchild = f"(sleep 1; touch {alive}) & wait"
    with pytest.raises(LabError, match=r"stopped after 0\.3 s"):
        run(["sh", "-c", grandchild], timeout_seconds=0.3)
    time.sleep(1.2)
    assert not alive.exists()

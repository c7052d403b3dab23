"""Crash points end the process where a test says, and nowhere else."""

from __future__ import annotations

import os
import signal

import pytest

from module_utils._host.processes.crash import VARIABLE, crash_point


def end_of(label: str) -> int:
    """The wait status of a process that passes the crash point ``label``."""
    pid = os.fork()
    if pid == 0:
        crash_point(label)
        os._exit(7)
    return os.waitpid(pid, 0)[1]


def test_without_the_variable_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert os.waitstatus_to_exitcode(end_of("base:sent")) == 7


def test_only_the_point_that_is_named_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "base:sent")
    assert os.waitstatus_to_exitcode(end_of("base:planned")) == 7
    assert os.waitstatus_to_exitcode(end_of("base:sent")) == -signal.SIGKILL

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Campaigns beside the tests; these ones end at once, as their arguments are wrong."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

pytest.importorskip("ansible", reason="ansible-core is not installed")

from tests.survival.beside import Beside, Run

WRONG = Run("powercuts.py", "none1", ("--cuts", "many"))
ALSO_WRONG = Run("crashes.py", "none1", ("--calls", "few"))


def children() -> str:
    return Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text()


def test_each_reports_its_exit_code_and_what_it_said_and_is_no_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    threads, before = threading.active_count(), children()
    beside = Beside([WRONG, ALSO_WRONG])
    assert (threading.active_count(), children()) == (threads, before)
    code, said = beside.outcome(ALSO_WRONG)
    assert (code, "invalid int value: 'few'" in said) == (2, True)
    code, said = beside.outcome(WRONG)
    assert (code, "invalid int value: 'many'" in said) == (2, True)
    assert beside.end() == []
    assert list(tmp_path.iterdir()) == []


def test_what_still_runs_is_ended_and_its_machine_named() -> None:
    beside = Beside([WRONG])
    assert beside.end() == ["none1"]
    with pytest.raises(AssertionError, match=r"powercuts\.py was ended"):
        beside.outcome(WRONG)


@pytest.mark.parametrize("attempt", range(10))
def test_from_its_first_moment_on_what_was_begun_is_seen_to_run(attempt: int) -> None:
    beside = Beside([WRONG])
    # Meanwhile another program is put into its place, and then another.
    seen = [beside.is_running() for _ in range(500)]
    beside.end()
    assert all(seen), attempt


def test_nothing_is_started_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert Beside([]).end() == []

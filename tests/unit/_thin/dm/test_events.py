# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting ends at an event, at a stop and at its time; a FIFO stands for the control node, which is readable after an event."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from module_utils._thin.dm.events import SHORTEST_SECONDS, events


@pytest.fixture
def node(tmp_path: Path) -> str:
    os.mkfifo(tmp_path / "control")
    return str(tmp_path / "control")


def seconds_of(node: str, limit: float, *, stop_fd: int = -1, event: bool = False) -> float:
    with events(node=node, stop_fd=stop_fd) as wait:
        begun = time.monotonic()
        if event:
            with open(node, "r+b", buffering=0) as written:
                written.write(b"x")
                wait(limit)
        else:
            wait(limit)
        return time.monotonic() - begun


def test_an_event_between_opening_and_waiting_ends_it_but_not_at_once(node: str) -> None:
    assert SHORTEST_SECONDS <= seconds_of(node, 30, event=True) < 5


def test_without_an_event_it_ends_in_its_time(node: str) -> None:
    assert seconds_of(node, 0.5) >= 0.5


def test_a_stop_ends_it(node: str) -> None:
    stopped, stop = os.pipe()
    try:
        os.write(stop, b"x")
        assert seconds_of(node, 30, stop_fd=stopped) < 5
    finally:
        os.close(stopped)
        os.close(stop)


def test_without_device_mapper_it_waits_for_its_time(tmp_path: Path) -> None:
    assert 0.5 <= seconds_of(str(tmp_path / "none"), 0.5) < 5

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fleets for tests. FLEET_HOSTS is their size."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import pytest

from tests.fleet.simulation import ROOT, Simulation, simulation

HOSTS = int(os.environ.get("FLEET_HOSTS", "12"))


@pytest.fixture
def size() -> int:
    """How many hosts a fleet has."""
    return HOSTS


@contextlib.contextmanager
def made_fleet(hosts: int | list[str]) -> Iterator[Simulation]:
    """A fleet of so many hosts, or of these, which have image 1; the next one is published."""
    if os.geteuid() != 0:
        pytest.skip("writing a tree with its owners needs root")
    if not (ROOT / "build/collections").exists():
        pytest.skip("build/collections is missing: make venv")
    with simulation(hosts) as made:
        made.install(1)
        made.publish(2)
        yield made


@pytest.fixture
def fleet(size: int) -> Iterator[Simulation]:
    """A fleet of its own for a test."""
    with made_fleet(size) as made:
        yield made

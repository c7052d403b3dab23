# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Garbage collection; the option ``--quick`` of ``make check``: no test or file that is marked ``slow``, and each other with its first parameters."""

from __future__ import annotations

import gc

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.addoption("--quick", action="store_true", help="leave out slow files, and all but the first parameters")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Select the tests that run."""
    if not config.getoption("--quick"):
        return
    seen: set[str] = set()
    selected: list[pytest.Item] = []
    deselected: list[pytest.Item] = []
    for item in items:
        function = item.nodeid.partition("[")[0]
        is_run = function not in seen and item.get_closest_marker("slow") is None
        (selected if is_run else deselected).append(item)
        seen.add(function)
    config.hook.pytest_deselected(items=deselected)
    items[:] = selected


def pytest_collection_finish() -> None:
    """Keep what was collected out of later garbage collections: in a child each would copy all of its pages."""
    gc.collect()
    gc.freeze()

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A store for the tests of this package."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from module_utils._lifecycle.store import Store, open_store


@pytest.fixture
def store_path(tmp_path: Path) -> Path:
    """Where a store would be, in a directory that is ours alone."""
    (tmp_path / "state").mkdir(mode=0o700)
    return tmp_path / "state" / "flyd.db"


@pytest.fixture
def store(store_path: Path) -> Iterator[Store]:
    """A new store, whose waits for other programs are short."""
    opened = open_store(str(store_path), writable=True, busy_seconds=0.1)
    yield opened
    opened.close()

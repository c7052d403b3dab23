# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the seconds of an unpacking went adds up. The rest of that benchmark needs a machine with device-mapper."""

from __future__ import annotations

import pytest

from bench.devmapper import parts

PHASES = {
    "index": 0.5,
    "decompress": 0.25,
    "plan": 2.0,
    "volume": 0.5,
    "format": 1.0,
    "fill": 12.0,
    "write": 8.0,
    "write_files": 7.0,
    "wait_for_digests": 3.0,
    "seal": 0.75,
}


def test_parts_add_up_and_nothing_is_counted_twice() -> None:
    by_parts = parts(24.0, 18.0, 1.5, PHASES)
    assert sum(by_parts.values()) == pytest.approx(24.0)
    assert by_parts["start Python, import the two modules"] == pytest.approx(4.5)
    assert by_parts["read and merge the layers, plan the tree"] == pytest.approx(2.75)
    assert by_parts["sync the rest, unmount, flush"] == pytest.approx(1.0)
    assert by_parts["late imports, recovery, lock and store of flyd_unpack"] == pytest.approx(1.0)

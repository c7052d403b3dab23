# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Twenty generations of an image are published, bound and pruned one after another: the pool and the archives stay as large as they are."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from tests.campaigns.harness.target import STATE_DIR, Step, Target
from tests.e2e.machine import Machine
from tests.unit.builders import images, tar

pytestmark = pytest.mark.timeout(3600)

KEY = "upkeep/generations.tar"
GENERATIONS = 20
KEEP = 2
MIB = 1 << 20
UNCHANGED_BYTES, CHANGED_BYTES = 12 * MIB, 4 * MIB


def archive(number: int) -> bytes:
    """A layer that all generations have, and one that each has of its own, of bytes that nothing compresses."""
    lower = tar.tar(tar.directory(b"usr"), tar.file(b"usr/unchanged", random.Random(0).randbytes(UNCHANGED_BYTES)))
    upper = tar.tar(
        tar.file(b"app", random.Random(number).randbytes(CHANGED_BYTES)), tar.file(b"version", b"%d\n" % number)
    )
    return images.docker_archive([lower, upper])


def measured(target: Target) -> dict[str, int]:
    """What the host holds: bytes of the pool's data that are used, of all archives, and how many volumes."""
    [report] = target.drive([Step("flyd_info", {"what": ["pools"]})])
    return {
        "pool": int(report["pools"][0]["data"]["used"]),
        "archives": int(target.ssh(f"du -sb {STATE_DIR}/archives | cut -f 1")),
        "volumes": int(target.ssh("dmsetup ls | grep -c '^snap-' || true")),
    }


@pytest.fixture(scope="module")
def table(prepared: Machine, target: Target, upload: Callable[[str, bytes], None]) -> list[dict[str, int]]:
    """One row for each generation."""
    key: dict[str, Any] = {"key": KEY}
    steps = [
        Step("flyd_fetch", {**key, **prepared.s3_options()}),
        Step("flyd_unpack", key),
        Step("flyd_instance", {**key, "name": "web"}),
        Step("flyd_prune", {"keep": KEEP}),
    ]
    [made] = target.drive([Step("flyd_pool", {"data_size": "2G"})])
    assert not made.get("failed"), made
    rows = []
    for number in range(GENERATIONS):
        upload(KEY, archive(number))
        results = target.drive(steps)
        assert [one.get("driven") for one in results] == [0] * len(steps), results[-1]
        rows.append(measured(target))
        print(number + 1, rows[-1])
    return rows


def test_the_pool_and_the_archives_stay_as_large_as_they_are(table: list[dict[str, int]]) -> None:
    steady = table[KEEP + 2 :]
    for what in ("pool", "archives"):
        sizes = [row[what] for row in steady]
        assert max(sizes) <= 1.02 * min(sizes), (what, sizes)
    assert {row["volumes"] for row in steady} == {KEEP + 2}


def test_the_newest_generation_is_bound_and_nothing_is_left_over(target: Target, table: list[dict[str, int]]) -> None:
    assert len(table) == GENERATIONS
    [report] = target.drive([Step("flyd_info", {"key": KEY})])
    assert len(report["images"]) == KEEP + 2
    assert report["drift"] == []
    assert target.violations() == []


def test_check_mode_says_what_a_stricter_limit_would_free_and_frees_nothing(
    target: Target, table: list[dict[str, int]]
) -> None:
    before = measured(target)
    [predicted] = target.drive([Step("flyd_prune", {"keep": 0}, check=True)])
    assert measured(target) == before == table[-1]
    [done] = target.drive([Step("flyd_prune", {"keep": 0})])
    after = measured(target)
    freed = sum(before[what] - after[what] for what in ("pool", "archives"))
    print(f"would_free_bytes {predicted['would_free_bytes']}, freed {freed}")
    assert len(done["removed"]) == 3 * KEEP, "a snapshot, a base and an archive each"
    assert 0.99 * freed <= predicted["would_free_bytes"] <= 1.01 * freed
    assert target.violations() == []

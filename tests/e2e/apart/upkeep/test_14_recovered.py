# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""flyd.db is removed in each state of an image and made again from the pool, with the guests' bytes as they were, also after a reboot.

The tests run in order; each brings the image one state further.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.campaigns.harness.target import STATE_DIR, Step, Target
from tests.e2e.machine import Machine, lab
from tests.unit.builders import images, tar
from tests.unit.support.reports import OF_A_RUN

pytestmark = pytest.mark.timeout(1800)

KEY = "upkeep/recovered.tar"


@pytest.fixture(scope="module")
def steps(prepared: Machine, target: Target, upload: Callable[[str, bytes], None]) -> dict[str, Step]:
    """What brings the image into each state, from the one before."""
    upload(KEY, images.docker_archive([tar.tar(tar.file(b"hello", b"world"))]))
    key: dict[str, Any] = {"key": KEY}
    return {
        "pooled": Step("flyd_pool", {}),
        "fetched": Step("flyd_fetch", {**key, **prepared.s3_options()}),
        "unpacked": Step("flyd_unpack", key),
        "activated": Step("flyd_snapshot", {**key, "name": "guest"}),
        "bound": Step("flyd_instance", {**key, "name": "recovered"}),
    }


def report(target: Target) -> dict[str, Any]:
    [found] = target.drive([Step("flyd_info", {})])
    for pool in found["pools"]:
        pool.pop("free_below", None)  # others write to the same file system
    return {name: value for name, value in found.items() if name not in OF_A_RUN}


def bytes_of_guests(target: Target) -> str:
    """A digest of each snapshot's bytes."""
    return target.ssh("for device in /dev/mapper/snap-*; do [ ! -b $device ] || sha256sum $device; done")


@pytest.mark.parametrize("state", ["pooled", "fetched", "unpacked", "activated", "bound"])
@pytest.mark.parametrize("is_rebooted", [False, True], ids=["up", "rebooted"])
def test_a_lost_database_is_made_again(
    prepared: Machine, target: Target, steps: dict[str, Step], state: str, is_rebooted: bool
) -> None:
    [made] = target.drive([steps[state]])
    assert not made.get("failed"), made
    if state in ("activated", "bound"):
        target.ssh(
            "for device in /dev/mapper/snap-*; do echo written by the guest | dd of=$device bs=512 seek=9000 conv=notrunc oflag=sync status=none; done"
        )
    before, written = report(target), bytes_of_guests(target)
    target.ssh(f"rm {STATE_DIR}/flyd.db*; sync")
    if is_rebooted:
        lab("cut", prepared.name)
    [refused] = target.drive([Step("flyd_unpack", {"key": KEY})])
    assert (refused["failed"], "state: recovered" in refused["hint"]) == (True, True), refused
    [recovered] = target.drive([Step("flyd_pool", {"state": "recovered"})])
    assert recovered["changed"], recovered
    assert report(target) == before
    assert bytes_of_guests(target) == written
    reached = list(steps)[: list(steps).index(state) + 1]
    again = target.drive([steps[name] for name in reached])
    assert [one["changed"] for one in again] == [False] * len(reached), again
    assert target.violations() == []

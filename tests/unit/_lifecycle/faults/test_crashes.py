# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run is killed at every crash point that the plugins name; one run more, and all is as if nothing had happened.

Invariant: a crash point that no test here knows makes a test fail, so none can be added without saying what must hold after it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from module_utils._lifecycle.store.instance_record import Instance
from module_utils._lifecycle.store.records import Image, PoolRecord, Snapshot, Volume
from tests.unit._lifecycle.conftest import Stages, needs_root
from tests.unit._lifecycle.instance.machine import Bound
from tests.unit._lifecycle.machine import Machine

Undisturbed = Callable[[str, str], "dict[str, Any]"]
PLUGINS = Path(__file__).parents[4] / "plugins"
VOLUME_STEPS = ("planned", "sent", "numbered", "recorded")
UNPACK_STEPS = ("mapped", "formatted", "unjournalled", "written", "sealed", "manifest")

# The state before, what is run, and where it is killed.
POINTS = [
    *(("virgin", "pool", f"pool:{step}") for step in ("planned", "allocated", "activated", "numbered")),
    ("rebooted", "pool", "restore:mapping"),
    *(("pooled", "grow", f"grow:{step}") for step in ("planned", "allocated", "resized")),
    *(("pooled", "fetch", f"fetch:{step}") for step in ("planned", "downloaded", "published")),
    *(("fetched", "unpack", f"base:{step}") for step in VOLUME_STEPS),
    *(("fetched", "unpack", f"unpack:{step}") for step in UNPACK_STEPS),
    *(("renewed", "unpack_onto", f"base:{step}") for step in VOLUME_STEPS),
    *(("renewed", "unpack_onto", f"unpack:{step}") for step in UNPACK_STEPS if step != "formatted"),
    ("renewed", "unpack_grown", "unpack:grown"),
    *(("shared", "unpack_other", f"hidden:{step}") for step in VOLUME_STEPS),
    *(("shared", "unpack_other", f"unpack:{step}") for step in (*UNPACK_STEPS, "hidden")),
    *(("shared", "unpack_other", f"base:{step}") for step in VOLUME_STEPS),
    *(("unneeded", "prune", label) for label in ("remove:hidden", "delete:discarded", "delete:numbered")),
    ("fetched", "unpack_and_drop_archive", "unpack:recorded"),
    *(("unpacked", "snapshot", f"snap:{step}") for step in VOLUME_STEPS),
    ("unpacked", "snapshot", "snapshot:mapped"),
    *(("activated", "remove_snapshot", f"remove:{step}") for step in ("unmapped", "planned")),
    ("activated", "tear_down", "remove:unmapped"),
    *(("activated", "remove_snapshot", f"delete:{step}") for step in ("discarded", *VOLUME_STEPS[1:])),
    *(("activated", "remove_all", f"delete:{step}") for step in ("discarded", *VOLUME_STEPS[1:])),
    *(("activated", "tear_down", f"teardown:{step}") for step in ("planned", "deactivated", "removed")),
    *(("damaged", "repair", f"repair:{step}") for step in ("planned", "copied", "written", "swapped", "recorded")),
    ("fetched", "remove_archive", "remove:deleted"),
    *(("pooled", "dump", f"dump:{step}") for step in ("reserved", "written")),
    *(("activated", "bind", f"bind:{step}") for step in ("planned", "flipped", "switched", "healthy")),
    *(("flipped", "go_back", f"back:{step}") for step in ("planned", "flipped", "switched")),
    ("bound", "unbind", "instance:withdrawn"),
    *(("many", "prune", label) for label in ("prune:removed", "remove:unmapped", "remove:planned", "remove:deleted")),
    *(("many", "prune", f"delete:{step}") for step in ("discarded", *VOLUME_STEPS[1:])),
    *(("pooled", "remove_pool", f"teardown:{step}") for step in ("planned", "deactivated", "removed")),
]
# These lie in the undoing of what an earlier run has left: that one is killed at the point given first.
UNDOING = [("fetched", "unpack", "unpack:mapped", f"delete:{step}") for step in ("discarded", *VOLUME_STEPS[1:])]


def crash_points_of_the_plugins() -> set[str]:
    """The labels as they stand in the source; ``{…}`` of an f-string is a pattern for anything."""
    found = (re.findall(r'crash_point\(f?"([^"]+)"\)', path.read_text()) for path in PLUGINS.rglob("*.py"))
    return {re.sub(r"\{\w+\}", r"\\w+", label) for labels in found for label in labels}


def outline(machine: Machine) -> dict[str, Any]:
    """What the host has come to, without what differs from run to run: ids, names made of them, times."""
    uuids = {device["uuid"] for device in machine.fake.devices().values()}
    volumes = {volume.ulid: volume for volume in machine.records(Volume)}
    return {
        "pools": [(one.name, one.data_sectors, one.metadata_bytes) for one in machine.records(PoolRecord)],
        "images": [(one.object_key, one.sha256, one.state, one.trust, one.config) for one in machine.records(Image)],
        "volumes": [(one.kind, one.sectors, one.state, one.uuid in uuids) for one in volumes.values()],
        "snapshots": [(one.name, one.read_only, volumes[one.ulid].sectors) for one in machine.records(Snapshot)],
        "instances": [
            (one.name, machine.digest_of(one.current_id), one.is_confirmed, Bound(machine).points_at(one.current_ulid))
            for one in machine.records(Instance)
        ],
        "archives": machine.files_in("archives"),
        "trees": [machine.tree_of(volume) for volume in volumes.values()],
    }


@pytest.fixture(scope="session")
def undisturbed(stages: Stages) -> Undisturbed:
    """What a run that nothing disturbs comes to, found out once for each arrow."""

    @functools.cache
    def run(stage: str, arrow: str) -> dict[str, Any]:
        machine = stages.at(stage)
        getattr(machine, arrow)()
        assert machine.left_over() == []
        return outline(machine)

    return run


def one_run_more_makes_it_right(machine: Machine, arrow: str, expected: dict[str, Any]) -> None:
    """The next run needs no help, the one after it changes nothing, and the host is as if there had been no crash."""
    getattr(machine, arrow)()
    assert machine.left_over() == []
    assert outline(machine) == expected
    before = machine.everything()
    assert getattr(machine, arrow)().changed is False
    assert machine.everything() == before


@pytest.mark.parametrize(("stage", "arrow", "label"), POINTS, ids=["-".join(point) for point in POINTS])
def test_after_a_power_cut_one_run_more_makes_it_right(
    stages: Stages, undisturbed: Undisturbed, stage: str, arrow: str, label: str
) -> None:
    if arrow.startswith("unpack") or stage in (
        "unpacked",
        "activated",
        "damaged",
        "rebooted",
        "bound",
        "flipped",
        "many",
        "unneeded",
    ):
        needs_root()
    expected = undisturbed(stage, arrow)
    machine = stages.at(stage)
    machine.killed_at(label, getattr(machine, arrow))
    one_run_more_makes_it_right(machine, arrow, expected)


@pytest.mark.parametrize(("stage", "arrow", "first", "label"), UNDOING, ids=[label for *_, label in UNDOING])
def test_after_a_power_cut_in_the_undoing_one_run_more_makes_it_right(
    stages: Stages, undisturbed: Undisturbed, stage: str, arrow: str, first: str, label: str
) -> None:
    needs_root()
    expected = undisturbed(stage, arrow)
    machine = stages.at(stage)
    machine.killed_at(first, getattr(machine, arrow))
    machine.killed_at(label, getattr(machine, arrow))
    one_run_more_makes_it_right(machine, arrow, expected)


def test_every_crash_point_of_the_plugins_has_its_test_and_every_test_its_crash_point() -> None:
    tested = {label for *_, label in (*POINTS, *UNDOING)}
    tested |= {"pool:reserved"}  # of a pool on devices: test_pool.py
    tested |= {"bind:timed", "confirm:recorded"}  # of a bind that waits to be confirmed: instance/test_killed.py
    patterns = crash_points_of_the_plugins()
    assert [one for one in sorted(patterns) if not any(re.fullmatch(one, label) for label in tested)] == []
    assert [label for label in sorted(tested) if not any(re.fullmatch(one, label) for one in patterns)] == []

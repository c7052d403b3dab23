# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""flyd_pool with adopt: the files of a pool without volumes, which another program made, become a pool of ours."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from module_utils._errors import BadInput, Busy
from module_utils._thin.pool.metadata import has_superblock
from module_utils._thin.pool.reserve import RESERVED_ID
from module_utils._thin.pool.thin_pool import ThinPool
from tests.unit._lifecycle.conftest import Stages
from tests.unit._lifecycle.machine import POOL_BYTES, Machine

pytestmark = pytest.mark.slow


def files_of(machine: Machine) -> dict[str, Any]:
    """Where a pool of another program lies."""
    directory = machine.root / "files"
    return {"data": str(directory / "data"), "metadata": str(directory / "metadata")}


def forget(machine: Machine) -> None:
    """As if another program had made the pool: without the volume over its start, and the state directory is empty."""
    if machine.fake.dm.by_name("pool") is not None:
        ThinPool(machine.fake.dm, "pool").delete(RESERVED_ID)
    shutil.rmtree(machine.state)
    machine.state.mkdir(mode=0o700)


@pytest.fixture
def foreign(stages: Stages) -> Machine:
    """A host with an empty pool in two files, which no database names, and whose device is gone."""
    machine = stages.at("virgin")
    machine.pool(**files_of(machine))
    forget(machine)
    machine.fake.reboot()
    assert has_superblock(files_of(machine)["metadata"])
    return machine


def test_without_it_the_pool_is_refused(foreign: Machine) -> None:
    with pytest.raises(BadInput, match="is not blank"):
        foreign.pool(**files_of(foreign))


def test_an_empty_pool_is_taken_over(foreign: Machine) -> None:
    before = foreign.everything()
    assert foreign.pool(**files_of(foreign), adopt=True, dry_run=True).changed
    assert foreign.everything() == before
    outcome = foreign.pool(**files_of(foreign), adopt=True)
    assert (outcome.changed, outcome.facts["data"]["path"]) == (True, files_of(foreign)["data"])
    assert foreign.left_over() == []
    assert not foreign.pool(**files_of(foreign), adopt=True).changed
    foreign.fetch()
    foreign.unpack()
    assert foreign.snapshot().changed


@pytest.mark.parametrize("dry_run", [True, False])
def test_one_with_volumes_is_refused_and_keeps_them(stages: Stages, dry_run: bool) -> None:
    machine = stages.at("virgin")
    machine.pool(**files_of(machine))
    machine.fetch()
    machine.unpack()
    forget(machine)
    machine.fake.reboot()
    metadata = Path(files_of(machine)["metadata"])
    before = metadata.read_bytes()
    with pytest.raises(BadInput, match=r"has volumes \(1\)"):
        machine.pool(**files_of(machine), adopt=True, dry_run=dry_run)
    assert metadata.read_bytes() == before


@pytest.mark.parametrize("dry_run", [True, False])
def test_one_that_is_active_is_refused(stages: Stages, dry_run: bool) -> None:
    machine = stages.at("virgin")
    machine.pool(**files_of(machine))
    forget(machine)
    with pytest.raises(Busy, match="is in use"):
        machine.pool(name="second", **files_of(machine), adopt=True, dry_run=dry_run)
    assert has_superblock(files_of(machine)["metadata"])


def test_the_metadata_of_another_pool_of_ours_is_refused(stages: Stages) -> None:
    machine = stages.at("virgin")
    machine.pool(**files_of(machine))
    machine.fake.reboot()
    with pytest.raises(BadInput, match="is the metadata of the pool 'pool'"):
        machine.pool(name="second", **files_of(machine), adopt=True)


def test_blank_files_are_made_a_pool_as_without_it(stages: Stages) -> None:
    machine = stages.at("virgin")
    assert machine.pool(**files_of(machine), adopt=True).changed


@pytest.mark.parametrize("dry_run", [True, False])
def test_what_is_refused_keeps_its_metadata(foreign: Machine, dry_run: bool) -> None:
    """The data file has another size than is asked for."""
    with pytest.raises(BadInput, match="exists with"):
        foreign.pool(**files_of(foreign), adopt=True, data_bytes=2 * POOL_BYTES, dry_run=dry_run)
    assert has_superblock(files_of(foreign)["metadata"])

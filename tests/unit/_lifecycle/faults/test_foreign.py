# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts on which others have devices, loops, files and volumes that look like ours: nothing of theirs ever changes.

Invariant: each layout follows from its seed alone; FLYD_LAYOUTS says how many there are.
"""

from __future__ import annotations

import contextlib
import os
import random
from typing import Any

import pytest

from module_utils._errors import FlydError
from module_utils._host.processes.command import Program
from module_utils._lifecycle.pool.restore import restore
from module_utils._lifecycle.store.records import Volume
from tests.unit._lifecycle.conftest import Stages, needs_root
from tests.unit._lifecycle.machine import Machine

LAYOUTS = int(os.environ.get("FLYD_LAYOUTS", "12"))
STAGES = ("virgin", "pooled", "fetched", "unpacked", "activated")
ULID = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
LIFE = (
    Machine.pool,
    Machine.fetch,
    Machine.unpack,
    Machine.snapshot,
    lambda machine: machine.snapshot("second"),
    lambda machine: machine.run(restore),
    Machine.repair,
    Machine.remove_snapshot,
    Machine.remove_all,
    Machine.remove_archive,
    Machine.remove_pool,
)


class Others:
    """What another program has on the machine, and how it is now."""

    def __init__(self, machine: Machine, dice: random.Random) -> None:
        self.machine = machine
        self.dice = dice
        self.directory = machine.root / "theirs"
        self.directory.mkdir()
        self.devices: set[str] = set()
        self.loops: set[str] = set()
        self.thin_ids: set[int] = set()

    def settle_in(self) -> None:
        """Make some of everything."""
        for _number in range(self.dice.randrange(1, 6)):
            self._make_device()
        for _number in range(self.dice.randrange(3)):
            self._make_loop()
        if self._pool_is_ours() and self.dice.random() < 0.5:
            self._make_volume()

    def now(self) -> dict[str, Any]:
        """All of theirs as it is."""
        fake = self.machine.fake
        devices = {name: device for name, device in fake.devices().items() if name in self.devices}
        pool = fake.thin_ids("pool") if self.thin_ids and self._pool_is_ours() else set()
        return {
            "devices": devices,
            "nodes": sorted(name for name in self.devices if (self.machine.root / "dev/mapper" / name).exists()),
            "loops": {number: path for number, path in fake.loops().items() if number in self.loops},
            "files": {path.name: (path.stat().st_size, path.read_bytes()) for path in self.directory.iterdir()},
            "thin ids": self.thin_ids & pool,
        }

    def _pool_is_ours(self) -> bool:
        return "pool" in self.machine.fake.devices().keys() - self.devices

    def _make_device(self) -> None:
        machine, ulid = self.machine, "0" + "".join(self.dice.choices(ULID, k=25))
        ours = machine.fake.devices()
        recorded = [one.device_name for one in machine.records(Volume)] + ["pool"]
        name = self.dice.choice([f"base-{ulid}", f"snap-{ulid}", "pool", "pool2", "data", *recorded])
        uuids = [
            "",
            f"LVM-{ulid}",
            f"mpath-{ulid}",
            f"CRYPT-{ulid}",
            f"flyd-{ulid}",
            f"FLYD-{ulid}-pool",
            f"FLYD-{ulid}-{ulid}",
        ]
        if name not in ours:
            machine.fake.make_foreign(
                name, uuid=self.dice.choice(uuids), table=self.dice.choice(["0 2048 error", "0 8192 error"])
            )
            self.devices.add(name)

    def _make_loop(self) -> None:
        path = self.directory / self.dice.choice(["data", "metadata", "flyd.db", "disk.img"])
        path.write_bytes(self.dice.randbytes(5000))
        before = set(self.machine.fake.loops())
        self.machine.fake.runner.run(Program.LOSETUP, "--find", "--show", "--nooverlap", str(path))
        self.loops |= set(self.machine.fake.loops()) - before

    def _make_volume(self) -> None:
        thin_id = self.dice.choice([3, 7, 100, 2**24 - 1])
        if thin_id not in self.machine.fake.thin_ids("pool"):
            with self.machine.host() as host:
                host.dm.message("pool", f"create_thin {thin_id}")
            self.thin_ids.add(thin_id)


@pytest.mark.parametrize("seed", range(LAYOUTS))
def test_nothing_of_others_changes(stages: Stages, seed: int) -> None:
    needs_root()
    dice = random.Random(seed)
    machine = stages.at(dice.choice(STAGES))
    if dice.random() < 0.4:
        machine.fake.reboot()
    others = Others(machine, dice)
    others.settle_in()
    before = others.now()
    for step in LIFE:
        with contextlib.suppress(FlydError):  # it may be refused: by its own words, not by an accident
            step(machine)
        assert others.now() == before, step

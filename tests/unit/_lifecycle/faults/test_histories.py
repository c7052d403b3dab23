# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random histories on the simulated host, beside a model of what must come of them; FLYD_HISTORIES says how many.

Invariant: a history follows from its seed alone, and so is what the model says of it.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from module_utils._errors import FlydError
from module_utils._lifecycle.outcome import Outcome
from module_utils._lifecycle.pool.restore import restore
from module_utils._lifecycle.store.records import Snapshot, Volume
from module_utils._names import ObjectKey
from tests.campaigns.harness.model import CHANGED, REFUSED, UNCHANGED, Model
from tests.unit._lifecycle.conftest import Stages, needs_root
from tests.unit._lifecycle.disk import in_process
from tests.unit._lifecycle.faults.test_crashes import POINTS
from tests.unit._lifecycle.machine import ARCHIVE, KEY, OTHER_ARCHIVE, Machine

HISTORIES = int(os.environ.get("FLYD_HISTORIES", "4"))
LENGTH = 40
KEYS = (KEY, ObjectKey("images/other.tar"))
NAMES = ("default", "second")
LABELS = sorted({label for *_, label in POINTS})
WEIGHTS = {
    "pool": 5,
    "fetch": 5,
    "unpack": 7,
    "activate": 8,
    "no snapshot": 2,
    "no base": 1,
    "no image": 1,
    "no pool": 1,
}


@dataclass
class History:
    """The host, the model, and what has been done, for people."""

    machine: Machine
    dice: random.Random
    model: Model = field(default_factory=Model)
    told: list[str] = field(default_factory=list)

    def step(self) -> None:
        """Do one thing, and compare."""
        if self.dice.random() < 0.12:
            self._reboot()
        else:
            self._act()
        assert self._seen() == self._expected(), self.told[-6:]

    def _reboot(self) -> None:
        restored = self.dice.random() < 0.5
        self.machine.fake.reboot()
        self.model.reboot(restored=restored)
        self.told.append(f"reboot, restored={restored}")
        if restored:
            self.machine.run(restore)

    def _act(self) -> None:
        what, work, ask = self._chosen()
        answer = ask()
        self.told.append(f"{what}: {answer}")
        if answer != REFUSED and self.dice.random() < 0.3:
            before = self.machine.everything()
            assert _answer(lambda: work(dry_run=True)) == answer, ("check mode", self.told)
            assert self.machine.everything() == before, ("check mode wrote", self.told)
        is_killed = self.dice.random() < 0.3
        if is_killed:
            label = self.dice.choice(LABELS)
            self.told.append(f"killed at {label}, if that is reached")
            in_process(lambda: _killed(label, work))
        came = _answer(work)
        again = (CHANGED, UNCHANGED) if is_killed and answer != REFUSED else (answer,)
        assert came in again, (came, self.told[-6:])

    def _chosen(self) -> tuple[str, Callable[..., Outcome], Callable[[], str]]:
        dice, machine, model = self.dice, self.machine, self.model
        key, content, name, force = dice.choice(KEYS), dice.randrange(2), dice.choice(NAMES), dice.random() < 0.5
        text = str(key)

        def fetch(**mode: Any) -> Outcome:
            machine.s3.put(text, (ARCHIVE, OTHER_ARCHIVE)[content])
            return machine.fetch(key=key, **mode)

        steps: dict[str, tuple[Callable[..., Outcome], Callable[[], str]]] = {
            "pool": (machine.pool, model.make_pool),
            "fetch": (fetch, lambda: model.fetch(text, content)),
            "unpack": (lambda **mode: machine.unpack(key=key, **mode), lambda: model.unpack(text)),
            "activate": (lambda **mode: machine.snapshot(name, key=key, **mode), lambda: model.activate(text, name)),
            "no snapshot": (
                lambda **mode: machine.remove_snapshot(name, key=key, **mode),
                lambda: model.remove_snapshot(text, name),
            ),
            "no base": (
                lambda **mode: machine.remove_base(key=key, force=force, **mode),
                lambda: model.remove_base(text, force=force),
            ),
            "no image": (
                lambda **mode: machine.remove_archive(key=key, force=force, **mode),
                lambda: model.forget(text, force=force),
            ),
            "no pool": (
                lambda **mode: machine.remove_pool(force=force, **mode),
                lambda: model.remove_pool(force=force),
            ),
        }
        kind = dice.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        return f"{kind} of {key} content={content} {name} force={force}", *steps[kind]

    def _expected(self) -> tuple[list[str], list[tuple[str, str, bool]]]:
        return [self.model.state(str(key)) for key in KEYS], self.model.snapshots()

    def _seen(self) -> tuple[list[str], list[tuple[str, str, bool]]]:
        machine = self.machine
        images = {one.id: one.object_key for one in machine.generations()}
        uuids = {device["uuid"] for device in machine.fake.devices().values()}
        volumes = {one.ulid: one.uuid in uuids for one in machine.records(Volume)}
        found = [(images[one.image_id], one.name, volumes[one.ulid]) for one in machine.records(Snapshot)]
        states = [machine.image(key) for key in KEYS]
        return ["new" if one is None else one.state.value for one in states], sorted(found)


def _killed(label: str, work: Callable[..., Outcome]) -> None:
    os.environ["FLYD_CRASH_POINT"] = label
    try:
        work()
    except FlydError:
        pass


def _answer(work: Callable[..., Outcome]) -> str:
    try:
        return CHANGED if work().changed else UNCHANGED
    except FlydError as error:
        return error.kind.value


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(HISTORIES))
def test_a_host_is_what_the_model_says(stages: Stages, seed: int) -> None:
    needs_root()
    history = History(stages.at("virgin"), random.Random(seed))
    for _step in range(LENGTH):
        history.step()
    if history.model.pool == "up":
        assert history.machine.left_over() == [], history.told

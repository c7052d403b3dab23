#!/usr/bin/env python3
# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random histories of modules, kills and reboots on a machine with a real device mapper, beside a model of what must come of them.

    histories.py [--histories N] [--length N] [--seed S] [--vm NAME]

A history is a list of steps (pools, fetches of two contents of two keys, unpackings, activations, removals), each of which may be looked at
in check mode first, may be killed at a random crash point and run again, and may be followed by a reboot. What the model (model.py) says
of it is known before: every step's answer, and after every step the state of the images and which snapshots are there for use. At the end
of a history the invariants (tools/invariants.py) must hold.

A reboot takes away devices and loops, as the kernel would forget them. Prints the seed, and a line for each history.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[2] / "plugins")]

from tests.campaigns.crashes import labels
from tests.campaigns.harness import arguments
from tests.campaigns.harness.campaign import Campaign
from tests.campaigns.harness.model import REFUSED, Model
from tests.campaigns.harness.sample_images import KEY, OTHER_KEY
from tests.campaigns.harness.target import RESTORE, Shell, Step, Target

KEYS = (KEY, OTHER_KEY)
NAMES = ("default", "second")
DOWN = (
    "for device in $(dmsetup ls | awk '/^(snap|base)-/ { print $1 }') $(dmsetup ls | awk '$1 == \"pool\" { print $1 }');"
    " do dmsetup remove --retry $device || exit 1; done; losetup --detach-all"
)
INFO = Step("flyd_info", {"what": ["images", "snapshots"]})
_WEIGHTS = {
    "pool": 5,
    "fetch": 5,
    "unpack": 6,
    "activate": 8,
    "no snapshot": 2,
    "no base": 1,
    "no image": 1,
    "no pool": 1,
}


@dataclass(frozen=True)
class Expected:
    """What is done, for people; what is run; and what its result must be."""

    what: str
    action: Step | Shell
    is_right: Callable[[dict[str, Any]], bool]


class History:
    """Random steps, and what the model says of them."""

    def __init__(self, dice: random.Random, activations: list[list[Step]]) -> None:
        self.model = Model()
        self._dice = dice
        self._activations = activations
        self._labels = labels()
        self.steps: list[Expected] = []

    def grow(self) -> None:
        """One step more, with all that belongs to it."""
        if self._dice.random() < 0.12:
            restored = self._dice.random() < 0.5
            self.model.reboot(restored=restored)
            self._add("reboot", Shell(DOWN), lambda result: result["driven"] == 0)
            if restored:
                self._add("restore", Shell(RESTORE), lambda result: result["driven"] == 0)
        else:
            self._do(*self._chosen())
        states = {key: self.model.state(key) for key in KEYS}
        snapshots = self.model.snapshots()
        self._add(f"look: {states} {snapshots}", INFO, lambda result: _seen(result) == (states, snapshots))

    def _do(self, what: str, step: Step, answer: str) -> None:
        is_killed = self._dice.random() < 0.25
        if answer != REFUSED and self._dice.random() < 0.2:
            self._add(
                f"check mode of {what}: {answer}", replace(step, check=True), lambda result: _answer(result) == answer
            )
        if is_killed:
            self._add(f"{what}, killed", replace(step, crash_at=self._dice.choice(self._labels)), lambda _result: True)
        self._add(
            f"{what}: {answer}",
            step,
            lambda result: _answer(result) == answer or (is_killed and answer != REFUSED and result["driven"] == 0),
        )

    def _add(self, what: str, action: Step | Shell, is_right: Callable[[dict[str, Any]], bool]) -> None:
        self.steps.append(Expected(what, action, is_right))

    def _chosen(self) -> tuple[str, Step, str]:
        dice, model = self._dice, self.model
        key, content, name, force = dice.choice(KEYS), dice.randrange(2), dice.choice(NAMES), dice.random() < 0.5
        pool, fetch, _unpack, _snapshot = self._activations[content]
        kind = dice.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
        absent = {"key": key, "state": "absent", "force": force}
        steps: dict[str, tuple[Step, Callable[[], str]]] = {
            "pool": (pool, model.make_pool),
            "fetch": (Step("flyd_fetch", {**fetch.options, "key": key}), lambda: model.fetch(key, content)),
            "unpack": (Step("flyd_unpack", {"key": key}), lambda: model.unpack(key)),
            "activate": (Step("flyd_snapshot", {"key": key, "name": name}), lambda: model.activate(key, name)),
            "no snapshot": (
                Step("flyd_snapshot", {"key": key, "name": name, "state": "absent"}),
                lambda: model.remove_snapshot(key, name),
            ),
            "no base": (Step("flyd_unpack", absent), lambda: model.remove_base(key, force=force)),
            "no image": (Step("flyd_fetch", absent), lambda: model.forget(key, force=force)),
            "no pool": (Step("flyd_pool", {"state": "absent", "force": force}), lambda: model.remove_pool(force=force)),
        }
        step, ask = steps[kind]
        return f"{kind} of {key} {content} {name} force={force}", step, ask()


def _answer(result: dict[str, Any]) -> str:
    if result["driven"] == 0:
        return "changed" if result["changed"] else "unchanged"
    return str(result.get("error_kind", result))


def _seen(result: dict[str, Any]) -> tuple[dict[str, str], list[tuple[str, str, bool]]]:
    states = {image["key"]: image["state"] for image in result["images"]}
    snapshots = [(one["key"], one["name"], one["mapped"]) for one in result["snapshots"]]
    return {key: states.get(key, "new") for key in KEYS}, sorted(snapshots)


class Histories:
    """A machine on which histories are run, one after the other."""

    def __init__(self, vm: str, seed: int) -> None:
        self._campaign = Campaign(vm)
        self._dice = random.Random(seed)

    def prepare(self) -> None:
        """A machine with the modules and the images within reach."""
        self._campaign.start()

    def run(self, length: int) -> tuple[int, list[str]]:
        """A history of so many steps on a host without anything; how many actions it had, and what was wrong."""
        history = History(self._dice, [self._campaign.activation(0), self._campaign.activation(1)])
        for _step in range(length):
            history.grow()
        session = self._campaign.session
        virgin = [Step("flyd_pool", {"state": "absent", "force": True})]
        virgin += [Step("flyd_fetch", {"key": key, "state": "absent"}) for key in KEYS]
        session.succeed(virgin)
        done: list[str] = []
        results = session.stream([one.action for one in history.steps], go_on=True)
        for result, one in zip(
            results, history.steps, strict=False
        ):  # in this order, so that the answer is read to its end
            done.append(one.what)
            if not one.is_right(result):
                self._campaign.reset()
                return len(done), [f"{one.what}, came: {_short(result)}; before it: {'; '.join(done[-12:-1])}"]
        if len(done) < len(history.steps):
            return len(done), [f"the machine broke off behind {done[-3:]}"]
        [checked] = session.succeed([Shell(f"{Target.checker()} || true")])
        return len(done), Target.report_of(checked["stdout"])["violations"] if history.model.pool == "up" else []

    def close(self) -> None:
        """The machine is gone."""
        self._campaign.close()


def _short(result: dict[str, Any]) -> str:
    if "images" in result:
        return str(_seen(result))
    return str({key: result.get(key) for key in ("driven", "changed", "error_kind", "msg", "settled", "stdout")})


def run(count: int, length: int, seed: int, vm: str, minutes: float = 1e6) -> tuple[int, list[str]]:
    """So many histories, or fewer when the time is over; prints a line for each. How many actions all had, and what was wrong."""
    histories = Histories(vm, seed)
    wrong: list[str] = []
    actions, until = 0, time.monotonic() + minutes * 60
    try:
        histories.prepare()
        for number in range(1, count + 1):
            if time.monotonic() > until:
                break
            begun = time.monotonic()
            done, found = histories.run(length)
            actions += done
            wrong += found
            print(
                f"{number}/{count} {done} actions: {'; '.join(found) or 'ok'} ({time.monotonic() - begun:.0f} s)",
                flush=True,
            )
    finally:
        histories.close()
    return actions, wrong


def main() -> int:
    """Run the campaign; returns the exit code."""
    parser = arguments.parser(__doc__, vm="histories1")
    parser.add_argument("--histories", type=int, default=10)
    parser.add_argument("--length", type=int, default=40)
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    actions, wrong = run(given.histories, given.length, given.seed, given.vm, given.minutes)
    print(f"{actions} actions, {len(wrong)} histories with something wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

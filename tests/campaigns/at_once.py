#!/usr/bin/env python3
# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many runs at once on one machine: for one key, and for ten keys with removals among them.

    at_once.py [--rounds N] [--plays N] [--minutes M] [--seed S] [--vm NAME]

First, so many times what a play runs (pool, fetch, unpack, snapshot) begin at once for one key on a host that has nothing: one of them must
do each thing, the others must wait and report that nothing changed, and there must be one download, one base and one snapshot.

Then, in each round, ten keys are worked on at once: by the throw of a dice each is activated, or activated in its other generation, or
removed with all that was made of it; at least one of each. All must succeed, what is there must be what was asked for, and the invariants
(tools/invariants.py) must hold.

Prints the seed, and a line for each round.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[2] / "plugins")]

from tests.campaigns.harness import arguments
from tests.campaigns.harness.campaign import Campaign
from tests.campaigns.harness.sample_images import BUCKETS, archive
from tests.campaigns.harness.target import STATE_DIR, AtOnce, Shell, Step, Target
from tests.e2e.machine import lab

KEYS = tuple(f"at-once/{number}.tar" for number in range(10))
_POOL = Step("flyd_pool", {"data_size": "1G"})
_INFO = Step("flyd_info", {"what": ["images", "snapshots", "drift"]})
_LOG = Shell(f"cat {STATE_DIR}/log/flyd*.jsonl")
_SMALL = {"files": 20}


class Rounds:
    """A machine, and which generation of each key it should have."""

    def __init__(self, vm: str, seed: int) -> None:
        self._campaign = Campaign(vm)
        self._dice = random.Random(seed)
        self._wanted: dict[str, int] = {}

    def prepare(self) -> None:
        """A machine with the modules, and both generations of all keys within reach."""
        self._campaign.start()
        with tempfile.TemporaryDirectory() as directory:
            for generation, bucket in enumerate(BUCKETS):
                path = Path(directory, "archive.tar")
                path.write_bytes(archive(generation, **_SMALL))
                for key in KEYS:
                    lab("s3", "put", str(path), key, "--bucket", bucket)

    def one_key(self, plays: int) -> list[str]:
        """So many runs for one key, on a host without anything; what was wrong."""
        results = self._at_once([self._activation(KEYS[0], 0)] * plays)
        self._wanted = {KEYS[0]: 0}
        done = [result for steps in results for result in steps]
        wrong = _failures(results)
        if wrong:
            return wrong
        changed = Counter(number for steps in results for number, one in enumerate(steps) if one["changed"])
        if changed != {0: 1, 1: 1, 2: 1, 3: 1}:
            wrong.append(f"so many runs changed something, by the number of the step: {dict(changed)}")
        if len(devices := {one["device"] for one in done if "device" in one and "/snap-" in one["device"]}) != 1:
            wrong.append(f"the runs named the devices {devices}")
        ended = Counter(line["transition"] for line in self._log() if line["event"] == "end")
        if ended != {"pool": 1, "fetch": 1, "unpack": 1, "snapshot": 1}:
            wrong.append(f"the log has these transitions: {dict(ended)}")
        return wrong + self._state()

    def round(self) -> tuple[str, list[str]]:
        """Ten keys at once; how many were activated and removed, and what was wrong."""
        fates = dict(zip(KEYS, self._dice.choices((0, 1, None), k=len(KEYS)), strict=True))
        first, second = self._dice.sample(KEYS, 2)
        fates[first], fates[second] = None, self._dice.randrange(2)
        lists = [self._removal(key) if one is None else self._activation(key, one) for key, one in fates.items()]
        results = self._at_once(self._dice.sample(lists, len(lists)))
        self._wanted = {key: one for key, one in fates.items() if one is not None}
        told = f"{len(self._wanted)} activated, {len(KEYS) - len(self._wanted)} removed"
        changed = sum(bool(one.get("changed")) for steps in results for one in steps)
        return f"{told}, {changed} steps changed something", _failures(results) or self._state()

    def close(self) -> None:
        """The machine is gone."""
        self._campaign.close()

    def _activation(self, key: str, generation: int) -> tuple[Step, ...]:
        _pool, fetch, _unpack, _snapshot = self._campaign.activation(generation)
        options = {"key": key}
        return (
            _POOL,
            Step("flyd_fetch", {**fetch.options, **options}),
            Step("flyd_unpack", options),
            Step("flyd_snapshot", options),
        )

    def _removal(self, key: str) -> tuple[Step, ...]:
        options = {"key": key, "state": "absent"}
        return Step("flyd_unpack", {**options, "force": True}), Step("flyd_fetch", options)

    def _at_once(self, lists: list[tuple[Step, ...]]) -> list[list[dict[str, Any]]]:
        [result] = self._campaign.session.drive([AtOnce(tuple(lists))])
        found: list[list[dict[str, Any]]] = result["at_once"]
        return found

    def _log(self) -> list[dict[str, Any]]:
        [said] = self._campaign.session.succeed([_LOG])
        return [json.loads(line) for line in said["stdout"].splitlines()]

    def _state(self) -> list[str]:
        """What differs from what was asked for, by flyd_info and by the checker of the invariants."""
        info, checked = self._campaign.session.succeed([_INFO, Shell(f"{Target.checker()} || true")])
        states = {image["key"]: image["state"] for image in info["images"]}
        wanted = dict.fromkeys(self._wanted, "activated")
        wrong: list[str] = Target.report_of(checked["stdout"])["violations"]
        if states != wanted:
            wrong.append(f"the images are {states}, not {wanted}")
        if info["drift"]:
            wrong.append(f"drift: {info['drift']}")
        return wrong


def _failures(results: list[list[dict[str, Any]]]) -> list[str]:
    return [
        f"step {number}: {one.get('error_kind')}: {str(one.get('msg', one))[:500]}"
        for steps in results
        for number, one in enumerate(steps)
        if one["driven"]
    ]


def run(rounds: int, plays: int, seed: int, vm: str, minutes: float = 1e6) -> tuple[int, list[str]]:
    """So many plays for one key, then so many rounds of ten keys, or fewer when the time is over; the rounds, and what was wrong."""
    machine = Rounds(vm, seed)
    wrong: list[str] = []
    done, until = 0, time.monotonic() + minutes * 60
    try:
        machine.prepare()
        begun = time.monotonic()
        wrong += (found := machine.one_key(plays))
        print(f"{plays} at once for one key: {'; '.join(found) or 'ok'} ({time.monotonic() - begun:.0f} s)", flush=True)
        while done < rounds and time.monotonic() < until and not wrong:
            begun, done = time.monotonic(), done + 1
            told, found = machine.round()
            wrong += found
            print(
                f"{done}/{rounds} {told}: {'; '.join(found) or 'ok'} ({time.monotonic() - begun:.0f} s)",
                flush=True,
            )
    finally:
        machine.close()
    return done, wrong


def main() -> int:
    """Run the campaign; returns the exit code."""
    parser = arguments.parser(__doc__, vm="atonce1")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--plays", type=int, default=20)
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    rounds, wrong = run(given.rounds, given.plays, given.seed, given.vm, given.minutes)
    print(f"{rounds} rounds, {'something was wrong' if wrong else 'all was well'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Power cuts at random instants, and what is left of them.

    powercuts.py [--cuts N] [--seed S] [--vm NAME] [--table FILE]

Each round: a machine of the lab makes the pool, fetches, unpacks and activates an image, activates its next generation, and removes
everything; at a random instant its QEMU is killed. The machine boots from the same disk, and what it was doing is run again without
any other help: it must succeed, run once more without changing anything, and the invariants (tools/invariants.py) must hold. Then
everything is removed, and nothing may be left.

Prints a line for each round, and a table at the end: cuts by the step that they hit, what the next run settled, violations.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[2] / "plugins")]

from tests.campaigns.sample_images import BUCKETS, KEY, publish
from tests.campaigns.target import HOME, STATE_DIR, Step, Target
from tests.e2e.machine import LAB, lab

_INIT = f"{HOME}/campaigns/quick_init.sh"
_BASES = "/root/bases.json"
_FINGERPRINT = f"sha256sum {STATE_DIR}/flyd.db {STATE_DIR}/log/flyd.jsonl; dmsetup status; dmsetup table"


@dataclass
class Round:
    """One cut: at which second of the run, behind how many finished steps, and what came of it."""

    at_seconds: float
    step: str
    settled: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)


class Campaign:
    """A machine that is cut off again and again."""

    def __init__(self, vm: str, seed: int) -> None:
        self.target = Target(vm)
        self._dice = random.Random(seed)
        self._trees: list[str] = []
        self._seconds = 0.0
        self._s3: dict[str, str] = {}

    def prepare(self) -> None:
        """A pristine machine with the modules and both generations within reach; learns trees and duration undisturbed."""
        name = self.target.name
        lab("s3", "up")
        lab("up", "1", "--name", name.rstrip("0123456789"))
        lab("reset", name)
        self._s3 = dict(line.split("=", 1) for line in lab("s3", "env").splitlines())
        with tempfile.TemporaryDirectory() as directory:
            publish(Path(directory))
        self.target.install()
        for generation in range(len(BUCKETS)):
            self._succeed(self.activation(generation))
            self._trees.append(self.target.invariants("--trees")["trees"][KEY])
        self._succeed(self.removal())
        begun = time.monotonic()
        self._succeed(self.everything())
        self._seconds = time.monotonic() - begun
        self.target.ssh("sync")

    def activation(self, generation: int) -> list[Step]:
        """From nothing to a snapshot of that generation."""
        access = {
            "endpoint_url": self._s3["FLYD_S3_ENDPOINT_FROM_VM"],
            "access_key": self._s3["AWS_ACCESS_KEY_ID"],
            "secret_key": self._s3["AWS_SECRET_ACCESS_KEY"],
        }
        return [
            Step("flyd_pool", {"data_size": "256M"}),
            Step("flyd_fetch", {"key": KEY, "bucket": BUCKETS[generation], **access}),
            Step("flyd_unpack", {"key": KEY}),
            Step("flyd_snapshot", {"key": KEY}),
        ]

    def removal(self) -> list[Step]:
        """The way back, to the last file."""
        absent = {"state": "absent"}
        return [
            Step("flyd_snapshot", {"key": KEY, **absent}),
            Step("flyd_unpack", {"key": KEY, **absent}),
            Step("flyd_fetch", {"key": KEY, **absent}),
            Step("flyd_pool", absent),
        ]

    def everything(self) -> list[Step]:
        """What is cut off."""
        return [*self.activation(0), *self.activation(1)[1:], *self.removal()]

    def round(self) -> Round:
        """Cut at a random instant, boot, and see."""
        at_seconds = self._dice.uniform(0, self._seconds * 1.05)
        finished = self._cut(at_seconds)
        steps = self.everything()
        step = (
            steps[finished].module + (" absent" if finished >= len(steps) - 4 else "")
            if finished < len(steps)
            else "at rest"
        )
        done = Round(at_seconds, step)
        try:
            self._recover(done, removing=finished >= len(steps) - 4)
        except AssertionError as error:
            done.violations.append(str(error)[:2000])
        if done.violations:
            lab("reset", self.target.name)
            self.target.install()
        return done

    def _cut(self, at_seconds: float) -> int:
        """Kill the machine that many seconds into its run and boot it again; says how many steps had ended."""
        argv = [*LAB, "ssh", self.target.name, "--", Target.command()]
        steps = json.dumps([step.to_json() for step in self.everything()])
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as play:
            assert play.stdin is not None
            play.stdin.write(steps.encode())
            play.stdin.close()
            time.sleep(at_seconds)
            lab("cut", self.target.name, "--no-boot")
            play.kill()
            assert play.stdout is not None
            finished = play.stdout.read().count(b"\n")
        lab("boot", self.target.name, "--init", _INIT)
        return finished

    def _recover(self, done: Round, *, removing: bool) -> None:
        if removing:
            done.settled += self._settled(self.removal_again())
            self._check_gone(done)
        steps = self.activation(1)
        done.settled += self._settled(steps)
        before = self.target.ssh(_FINGERPRINT)
        again = self._succeed(steps)
        changed = [step.module for step, result in zip(steps, again, strict=True) if result["changed"]]
        if changed or self.target.ssh(_FINGERPRINT) != before:
            done.violations.append(f"the run after the recovery changed something: {changed}")
        done.violations += self.target.violations("--bases", _BASES, "--tree", f"{KEY}={self._trees[1]}")
        self._succeed(self.removal())
        self._check_gone(done)

    def removal_again(self) -> list[Step]:
        """The way back from wherever a removal was cut off; after a boot, only an active pool can be removed from."""
        return [self.activation(0)[0], *self.removal()]

    def _settled(self, steps: Sequence[Step]) -> list[str]:
        return [line for result in self._succeed(steps) for line in result["settled"]]

    def _succeed(self, steps: Sequence[Step]) -> list[dict[str, Any]]:
        results = self.target.drive(steps)
        last = results[-1:]
        assert len(results) == len(steps), f"{steps[len(results) - 1].module} was the last: {last}"
        assert last[0]["driven"] == 0, f"{steps[-1].module}: {last}"
        return results

    def _check_gone(self, done: Round) -> None:
        tables = ("volumes", "operations", "pools", "_busy")
        rows = "; ".join(f"SELECT * FROM {table}" for table in tables)  # noqa: S608
        left = self.target.ssh(
            f"ls /dev/mapper | grep -v control; losetup --list --noheadings; sqlite3 -readonly {STATE_DIR}/flyd.db '{rows}'; "
            f"find {STATE_DIR} -type f ! -name flyd.db ! -path '*/log/*'",
            check=False,
        ).strip()
        if left:
            done.violations.append(f"after the removal there is left: {left}")


def table(rounds: Sequence[Round]) -> str:
    """Cuts by the step that they hit, as a table of Markdown."""
    cuts = Counter(one.step for one in rounds)
    lines = ["| cut in | cuts | something to settle | violations |", "|---|---|---|---|"]
    for step in sorted(cuts):
        hit = [one for one in rounds if one.step == step]
        bad = sum(bool(one.violations) for one in hit)
        lines.append(f"| {step} | {len(hit)} | {sum(bool(one.settled) for one in hit)} | {bad} |")
    bad = sum(bool(one.violations) for one in rounds)
    lines.append(f"| all | {len(rounds)} | {sum(bool(one.settled) for one in rounds)} | {bad} |")
    return "\n".join(lines)


def run(cuts: int, seed: int, vm: str) -> list[Round]:
    """That many rounds on that machine; prints a line for each."""
    campaign = Campaign(vm, seed)
    rounds: list[Round] = []
    try:
        campaign.prepare()
        for number in range(1, cuts + 1):
            begun = time.monotonic()
            rounds.append(campaign.round())
            one = rounds[-1]
            verdict = "; ".join(one.violations) or "ok"
            seconds = time.monotonic() - begun
            print(
                f"{number}/{cuts} cut at {one.at_seconds:.2f} s in {one.step}, settled {one.settled}: {verdict} ({seconds:.0f} s)",
                flush=True,
            )
    finally:
        lab("down", vm)
    return rounds


def main() -> int:
    """Run the campaign; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cuts", type=int, default=10)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--vm", default="cuts1")
    parser.add_argument("--table", type=Path)
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    text = table(rounds := run(given.cuts, given.seed, given.vm))
    print(text)
    if given.table:
        given.table.write_text(f"{text}\n")
    return 1 if any(one.violations for one in rounds) else 0


if __name__ == "__main__":
    sys.exit(main())

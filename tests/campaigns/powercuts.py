#!/usr/bin/env python3
# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Power cuts at random instants, and what is left of them.

    powercuts.py [--cuts N] [--seed S] [--vm NAME] [--table FILE]

A machine of the lab removes an image with its pool, activates it anew, and activates its next generation; at a random instant its QEMU is
killed. The machine boots from the same disk, and what it was doing is run again without any other help: it must succeed, run once more
without changing anything, and the invariants (tools/invariants.py) must hold. Behind a removal, nothing at all may be left. So it goes
round and round on one machine; only one that failed is made pristine.

Where a removal was cut off, and else by a throw of the dice, what flyd-restore.service does at a start is done first.

Prints a line for each cut, and a table at the end: cuts by the step that they hit, how many had something to settle, failures (what was
run again did not succeed, or changed something the second time), leaks (the invariants found something), and after how many of the cuts
somebody would have had to help.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[2] / "plugins")]

from tests.campaigns import arguments
from tests.campaigns.sample_images import BUCKETS, KEY, publish
from tests.campaigns.session import Session
from tests.campaigns.target import HOME, RESTORE, STATE_DIR, Shell, Step, Target
from tests.e2e.machine import lab

_INIT = f"{HOME}/campaigns/quick_init.sh"
_BASES = "/root/bases.json"
_FINGERPRINT = Shell(f"sha256sum {STATE_DIR}/flyd.db {STATE_DIR}/log/flyd.jsonl; dmsetup status; dmsetup table")
_ROWS = f"""
import sqlite3
for line in sqlite3.connect("file:{STATE_DIR}/flyd.db?mode=ro", uri=True).iterdump():
    if line.startswith("INSERT"):
        print(line)
"""
_LEFT = Shell(
    f"ls /dev/mapper 2>/dev/null | grep -v control; losetup --list --noheadings; python3 -c '{_ROWS}'; "
    f"find {STATE_DIR} -type f ! -name flyd.db ! -path '*/log/*'"
)
_WITH_REMOVAL = 1.4  # so much longer than two activations is what is cut off, which begins with a removal
AT_REST = "nothing, all was done"


@dataclass
class Round:
    """One cut: at which second of the run, in which phase, and what came of it."""

    at_seconds: float
    phase: str = ""
    settled: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)


class Campaign:
    """A machine that is cut off again and again."""

    def __init__(self, vm: str, seed: int) -> None:
        self.target = Target(vm)
        self.session = Session(self.target)
        self._dice = random.Random(seed)
        self._trees: list[str] = []
        self._seconds = 0.0
        self._s3: dict[str, str] = {}

    def seed(self, seed: int) -> int:
        """Throw the dice of that seed from here on."""
        self._dice = random.Random(seed)
        return seed

    def start(self) -> None:
        """A pristine machine with the modules and both generations within reach."""
        name = self.target.name
        lab("s3", "up")
        lab("up", "1", "--name", name.rstrip("0123456789"))
        self._s3 = dict(line.split("=", 1) for line in lab("s3", "env").splitlines())
        with tempfile.TemporaryDirectory() as directory:
            publish(Path(directory))
        self.reset()

    def reset(self) -> None:
        """Make the machine pristine, but for the modules."""
        self.session.close()
        lab("reset", self.target.name)
        self.target.install()

    def reboot(self) -> None:
        """Cut the power, and boot from the same disk; nothing of ours is brought back by that."""
        self.session.close()
        lab("cut", self.target.name, "--no-boot")
        self.boot()

    def boot(self) -> None:
        """Boot a machine that is off, without systemd."""
        lab("boot", self.target.name, "--init", _INIT)

    def prepare(self) -> None:
        """A machine that knows what the trees are and how long a run takes undisturbed."""
        self.start()
        self.learn()

    def learn(self) -> None:
        """Run it undisturbed, on a machine that has nothing."""
        self.session.drive([])  # so that the start of Python is not counted
        for generation in range(len(BUCKETS)):
            begun = time.monotonic()
            self.session.succeed(self.activation(generation))
            self._seconds += (time.monotonic() - begun) * _WITH_REMOVAL
            self._trees.append(self.target.invariants("--trees")["trees"][KEY])
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

    def everything(self) -> list[tuple[str, Step]]:
        """What is cut off, each step with the name of its phase."""
        first, second = self.activation(0), self.activation(1)[1:]
        return [
            *((f"{step.module}, absent", step) for step in self.removal()),
            *((step.module, step) for step in first),
            *((f"{step.module}, next generation", step) for step in second),
        ]

    def round(self) -> Round:
        """Cut at a random instant, boot, and see."""
        done = Round(self._dice.uniform(0, self._seconds))
        by_unit = self._dice.random() < 0.5
        finished = self._cut(done.at_seconds)
        phases = [phase for phase, _step in self.everything()]
        done.phase = phases[finished] if finished < len(phases) else AT_REST
        try:
            self.boot()
            if "absent" in done.phase:
                self._remove_again(done)
            elif by_unit:
                done.settled += _settled(self.session.succeed([Shell(RESTORE)]))
            self._run_again(done, generation=0 if finished < len(phases) - 3 else 1)
        except AssertionError as error:
            done.failures.append(str(error)[:2000])
        if done.failures or done.leaks:
            self.reset()
            self.session.succeed(self.activation(1))
        return done

    def _cut(self, at_seconds: float) -> int:
        """Kill the machine that many seconds into its run; says how many steps had ended."""

        def cut() -> None:
            time.sleep(at_seconds)
            lab("cut", self.target.name, "--no-boot")

        finished = 0
        with ThreadPoolExecutor(1) as beside:
            cuts: list[Any] = []
            steps = [step for _phase, step in self.everything()]
            for result in self.session.stream(steps, when_begun=lambda: cuts.append(beside.submit(cut))):
                assert result["driven"] == 0, f"before the cut: {result}"
                finished += 1
            cuts[0].result()
        self.session.close()
        return finished

    def _remove_again(self, done: Round) -> None:
        """The unit does what it can, as a pool that was half removed is not brought back; then the removal goes on."""
        results = self.session.succeed([Shell(f"{RESTORE} || true"), *self.removal(), Shell(f"({_LEFT.command}) 2>&1")])
        done.settled += _settled(results)
        if left := results[-1]["stdout"].strip():
            done.leaks.append(f"after the removal there is left: {left}")

    def _run_again(self, done: Round, *, generation: int) -> None:
        steps = self.activation(generation)
        checker = Target.checker("--bases", _BASES, "--tree", f"{KEY}={self._trees[generation]}")
        results = self.session.succeed(
            [*steps, _FINGERPRINT, *steps, _FINGERPRINT, Shell(f"{checker} || true")],
        )
        first, before, second, after = results[:4], results[4], results[5:9], results[9]
        done.settled += _settled(first)
        changed = [step.module for step, result in zip(steps, second, strict=True) if result["changed"]]
        if changed or after["stdout"] != before["stdout"]:
            done.failures.append(f"the run after the recovery changed something: {changed}")
        done.leaks += Target.report_of(results[-1]["stdout"])["violations"]


def _settled(results: Sequence[dict[str, Any]]) -> list[str]:
    """What the modules, and the unit, say that they settled."""
    told = [line for result in results for line in result.get("settled", [])]
    said = [line for result in results for line in result.get("stdout", "").splitlines()]
    return told + [line for line in said if line.startswith(("undid", "finished", "forgot", "resumed"))]


def table(rounds: Sequence[Round], phases: Sequence[str]) -> str:
    """Cuts by the phase that they hit, as a table of Markdown."""
    lines = ["| cut in | cuts | something to settle | failures | leaks | manual steps |", "|---|---|---|---|---|---|"]

    def count(some: Sequence[Round], what: Callable[[Round], object]) -> int:
        return sum(bool(what(one)) for one in some)

    for phase in [*phases, AT_REST, "all"]:
        hit = [one for one in rounds if phase in (one.phase, "all")]
        cells = [count(hit, lambda one: one.settled), count(hit, lambda one: one.failures)]
        cells += [count(hit, lambda one: one.leaks), count(hit, lambda one: one.failures or one.leaks)]
        lines.append(f"| {' | '.join([phase, str(len(hit)), *map(str, cells)])} |")
    return "\n".join(lines)


def rounds_on(campaign: Campaign, cuts: int, minutes: float) -> list[Round]:
    """That many rounds, or fewer when the time is over; prints a line for each."""
    rounds: list[Round] = []
    until = time.monotonic() + minutes * 60
    while len(rounds) < cuts and time.monotonic() < until:
        begun = time.monotonic()
        rounds.append(one := campaign.round())
        verdict = "; ".join(one.failures + one.leaks) or "ok"
        seconds = time.monotonic() - begun
        print(
            f"{len(rounds)}/{cuts} cut at {one.at_seconds:.2f} s in {one.phase}, settled {json.dumps(one.settled)}: {verdict} ({seconds:.0f} s)",
            flush=True,
        )
    return rounds


def run(cuts: int, seed: int, vm: str, minutes: float = 1e6) -> tuple[list[Round], str]:
    """That many rounds on a machine of that name, or fewer when the time is over: the rounds, and their table."""
    campaign = Campaign(vm, seed)
    try:
        campaign.prepare()
        rounds = rounds_on(campaign, cuts, minutes)
    finally:
        campaign.session.close()
        lab("down", vm)
    return rounds, table(rounds, [phase for phase, _step in campaign.everything()])


def main() -> int:
    """Run the campaign; returns the exit code."""
    parser = arguments.parser(__doc__, vm="cuts1")
    parser.add_argument("--cuts", type=int, default=10)
    parser.add_argument("--table", type=Path)
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    rounds, text = run(given.cuts, given.seed, given.vm, given.minutes)
    print(text)
    if given.table:
        given.table.write_text(f"{text}\n")
    return 1 if any(one.failures or one.leaks for one in rounds) else 0


if __name__ == "__main__":
    sys.exit(main())

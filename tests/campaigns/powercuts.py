#!/usr/bin/env python3
# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Power cuts at random instants, and what is left of them.

    powercuts.py [--cuts N] [--seed S] [--vm NAME] [--table FILE] [--machines N]

A machine of the lab removes an image with its pool, activates it again, and activates its next generation; at a random instant its QEMU is
killed. The machine resumes the same disk, and what it was doing is run again without any other help: it must succeed, run once more
without changing anything, and the invariants (tools/invariants.py) must hold. Behind a removal, nothing at all may be left. So it goes
round and round on one machine, or on several beside each other; only one that failed gets an empty disk, and its own is kept.

Where a removal was interrupted, and else by a throw of the dice, what flyd-restore.service does at a start is done first.

Prints a line for each cut, and a table at the end: cuts by the step that they hit, how many had something to settle, failures (what was
run again did not succeed, or changed something the second time), leaks (the invariants found something), and after how many of the cuts
another program would have had to help.
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[2] / "plugins")]

from module_utils._lifecycle.findings import RecoveryKind
from tests.campaigns.harness import arguments
from tests.campaigns.harness.campaign import Campaign
from tests.campaigns.harness.sample_images import BUCKETS, KEY
from tests.campaigns.harness.target import RESTORE, STATE_DIR, Shell, Step, Target
from tests.e2e.machine import lab

_FINGERPRINT = Shell(f"sha256sum {STATE_DIR}/flyd.db {STATE_DIR}/log/*; dmsetup status; dmsetup table")
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
_WITH_REMOVAL = 1.4  # so much longer than two activations is what is interrupted, at most, as it begins with a removal
_LATE = 0.9
_BOOTS = 0.1
_NEW_DISK = "mkfs.ext4 -q /dev/vdb && "
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_MOUNT = (
    f"cat /proc/sys/kernel/random/uuid > /run/boot_id && mount --bind /run/boot_id {_BOOT_ID} && "
    f"mkdir -p {STATE_DIR} && mount /dev/vdb {STATE_DIR} && chmod 0700 {STATE_DIR}"
)
_RECOVERIES = frozenset(kind.value for kind in RecoveryKind if kind is not RecoveryKind.NOT_RECOVERED)
AT_REST = "nothing, all was done"


@dataclass
class Round:
    """One cut: at which second of the run, in which phase, and what came of it."""

    at_seconds: float
    phase: str = ""
    settled: list[dict[str, str]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)


class PowerCuts:
    """The machine of a campaign, whose power is cut again and again.

    The state directory lies on a disk of its own. What goes on from a cut is that disk and, mostly, the memory of the same machine from
    before it ever saw the disk, with another boot id. One time of ten, by the dice, the machine boots, which takes far longer.
    """

    def __init__(self, campaign: Campaign, seed: int) -> None:
        self._campaign = campaign
        self._target = campaign.target
        self._session = campaign.session
        self._saved = f"cuts-{campaign.target.name}"
        self._dice = random.Random(seed)
        self._trees: list[str] = []
        self._seconds = 0.0

    def prepare(self) -> None:
        """From a machine with nothing but the modules to one that knows what the trees are and how long a run takes undisturbed."""
        self._session.close()
        self._target.serve()
        lab("save", self._target.name, self._saved)
        self._attach(new=True)
        self._session.drive([])  # so that the start of Python is not counted
        for generation in range(len(BUCKETS)):
            begun = time.monotonic()
            results = self._session.succeed(self._campaign.life(generation))
            self._seconds += (time.monotonic() - begun) * _WITH_REMOVAL
            self._trees.append(self._target.invariants("--trees")["trees"][KEY])
        assert any(result.get("origin") for result in results), (
            "the base of the last generation is not made of an earlier one"
        )
        self._target.ssh("sync")

    def forget(self) -> None:
        """Remove what was saved."""
        Path(lab("saved", self._saved).strip()).unlink()

    def phases(self) -> list[str]:
        """What there is to interrupt, in its order."""
        return [phase for phase, _step in self._everything()]

    def _everything(self) -> list[tuple[str, Step]]:
        first, second = self._campaign.life(0), self._second()
        return [
            *((f"{step.module}, absent", step) for step in self._campaign.end()),
            *((step.module, step) for step in first),
            *((f"{step.module}, next generation", step) for step in second),
        ]

    def _second(self) -> list[Step]:
        """The next generation, in the pool that is there."""
        return self._campaign.life(1)[1:]

    def _attach(self, *, new: bool = False) -> None:
        """Have the state directory on the second disk, in a machine that seems just booted."""
        lab("attach", self._target.name, *(["--new"] if new else []))
        self._target.ssh(f"{_NEW_DISK if new else ''}{_MOUNT}")

    def _go_on(self) -> None:
        """The machine again after a cut; a second time, as an emulated one may lose its timer and hang before it sees the disk."""
        boots = self._dice.random() < _BOOTS
        try:
            self._come_up(boots=boots)
        except AssertionError as error:
            print(f"the machine comes up once more: {error}", flush=True)
            with contextlib.suppress(AssertionError):
                self._campaign.cut()
            self._come_up(boots=boots)

    def _come_up(self, *, boots: bool) -> None:
        if boots:
            self._campaign.boot()
        else:
            lab("reset", self._target.name, "--from", self._saved)
        self._attach()

    def round(self) -> Round:
        """Cut at a random instant, go on, and see."""
        done = Round(self._dice.uniform(0, self._seconds))
        by_unit = self._dice.random() < 0.5
        finished = self._cut(done.at_seconds)
        phases = self.phases()
        done.phase = phases[finished] if finished < len(phases) else AT_REST
        try:
            self._go_on()
            if "absent" in done.phase:
                self._remove_again(done)
            elif by_unit:
                done.settled += _settled(self._session.succeed([Shell(RESTORE)]))
            self._run_again(done, generation=0 if finished < len(phases) - len(self._second()) else 1)
        except AssertionError as error:
            done.failures.append(str(error)[:2000])
        if done.failures or done.leaks:
            self._begin_anew(done)
        return done

    def _begin_anew(self, done: Round) -> None:
        """An empty disk, and what was found on the other, and on the console, is kept."""
        self._session.close()
        kept = Path(tempfile.mkdtemp(prefix="flyd-powercut-"))
        with contextlib.suppress(AssertionError):  # it may not have come up again
            self._campaign.cut()
        for path in Path(lab("files", self._target.name).strip()).glob("*.*"):
            if path.suffix in (".log", ".qcow2"):
                shutil.copy(path, kept)
        kept.joinpath("round.txt").write_text(f"{done}\n")
        print(f"the machine's disks and console are kept in {kept}", flush=True)
        lab("reset", self._target.name, "--from", self._saved)
        self._attach(new=True)
        self._session.succeed(self._campaign.life(1))

    def _cut(self, at_seconds: float) -> int:
        """Kill the machine that many seconds into its run; says how many steps had ended."""

        def cut() -> None:
            time.sleep(at_seconds)
            lab("cut", self._target.name, "--no-boot")

        finished = 0
        steps = [step for _phase, step in self._everything()]
        self._session.drive([])
        with ThreadPoolExecutor(1) as beside:
            cuts: list[Future[None]] = []
            begun = time.monotonic()
            for result in self._session.stream(steps, when_begun=lambda: cuts.append(beside.submit(cut))):
                assert result["driven"] == 0, f"before the cut: {result}"
                finished += 1
            took = time.monotonic() - begun
            cuts[0].result()
        self._session.close()
        self._learn(at_seconds, took if finished == len(steps) else None)
        return finished

    def _learn(self, at_seconds: float, took: float | None) -> None:
        """Keep to the seconds in which there is something to interrupt, which are others when the host is busy."""
        if took is not None:
            self._seconds = (self._seconds + took) / 2
        elif at_seconds > _LATE * self._seconds:
            self._seconds /= _LATE

    def _remove_again(self, done: Round) -> None:
        """The unit does what it can, as a pool that was half removed is not brought back; then the removal goes on."""
        results = self._session.succeed(
            [Shell(f"{RESTORE} || true"), *self._campaign.end(), Shell(f"({_LEFT.command}) 2>&1")]
        )
        done.settled += _settled(results)
        if left := results[-1]["stdout"].strip():
            done.leaks.append(f"after the removal there is left: {left}")

    def _run_again(self, done: Round, *, generation: int) -> None:
        steps = self._campaign.life(generation)
        trees = [f"{KEY}={self._trees[generation]}", f"'{KEY}@*={self._trees[0]}'"]
        checker = Target.checker(*(part for tree in trees for part in ("--tree", tree)))
        results = self._session.succeed(
            [*steps, _FINGERPRINT, *steps, _FINGERPRINT, Shell(f"{checker} || true")],
        )
        count = len(steps)
        first, before = results[:count], results[count]
        second, after = results[count + 1 : 2 * count + 1], results[2 * count + 1]
        done.settled += _settled(first)
        changed = [step.module for step, result in zip(steps, second, strict=True) if result["changed"]]
        if changed or after["stdout"] != before["stdout"]:
            done.failures.append(f"the run after the recovery changed something: {changed}")
        done.leaks += Target.report_of(results[-1]["stdout"])["violations"]


def _settled(results: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    """What the modules, and the unit (``KIND: TEXT`` a line), report to have recovered."""
    recovered = [one for result in results for one in result.get("settled", [])]
    lines = [line.partition(": ") for result in results for line in result.get("stdout", "").splitlines()]
    return recovered + [{"kind": kind, "text": text} for kind, _colon, text in lines if kind in _RECOVERIES]


def table(rounds: Sequence[Round], phases: Sequence[str]) -> str:
    """Cuts by the phase that they hit, as a table of Markdown."""
    lines = ["| cut in | cuts | something to settle | failures | leaks | manual steps |", "|---|---|---|---|---|---|"]

    def count(some: Sequence[Round], what: Callable[[Round], object]) -> int:
        return sum(bool(what(one)) for one in some)

    for phase in dict.fromkeys([*phases, AT_REST, "all"]):  # two steps may have one name
        hit = [one for one in rounds if phase in (one.phase, "all")]
        cells = [count(hit, lambda one: one.settled), count(hit, lambda one: one.failures)]
        cells += [count(hit, lambda one: one.leaks), count(hit, lambda one: one.failures or one.leaks)]
        lines.append(f"| {' | '.join([phase, str(len(hit)), *map(str, cells)])} |")
    return "\n".join(lines)


class Rounds:
    """Those of a campaign, whichever machine makes them; prints a line for each."""

    def __init__(self, cuts: int, minutes: float) -> None:
        self._cuts, self._until = cuts, time.monotonic() + minutes * 60
        self._lock = threading.Lock()
        self._begun = 0
        self.done: list[Round] = []

    def _is_another(self) -> bool:
        with self._lock:
            self._begun += 1
            return self._begun <= self._cuts and time.monotonic() < self._until

    def make_on(self, machine: PowerCuts) -> None:
        """One round after the other, until there are enough of them or the time is over."""
        while self._is_another():
            begun = time.monotonic()
            self._put_down(machine.round(), time.monotonic() - begun)

    def _put_down(self, one: Round, seconds: float) -> None:
        verdict = "; ".join(one.failures + one.leaks) or "ok"
        with self._lock:
            self.done.append(one)
            print(
                f"{len(self.done)}/{self._cuts} cut at {one.at_seconds:.2f} s in {one.phase}, settled {json.dumps(one.settled)}: {verdict} ({seconds:.0f} s)",
                flush=True,
            )


def run_on(vm: str, seed: int, rounds: Rounds) -> list[str]:
    """Rounds on a machine of that name; returns the phases of its circle."""
    campaign = Campaign(vm)
    try:
        campaign.start()
        machine = PowerCuts(campaign, seed)
        machine.prepare()
        try:
            rounds.make_on(machine)
        finally:
            machine.forget()
    finally:
        campaign.close()
    return machine.phases()


def run(cuts: int, seed: int, vms: Sequence[str], minutes: float) -> tuple[list[Round], str]:
    """That many rounds on machines of those names, or fewer when the time is over: the rounds, and their table."""
    rounds = Rounds(cuts, minutes)
    with ThreadPoolExecutor(len(vms)) as beside:
        running = [beside.submit(run_on, vm, seed + number, rounds) for number, vm in enumerate(vms)]
        phases = [one.result() for one in running]
    return rounds.done, table(rounds.done, phases[0])


def main() -> int:
    """Run the campaign; returns the exit code."""
    parser = arguments.parser(__doc__, vm="cuts1")
    parser.add_argument("--cuts", type=int, default=10)
    parser.add_argument("--table", type=Path)
    parser.add_argument("--machines", type=int, default=1, help="how many machines beside each other (1)")
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    vms = [f"m{number}-{given.vm}" for number in range(2, given.machines + 1)]
    rounds, text = run(given.cuts, given.seed, [given.vm, *vms], given.minutes)
    print(text)
    if given.table:
        given.table.write_text(f"{text}\n")
    return 1 if any(one.failures or one.leaks for one in rounds) else 0


if __name__ == "__main__":
    sys.exit(main())

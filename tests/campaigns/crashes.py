#!/usr/bin/env python3
# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules killed at every labelled crash point, and at random system calls, on a machine with a real device mapper.

    crashes.py [--points N] [--calls N] [--of-steps N] [--only PATTERN] [--skip N] [--seed S] [--vm NAME] [--minutes M]

N cases of each kind, chosen by the seed: 0 for none, -1 for all; calls of N steps.

A case brings the machine to the state before a step, runs the step with the fault (the process ends at the label; or strace ends it at
the Nth fsync, rename, ioctl …, asks it to end, or lets that call fail with EIO or ENOSPC), and then runs the step again without any other help: it must
succeed, run once more without changing anything, and the invariants (tools/invariants.py) must hold.

Which calls a step makes is learnt first, from a run that nothing disturbs: so N goes to the last of them. strace counts in each process by
itself, so a fault strikes in the module, in the child that writes the tree, and in the programs that are started.

Prints the seed, a line for each case, and a table at the end.
"""

from __future__ import annotations

import random
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[2] / "plugins")]

from tests.campaigns.harness import arguments
from tests.campaigns.harness.campaign import BIND, GO_BACK, UNBIND, Campaign
from tests.campaigns.harness.sample_images import KEY
from tests.campaigns.harness.target import Shell, Step, Target
from tests.e2e.machine import ROOT

CALLS = [
    "fsync",
    "fdatasync",
    "syncfs",
    "rename",
    "unlink",
    "ioctl",
    "mount",
    "umount2",
    "openat",
    "fallocate",
    "linkat",
    "mkdir",
]
FATES = ("signal=KILL", "signal=TERM", "error=EIO", "error=ENOSPC")
_BASES = "/root/bases.json"  # where the checker remembers what the sealed bases are
STEPS = (
    "pool",
    "fetch",
    "unpack",
    "unpack and let go",
    "unpack the next",
    "snapshot",
    "bring back",
    "grow",
    "repair",
    "remove snapshot",
    "remove base",
    "remove archive",
    "tear down",
    "bind",
    "go back",
    "unbind",
    "prune",
)
_CALL = re.compile(r"(\d+) +(\w+)\((.*)")
_WRITING = re.compile(r"O_WRONLY|O_RDWR|O_CREAT")
# A step takes some ten seconds on an emulated machine; a run that waits for a lock of its own would do so for five minutes.
_STANDSTILL_SECONDS = 150.0
_HIT = re.compile(r"\(INJECTED\)|killed by SIGKILL|--- SIGTERM")
_KINDS = {"kind": ("base", "snap"), "label": ("base", "snap", "delete")}
# The step at which a label is reached, by what stands before its colon; a label that is not as the others of its kind, by its whole name.
_STEP_OF = {
    "pool": "pool",
    "fetch": "fetch",
    "base": "unpack",
    "unpack": "unpack",
    "unpack:recorded": "unpack and let go",
    "snap": "snapshot",
    "snapshot": "snapshot",
    "restore": "bring back",
    "grow": "grow",
    "repair": "repair",
    "remove": "remove snapshot",
    "delete": "remove snapshot",
    "remove:deleted": "remove archive",
    "teardown": "tear down",
    "bind": "bind",
    "back": "go back",
    "instance": "unbind",
    "prune": "prune",
}
# Of a bind that waits to be confirmed, which needs systemd and what the role prepare installs: test-instances has it. Of a
# dump, which no module makes, of a base that grows out of an earlier one, and of a hidden base, which takes two
# images that share 32 MiB: tests/unit/_lifecycle/faults/test_crashes.py has it. Of the
# start of a device that is reserved: tests/unit/_lifecycle/pool/test_pool.py has it.
_ELSEWHERE = {
    "pool:reserved",
    "unpack:grown",
    "unpack:hidden",
    "remove:hidden",
    "bind:timed",
    "confirm:recorded",
    "dump:reserved",
    "dump:written",
}
_LIFE = ("pool", "fetch", "unpack", "snapshot")
# What of a life has to be there before a step (all of it, if the step is not named), and what is there after it. After the others the
# machine is not as the steps of a life leave it.
_BEFORE = {
    "pool": _LIFE[:0],
    "fetch": _LIFE[:1],
    "unpack": _LIFE[:2],
    "unpack and let go": _LIFE[:2],
    "snapshot": _LIFE[:3],
    "remove archive": _LIFE[:2],
}
_AFTER = {
    "pool": _LIFE[:1],
    "fetch": _LIFE[:2],
    "unpack": _LIFE[:3],
    "snapshot": _LIFE,
    "bring back": _LIFE,
    "remove snapshot": _LIFE[:3],
    "remove base": _LIFE[:2],
    "remove archive": _LIFE[:1],
    "tear down": _LIFE[1:2],
}
# A block of the metadata's own space map: the kernel and thin_check refuse it, thin_repair makes it again, and no volume is lost.
DOWN = "for device in $(dmsetup ls | awk '/^(snap|base)-/ { print $1 }') pool; do dmsetup remove $device; done; losetup --detach-all"
DAMAGE = f"""
{DOWN}
python3 - <<EOF
import glob, struct
[path] = glob.glob("/var/lib/flyd/pools/*/metadata")
with open(path, "r+b") as file:
    file.seek(64 + 128 + 16)
    [block] = struct.unpack("<Q", file.read(8))
    file.seek(block * 4096 + 100)
    file.write(b"damaged!")
EOF
"""


@dataclass(frozen=True)
class Fault:
    """At which step, and what: a crash point's label, or a system call's name, number and fate."""

    step: str
    label: str = ""
    call: str = ""
    number: int = 0
    fate: str = ""

    def __str__(self) -> str:
        return f"{self.step}: {self.label or f'{self.call} number {self.number}, {self.fate}'}"


@dataclass
class Case:
    """What came of a fault; ``was_hit`` is false when the step came to its end before."""

    fault: Fault
    was_hit: bool = True
    outcome: str = ""
    settled: list[dict[str, str]] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)


def labels() -> list[str]:
    """Every crash point of the plugins, those in f-strings written out."""
    found = []
    for path in sorted((ROOT / "plugins").rglob("*.py")):
        for label in re.findall(r'crash_point\(f?"([^"]+)"\)', path.read_text()):
            name = re.search(r"\{(\w+)\}", label)
            found += [label] if name is None else [label.replace(name[0], word) for word in _KINDS[name[1]]]
    return sorted(set(found) - _ELSEWHERE)


def step_of(label: str) -> str:
    """The step that reaches the label."""
    return _STEP_OF.get(label) or _STEP_OF[label.partition(":")[0]]


class Crashes:
    """The machine, and how it is brought to the state before each step."""

    def __init__(self, vm: str) -> None:
        self.campaign = Campaign(vm)
        self.target: Target = self.campaign.target
        self.session = self.campaign.session
        self._there: tuple[str, ...] | None = None  # what there is of a life, where that is known
        self._tree = ""
        self._next_tree = ""

    def prepare(self) -> None:
        """A machine with the modules and the image within reach, which was activated once: so its tree is known."""
        self.campaign.start()
        self.succeed(self.activation(0))
        self._tree = self.target.invariants("--trees")["trees"][KEY]
        result = self.succeed(self.campaign.activation(1)[1:3])[-1]
        assert result["origin"], "the base of the next generation is not made of the first"
        self._next_tree = self.target.invariants("--trees")["trees"][KEY]

    def reboot(self) -> None:
        """What is on disk is there again; devices and loops are not."""
        self.campaign.cut()
        self.campaign.boot()

    def activation(self, generation: int) -> list[Step]:
        """From nothing to a snapshot of that generation."""
        return self.campaign.activation(generation)

    def steps(self) -> dict[str, Step]:
        """Every step by name, in an order in which each finds what it needs."""
        pool, fetch, unpack, snapshot = self.campaign.activation(0)
        absent = {"key": KEY, "state": "absent"}
        return {
            "pool": pool,
            "fetch": fetch,
            "unpack": unpack,
            "unpack and let go": replace(unpack, options={**unpack.options, "keep_archive": False}),
            "unpack the next": unpack,
            "snapshot": snapshot,
            "bring back": pool,
            "grow": Step("flyd_pool", {"data_size": "320M", "metadata_size": "64M"}),
            "repair": Step("flyd_pool", {"state": "repaired"}),
            "remove snapshot": Step("flyd_snapshot", absent),
            "remove base": Step("flyd_unpack", {**absent, "force": True}),
            "remove archive": Step("flyd_fetch", absent),
            "tear down": Step("flyd_pool", {"state": "absent", "force": True}),
            "bind": BIND,
            "go back": GO_BACK,
            "unbind": UNBIND,
            "prune": Step("flyd_prune", {"key": KEY, "keep": 0}),
        }

    def survey(self, steps: Sequence[str] = STEPS) -> list[Fault]:
        """Every fault at a system call that there can be, as a run of each step makes them that nothing disturbs."""
        found: dict[tuple[str, str, int], None] = {}
        for name in steps:
            step = replace(self.steps()[name], inject=("-e", f"trace={','.join(CALLS)}"))
            trace = self.succeed([*self._before(name), step])[-1]["traced"]
            self._there = _AFTER.get(name)
            found.update(dict.fromkeys((name, call, number) for call, number in calls_in(trace)))
        return [Fault(step, call=call, number=number, fate=fate) for step, call, number in found for fate in FATES]

    def run(self, fault: Fault) -> Case:
        """One case; what goes wrong in it is a violation, and the machine is pristine for the next one then."""
        case = Case(fault)
        try:
            self._run(case)
        except AssertionError as error:
            case.violations.append(str(error)[:1500])
        if case.violations:
            self.campaign.reset()
        else:
            self._there = _AFTER.get(fault.step)
        return case

    def _run(self, case: Case) -> None:
        step = self.steps()[case.fault.step]
        self.succeed(self._before(case.fault.step))
        self._strike(case, step)
        tree = self._next_tree if case.fault.step == "unpack the next" else self._tree
        checker = Target.checker("--bases", _BASES, "--tree", f"{KEY}={tree}")
        results = self.succeed([step, step, Shell(f"{checker} || true")])
        case.settled = results[0]["settled"]
        if results[1]["changed"]:
            case.violations.append(f"the run after the recovery changed something: {results[1].get('diff')}")
        case.violations += Target.report_of(results[2]["stdout"])["violations"]

    def _strike(self, case: Case, step: Step) -> None:
        fault = case.fault
        if fault.label:
            [result] = self.session.drive([replace(step, crash_at=fault.label)])
            assert result["driven"] == -9, f"{fault.label} was not reached: {result}"
            case.outcome = "killed"
            return
        injected = ("-e", f"trace={fault.call}", "-e", f"inject={fault.call}:{fault.fate}:when={fault.number}")
        begun = time.monotonic()
        results = self.session.drive([replace(step, inject=injected)])
        if (seconds := time.monotonic() - begun) > _STANDSTILL_SECONDS:
            case.violations.append(f"the run stood still: it took {seconds:.0f} s")
        case.was_hit = bool(results and _HIT.search(results[0]["traced"]))
        case.outcome = _outcome(results)
        if case.outcome.startswith("internal: "):
            case.violations.append(case.outcome)

    def _before(self, name: str) -> list[Step | Shell]:
        """From what there is to the state before the step; from anything, when it is not known what there is."""
        steps, wanted, there = self.steps(), set(_BEFORE.get(name, _LIFE)), set(self._there or ())
        first: list[str] = []
        if self._there is None:
            first = ["unbind", "tear down", "remove archive"]
        elif "pool" in there - wanted:
            first, there = ["tear down"], there & {"fetch"}
        elif "unpack" in there - wanted:
            first, there = ["remove base"], there - {"unpack", "snapshot"}
        elif "snapshot" in there - wanted:
            first, there = ["remove snapshot"], there - {"snapshot"}
        if "fetch" in there - wanted:
            first.append("remove archive")
        self._there = None
        missing = [step for step in _LIFE if step in wanted - there]
        other, same = self.campaign.activation(1)[1:3], self.campaign.activation(0)[1:3]
        harm: dict[str, list[Step | Shell]] = {
            "repair": [Shell(DAMAGE)],
            "bring back": [Shell(DOWN)],
            "go back": [*other, BIND, *same, BIND],  # so that the current generation is the one whose tree is known
            "unbind": [BIND],
            "prune": [*other, *same],
            "unpack the next": [*other[:1]],
        }
        return [*(steps[step] for step in [*first, *missing]), *harm.get(name, [])]

    def succeed(self, steps: Sequence[Step | Shell]) -> list[dict[str, Any]]:
        """The results of steps that must all come to a good end."""
        return self.session.succeed(steps)


def calls_in(trace: str) -> list[tuple[str, int]]:
    """Each call with the numbers that strace counts up to in some process; of openat, those that open for writing."""
    counts: Counter[tuple[str, str]] = Counter()
    found: dict[tuple[str, int], None] = {}
    for line in trace.splitlines():
        called = _CALL.match(line)
        if called is not None:
            counts[called[1], called[2]] += 1
            if called[2] != "openat" or _WRITING.search(called[3]):
                found[called[2], counts[called[1], called[2]]] = None
    return list(found)


def _outcome(results: list[dict[str, Any]]) -> str:
    if not results:
        return "killed with its starter"
    result = results[0]
    if result["driven"] < 0:
        return "killed"
    return "succeeded" if result["driven"] == 0 else f"{result.get('error_kind')}: {result.get('msg', result)}"


def chosen(crashes: Crashes, points: int, calls: int, seed: int, *, of_steps: int) -> list[Fault]:
    """What is to be run; a negative number means all of them. Calls are those of so many steps, chosen by the seed.

    In the order of the steps, so that little has to be made for the next case.
    """
    dice = random.Random(seed)
    all_points = [Fault(step_of(label), label=label) for label in labels()]
    all_calls = crashes.survey(dice.sample(STEPS, of_steps)) if calls else []
    print(f"{len(all_points)} crash points, {len(all_calls)} faults at system calls", flush=True)
    some_points = all_points if points < 0 else dice.sample(all_points, min(points, len(all_points)))
    some_calls = all_calls if calls < 0 else spread(dice, all_calls, calls)
    return [*some_points, *sorted(some_calls, key=lambda fault: STEPS.index(fault.step))]


def spread(dice: random.Random, faults: Sequence[Fault], count: int) -> list[Fault]:
    """So many of them, of each step and call as many: a step that makes many calls would hide the others."""
    left: dict[tuple[str, str], list[Fault]] = {}
    for fault in faults:
        left.setdefault((fault.step, fault.call), []).append(fault)
    found: list[Fault] = []
    while left and len(found) < count:
        for kind in dice.sample(sorted(left), len(left)):
            found.append(left[kind].pop(dice.randrange(len(left[kind]))))
            if not left[kind]:
                del left[kind]
    return found[:count]


def table(cases: Sequence[Case]) -> str:
    """Cases by step, as a table of Markdown."""
    lines = [
        "| step | crash points | system calls | of these hit | something to settle | violations |",
        "|---|---|---|---|---|---|",
    ]
    for step in [*dict.fromkeys(case.fault.step for case in cases), "all"]:
        some = [case for case in cases if step in (case.fault.step, "all")]
        kinds = Counter("points" if case.fault.label else "calls" for case in some)
        hit = sum(case.was_hit for case in some if case.fault.call)
        settled, bad = (
            sum(bool(facts) for facts in kind) for kind in zip(*((c.settled, c.violations) for c in some), strict=True)
        )
        lines.append(f"| {step} | {kinds['points']} | {kinds['calls']} | {hit} | {settled} | {bad} |")
    return "\n".join(lines)


def cases_on(crashes: Crashes, faults: Sequence[Fault], minutes: float) -> list[Case]:
    """What came of the faults, or of fewer when the time is over; prints a line for each."""
    cases: list[Case] = []
    until = time.monotonic() + minutes * 60
    for number, fault in enumerate(faults, 1):
        if time.monotonic() > until:
            break
        begun = time.monotonic()
        cases.append(case := crashes.run(fault))
        verdict = "; ".join(case.violations) or ("ok" if case.was_hit else "ok, not reached")
        seconds = time.monotonic() - begun
        print(
            f"{number}/{len(faults)} {fault}: {case.outcome[:200]}, settled {case.settled}: {verdict} ({seconds:.0f} s)",
            flush=True,
        )
    return cases


def run(
    vm: str, seed: int, *, points: int, calls: int, of_steps: int, only: str = "", minutes: float = 1e6, skip: int = 0
) -> list[Case]:
    """So many cases on a machine of that name, or fewer when the time is over; calls of so many steps."""
    crashes = Crashes(vm)
    try:
        crashes.prepare()
        faults = chosen(crashes, points, calls, seed, of_steps=of_steps)
        return cases_on(crashes, [one for one in faults if re.search(only, str(one))][skip:], minutes)
    finally:
        crashes.campaign.close()


def main() -> int:
    """Run the campaign; returns the exit code."""
    parser = arguments.parser(__doc__, vm="crashes1")
    parser.add_argument("--points", type=int, default=-1)
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--of-steps", type=int, default=len(STEPS), help="calls of so many steps, chosen by the seed")
    parser.add_argument("--only", default="", help="a pattern for the faults that are run")
    parser.add_argument("--skip", type=int, default=0, help="leave out so many of the first")
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    cases = run(
        given.vm,
        given.seed,
        points=given.points,
        calls=given.calls,
        of_steps=given.of_steps,
        only=given.only,
        minutes=given.minutes,
        skip=given.skip,
    )
    print(table(cases))
    return 1 if any(case.violations for case in cases) else 0


if __name__ == "__main__":
    sys.exit(main())

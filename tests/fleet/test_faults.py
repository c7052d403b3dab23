# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every kind of fault in a rollout of its own, on one fleet: what was stopped when, how many hosts were hurt, and the run after the repair.

Of some kinds there are as many as the budget allows, and of some one more. FLEET_FAULTS=all runs all of them, as `make fleet` does; without it, a
few. The table is written to build/fleet/faults.md after each.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from tests.fleet.conftest import HOSTS, made_fleet
from tests.fleet.outcome import Outcome, last_wave, waves
from tests.fleet.simulation import ROOT, Simulation
from tests.fleet.test_rollout import changed

pytestmark = pytest.mark.timeout(14400)
ALL = os.environ.get("FLEET_FAULTS") == "all"
FEW = max(2, HOSTS // 50)
HALF = FEW // 2
# A third run after each kind, which has nothing to do: in larger fleets it takes too long, and test_rollout.py has it too.
ASKED_AGAIN = HOSTS <= 20


class Kind(NamedTuple):
    """What goes wrong: ``fault`` on the hosts ``where``, which count as absent, lost, or not at all (``counts``).

    ``ends_before``: the rollout ends there before any guest is switched. ``allowed``: lost hosts that the options allow.
    """

    name: str
    fault: str
    where: str = "few"
    counts: str = ""
    allowed: int = 0
    ends_before: str = ""
    options: Mapping[str, Any] = MappingProxyType({})
    is_sample: bool = False

    @classmethod
    def absent(cls, name: str, fault: str, allowed: int = FEW, ends_before: str = "", **more: Any) -> Kind:
        options = {"rollout_max_absent": allowed, **more.pop("options", {})}
        return cls(name, fault, counts="absent", ends_before=ends_before, options=options, **more)

    @classmethod
    def lost(cls, name: str, fault: str, allowed: int = HALF, **more: Any) -> Kind:
        options = {"rollout_max_lost": allowed, **more.pop("options", {})}
        return cls(name, fault, counts="lost", allowed=allowed, options=options, **more)

    def hit(self, names: list[str]) -> list[str]:
        """The hosts on which it goes wrong. A few are spread over the first three tenths, so some of them are in the second wave."""
        spread = max(FEW, 3 * len(names) // 10 - 1)
        third_wave = waves(names)[2]
        return {
            "few": [names[1 + number * spread // FEW] for number in range(FEW)],
            "first": names[:1],
            "middle": [names[len(names) // 2]],
            "second wave": waves(names)[1],
            "half a rack": third_wave[len(third_wave) // 4 :][: max(2, FEW)],
            "all": names,
        }[self.where]

    def faults(self, names: list[str]) -> dict[str, str]:
        """The faults by host; half a rack loses power when the flip of the host in its middle begins."""
        hit = self.hit(names)
        if self.where == "half a rack":
            return {hit[len(hit) // 2]: f"{self.fault}:{','.join(hit)}"}
        return dict.fromkeys(hit, self.fault)


GATE = {"rollout_gate": str(ROOT / "tests/fleet/gate.yml")}
KINDS = (
    Kind.absent("dead before", "plan:unreachable"),
    Kind.absent("dead before, more than allowed", "plan:unreachable", FEW - 1, "plan"),
    Kind("no room", "plan:full", ends_before="capacity"),
    Kind.absent("no room, and left out", "plan:full", options={"rollout_short": "leave_out"}),
    Kind.absent("no room any more when it unpacks", "unpack:full"),
    Kind.absent("dies while it unpacks", "unpack:killed"),
    Kind.absent("dies when it has fetched, more than allowed", "fetch:dies", FEW - 1, "staging"),
    Kind("object replaced while hosts stage", "fetch:replaced", "middle", ends_before="staging", is_sample=True),
    Kind("slow flip", "flip:slow"),
    Kind.lost("dead at its flip", "flip:unreachable"),
    Kind.lost("dies in its flip", "flip:killed"),
    Kind.lost("dies after its flip", "flip:dies"),
    Kind.lost("dies after its flip, as many as allowed", "flip:dies", FEW),
    Kind.lost("unhealthy", "flip:ill"),
    Kind.lost("unhealthy, as many as allowed", "flip:ill", FEW),
    Kind("unhealthy after its confirmation", "flip:ill_later"),
    Kind.lost("unhealthy after its confirmation, with a gate", "flip:ill_later", options=GATE),
    Kind.lost("half a rack dead at once", "flip:unreachable", 0, where="half a rack", is_sample=True),
    Kind.lost("a whole wave dead", "flip:unreachable", HOSTS * 2 // 100, where="second wave"),
    Kind.absent("first host dead before", "plan:unreachable", where="first"),
    Kind("first host dies while it stages", "fetch:unreachable", "first", ends_before="first host"),
    Kind.lost("first host dead at its flip", "flip:unreachable", FEW, where="first"),
    Kind.lost("first host unhealthy", "flip:ill", FEW, where="first"),
    Kind.lost("the image works nowhere", "flip:ill", FEW, where="all"),
)
CHOSEN = [kind for kind in KINDS if ALL or kind.is_sample]


HEAD = ("fault", "hosts", "ended in", "switched", "hurt", "back", "still new", "named", "rc", "seconds", "CPU seconds")
LEGEND = """\
- hosts: where the fault occurs. ended in: the phase in which the rollout stopped; a wave counts when it has begun.
- switched: guests that have run the new image, if only for a moment. hurt: those of them that were not well with it, or are dead.
- back, still new: switched hosts whose instance has the old or the new image in the end.
- named: hosts that the output says failed, with a phase that stopped the rollout at the first host. rc: the exit code of ansible-playbook.
- CPU seconds: of the controller. After each row all hosts were repaired and the same command brought the image to all of them.
"""


class Table:
    """The rows of all kinds so far, as a file."""

    def __init__(self, count: int) -> None:
        self.rows: list[tuple[str, ...]] = []
        self.count = count
        self.number = 1

    def add(self, kind: Kind, hit: int, outcome: Outcome, seconds: float) -> None:
        counts = [len(outcome.switched), len(outcome.hurt), len(outcome.at(outcome.before, outcome.switched))]
        ends = [len(outcome.at(outcome.wanted)), len(outcome.named), outcome.done.returncode]
        times = [f"{seconds:.0f}", f"{outcome.done.cpu_seconds:.0f}"]
        self.rows.append((kind.name, str(hit), outcome.ended_in, *map(str, (*counts, *ends, *times))))
        path = ROOT / "build/fleet/faults.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{self.count} hosts, load {os.getloadavg()[0]:.1f}\n\n{self.text}\n{LEGEND}")

    @property
    def text(self) -> str:
        """The table, with columns that also line up where Markdown is not rendered: text to the left, numbers to the right."""
        widths = [max(map(len, column)) for column in zip(HEAD, *self.rows, strict=True)]
        is_text = [name in ("fault", "ended in") for name in HEAD]
        rule = ["-" * width if left else "-" * (width - 1) + ":" for width, left in zip(widths, is_text, strict=True)]
        lines = []
        for row in (HEAD, rule, *self.rows):
            cells = zip(row, widths, is_text, strict=True)
            lines.append("| " + " | ".join(f"{one:{'<' if left else '>'}{width}}" for one, width, left in cells) + " |")
        return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def table() -> Iterator[Table]:
    """The table that grows; shown when all kinds have run."""
    made = Table(HOSTS)
    yield made
    print(made.text)


@pytest.fixture(scope="module")
def fleet() -> Iterator[Simulation]:
    """One fleet for all kinds, whose hosts have image 1."""
    with made_fleet(HOSTS) as made:
        yield made


@pytest.mark.parametrize("kind", CHOSEN, ids=[kind.name for kind in CHOSEN])
def test_a_fault_is_contained_and_after_the_repair_the_next_run_serves_all(
    fleet: Simulation, table: Table, kind: Kind
) -> None:
    before, wanted = table.number, table.number + 1
    fleet.publish(wanted)
    fleet.faults = kind.faults(fleet.names)
    hit = kind.hit(fleet.names)
    begun = time.monotonic()
    outcome = Outcome.of(fleet, fleet.play(**kind.options), wanted=wanted, before=before)
    seconds = time.monotonic() - begun
    again = run_again(fleet, table, wanted)
    table.add(kind, len(hit), outcome, seconds)
    assert outcome.broken_invariants() == [], outcome.done.output
    assert outcome.waves_begun == expected_waves(kind, fleet.names, hit), outcome.done.output
    assert outcome.ended_in == kind.ends_before or not kind.ends_before
    assert hit[0] in outcome.done.output
    assert again.broken_invariants() == [], again.done.output
    assert (again.done.returncode, again.at(again.wanted)) == (0, fleet.names), again.done.output
    if ASKED_AGAIN:
        assert changed(fleet.play()) == 0


def expected_waves(kind: Kind, names: list[str], hit: list[str]) -> int:
    """How many waves may begin, and must."""
    if kind.ends_before:
        return 0
    present = [name for name in names if kind.counts != "absent" or name not in hit]
    if kind.counts != "lost":
        return len(waves(present))
    return last_wave(names, hit, kind.allowed)


def run_again(fleet: Simulation, table: Table, wanted: int) -> Outcome:
    """All hosts are repaired, and the same command is run once more."""
    fleet.revive()
    fleet.publish(wanted)
    again = Outcome.of(fleet, fleet.play(), wanted=wanted, before=table.number)
    table.number = wanted
    for name in fleet.names:
        (fleet.directory / name / "files/tried").unlink(missing_ok=True)
    return again

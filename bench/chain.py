# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is left of many generations, each base made of the one before, beside a fresh base of the last one: ``make bench-chain``.

    python -m bench.chain [--generations N] [--vm NAME]

In a machine of the lab, since it takes device-mapper. The image has 2,000 files (20 MB) that change a little every tenth generation, and an
application of 423 files (1.7 MB) that changes each time. All generations stay.

Invariant: the tree of the last base is that of the fresh one, root and all, or there is no figure.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from bench.harness import table
from bench.harness.arena import Arena, Checked, Cost
from bench.harness.image_generations import chain
from bench.harness.measuring import MIB, BenchError
from tests.e2e.machine import lab

_BLOCK_BYTES = 64 << 10
_ENDS = 10


@dataclass(frozen=True)
class Base:
    """The last base: bytes that the pool maps for it, and what e2fsck says."""

    mapped_bytes: int
    checked: Checked


def measured(arena: Arena, count: int) -> tuple[list[Cost], Base, Cost, Base]:
    """The cost of each of ``count`` generations, the last base, and cost and base of the same generation made fresh."""
    costs: list[Cost] = []
    archive = ""
    for made in chain(count):
        if costs:
            arena.forget_look()
        archive = arena.publish(made)
        costs.append(arena.unpack(archive, "auto"))
        print(f"{len(costs)} of {count}: {costs[-1]}", file=sys.stderr, flush=True)
    tree, last = arena.tree(), _look(arena)
    arena.remove()
    cost = arena.unpack(archive, "never")
    if tree != arena.tree():
        raise BenchError(f"the trees differ: {tree} and {arena.tree()}")
    return costs, last, cost, _look(arena)


def _look(arena: Arena) -> Base:
    checked = min((arena.checked() for _ in range(3)), key=lambda one: one.seconds)
    arena.forget_look()
    return Base(sum(arena.mapped_bytes()), checked)


def report(costs: Sequence[Cost], last: Base, fresh: Cost, fresh_base: Base) -> str:
    """The table."""
    own_bytes = sum(cost.blocks for cost in costs) * _BLOCK_BYTES
    made_fresh = [str(number + 1) for number, cost in enumerate(costs) if cost.fresh_because]
    later = [cost for cost in costs if not cost.fresh_because]
    first, end = (statistics.median(cost.seconds for cost in some) for some in (later[:_ENDS], later[-_ENDS:]))
    rows = [
        ["blocks of all, MiB", f"{own_bytes / MIB:.0f}", f"{fresh.blocks * len(costs) * _BLOCK_BYTES / MIB:.0f}"],
        ["mapped by the last, MiB", f"{last.mapped_bytes / MIB:.1f}", f"{fresh_base.mapped_bytes / MIB:.1f}"],
        ["not contiguous", f"{last.checked.non_contiguous} %", f"{fresh_base.checked.non_contiguous} %"],
        ["e2fsck of the last, seconds", f"{last.checked.seconds:.2f}", f"{fresh_base.checked.seconds:.2f}"],
        ["one generation, seconds: first and last ten, medians", f"{first:.2f} {end:.2f}", f"{fresh.seconds:.2f}"],
        ["fresh bases", ", ".join(made_fresh), "all"],
    ]
    return table.markdown([f"{len(costs)} generations", "each of the one before", "fresh"], rows)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--generations", type=int, default=100)
    parser.add_argument("--vm", default="race1", help="a machine of the lab, brought up when it is not")
    given = parser.parse_args()
    arena = Arena(given.vm)
    load = os.getloadavg()[0]
    try:
        arena.prepare("2G")
        print(f"load before {load:.1f}\n\n{report(*measured(arena, given.generations))}")
    except (BenchError, AssertionError) as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        lab("down", given.vm)
    return 0


if __name__ == "__main__":
    sys.exit(main())

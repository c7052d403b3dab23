# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the next generation costs when its base is made of the one before, beside a fresh base and beside containerd: ``make bench-generations``.

    python -m bench.generations [--rounds N] [--vm NAME] [--image NAME]

In a machine of the lab, since it takes device-mapper. The first generation is an image of the lab with a layer of an application; each next one
is unpacked twice from the page cache, once of the base of the first and once with ``reuse: never``. Blocks are those that the pool gave out, seconds
and CPU those of the transition as the log has them. containerd's devmapper snapshotter then imports the same archives in the same order; the ratio to
it is of the time from the archive to the device of a snapshot, with the start of Python and of ctr.

Invariant: both trees are the same, root and all, or there is no figure.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.harness import table
from bench.harness.arena import Arena, Cost
from bench.harness.image_generations import generations, layers_of
from bench.harness.measuring import BenchError
from bench.harness.snapshotter import Imported
from tests.e2e.machine import lab


@dataclass
class Figures:
    """The costs of a generation, one for each round."""

    changed: list[Cost] = field(default_factory=list)
    fresh: list[Cost] = field(default_factory=list)
    containerd: list[Imported] = field(default_factory=list)


def measured(arena: Arena, layers: Sequence[bytes]) -> dict[str, Figures]:
    """One round: the costs of each generation but the first."""
    found: dict[str, Figures] = {}
    archives = []
    for name, made in generations(layers):
        archives.append((arena.publish(made), made))
        if name == "first":
            arena.first(archives[0][0])
            continue
        (changed, tree), (fresh, fresh_tree) = (_unpacked(arena, archives[-1][0], reuse) for reuse in ("auto", "never"))
        if tree != fresh_tree:
            raise BenchError(f"the trees of {name} differ: {tree} and {fresh_tree}")
        found[name] = Figures([changed], [fresh])
    for one, imported in zip(found.values(), arena.containerd(archives)[1:], strict=True):
        one.containerd.append(imported)
    arena.forget()
    return found


def _unpacked(arena: Arena, archive: str, reuse: str) -> tuple[Cost, str]:
    """What unpacking takes, and the digest of the tree; the base is removed."""
    cost = arena.unpack(archive, reuse)
    if bool(cost.fresh_because) is not (reuse == "never"):
        raise BenchError(f"the base was made of another one: {not cost.fresh_because}, {cost.fresh_because}")
    tree = arena.tree()
    arena.forget_look()
    arena.remove()
    return cost, tree


def report(figures: dict[str, Figures]) -> str:
    """The table."""
    head = ["from the first generation to", "blocks fresh", "blocks", "share", "per changed byte", "wall", "CPU"]
    head += ["containerd: blocks", "containerd: wall"]
    return table.markdown(head, [_row(name, one) for name, one in figures.items()])


def _row(name: str, one: Figures) -> list[str]:
    changed, fresh = one.changed[0], one.fresh[0]
    per_byte = changed.blocks * (64 << 10) / max(1, changed.written_bytes)
    return [
        name,
        str(fresh.blocks),
        str(changed.blocks),
        f"{100 * changed.blocks / fresh.blocks:.2f} %",
        f"{per_byte:.2f}" if changed.written_bytes else "-",
        _ratios(one, lambda cost: cost.seconds),
        _ratios(one, lambda cost: cost.cpu_seconds),
        str(one.containerd[0].blocks),
        table.spread(
            table.ratios([cost.to_device_seconds for cost in one.changed], [cost.seconds for cost in one.containerd])
        ),
    ]


def _ratios(one: Figures, of: Callable[[Cost], float]) -> str:
    return table.spread(table.ratios([of(cost) for cost in one.changed], [of(cost) for cost in one.fresh]))


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--vm", default="race1", help="a machine of the lab, brought up when it is not")
    parser.add_argument("--image", default="redis", help="an image of the lab")
    given = parser.parse_args()
    arena = Arena(given.vm)
    figures: dict[str, Figures] = {}
    path = Path(lab("image", given.image).strip())
    load = os.getloadavg()[0]
    try:
        arena.prepare("6G")
        layers = layers_of(path)
        for _ in range(given.rounds):
            for name, one in measured(arena, layers).items():
                into = figures.setdefault(name, Figures())
                into.changed += one.changed
                into.fresh += one.fresh
                into.containerd += one.containerd
    except (BenchError, AssertionError) as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        lab("down", given.vm)
    print(f"{given.image}, {given.rounds} rounds in a machine of the lab, load before {load:.1f}\n\n{report(figures)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

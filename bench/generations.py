# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the next generation costs when its base is made of the one before, beside a fresh base and beside containerd: ``make bench-generations``.

    python -m bench.generations [--rounds N] [--vm NAME] [--image python|redis]

In a machine of the lab, since it takes device-mapper. The images are Debian with Python and an application, whose layers apt has built; or the
redis image of the lab with generations that are made up. Each generation but the first is unpacked twice from the page cache, once of the base of the
first and once with ``reuse: never``. Another image with the same lowest layer is unpacked once more before that: the first of such images has a
hidden base made. Blocks are those that the pool gave out, seconds and CPU those of the transition as the log has them. containerd's devmapper
snapshotter then imports the same archives in the same order; the ratio to it is of the time from the archive to the device of a snapshot, with the start of
Python and of ctr.

Invariant: the trees are the same, root and all, or there is no figure.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from bench.harness import table
from bench.harness.arena import Arena, Cost
from bench.harness.image_generations import Changed, Lineage, changed, python_lineages, redis_lineages
from bench.harness.measuring import BenchError
from bench.harness.snapshotter import Imported
from tests.e2e.machine import lab

_OTHER, _OTHER_KEY = "another image with the same lowest layer", "bench/other.tar"
_LINEAGES: dict[str, Callable[[Path], Iterator[Lineage]]] = {"python": python_lineages, "redis": redis_lineages}
_BLOCK_BYTES = 64 << 10


@dataclass
class Figures:
    """The costs of a generation, one for each round; ``hiding`` are those with a hidden base made on the way."""

    differs: Changed
    changed: list[Cost] = field(default_factory=list)
    fresh: list[Cost] = field(default_factory=list)
    containerd: list[Imported] = field(default_factory=list)
    hiding: list[Cost] = field(default_factory=list)

    def add(self, other: Figures) -> None:
        """Those of a further round."""
        self.changed += other.changed
        self.fresh += other.fresh
        self.containerd += other.containerd
        self.hiding += other.hiding


def measured(arena: Arena, lineage: Lineage) -> dict[str, Figures]:
    """One round: the costs of each generation but the first, and of the other image."""
    found: dict[str, Figures] = {}
    archives = [(arena.publish(lineage.first), lineage.first)]
    arena.first(archives[0][0])
    for name, made in lineage.later:
        archives.append((arena.publish(made), made))
        found[name] = _compared(arena, archives[-1][0], changed(lineage.first, made))
    if lineage.other:
        other = arena.beside(_OTHER_KEY)
        archives.append((other.publish(lineage.other), lineage.other))
        hiding, _tree = _unpacked(other, archives[-1][0], "auto")
        found[_OTHER] = _compared(other, archives[-1][0], changed(lineage.first[:1], lineage.other))
        found[_OTHER].hiding.append(hiding)
    for one, imported in zip(found.values(), arena.containerd(archives)[1:], strict=True):
        one.containerd.append(imported)
    if lineage.other:
        other.forget()
    arena.forget()
    return found


def _compared(arena: Arena, archive: str, differs: Changed) -> Figures:
    (cost, tree), (fresh, fresh_tree) = (_unpacked(arena, archive, reuse) for reuse in ("auto", "never"))
    if tree != fresh_tree:
        raise BenchError(f"the trees of {archive} differ: {tree} and {fresh_tree}")
    print(f"{differs}\n  {cost}\n  {fresh}", file=sys.stderr, flush=True)
    return Figures(differs, [cost], [fresh])


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
    """The table, and what it does not say of the other image."""
    head = [
        "from the first generation to",
        "files changed",
        "MB",
        "blocks fresh",
        "blocks",
        "share",
        "per changed byte",
    ]
    head += ["wall", "CPU", "containerd: blocks", "containerd: wall"]
    text = table.markdown(head, [_row(name, one) for name, one in figures.items()])
    return "\n\n".join([text, *(_hidden(one) for one in figures.values() if one.hiding)])


def _row(name: str, one: Figures) -> list[str]:
    blocks, fresh = one.changed[0].blocks, one.fresh[0].blocks
    return [
        name,
        str(one.differs.files),
        f"{one.differs.bytes / 1e6:.1f}",
        str(fresh),
        str(blocks),
        f"{100 * blocks / fresh:.2f} %",
        f"{blocks * _BLOCK_BYTES / one.differs.bytes:.2f}" if one.differs.bytes else "-",
        _ratios(one, _seconds),
        _ratios(one, _cpu_seconds),
        str(one.containerd[0].blocks),
        table.spread(
            table.ratios([cost.to_device_seconds for cost in one.changed], [cost.seconds for cost in one.containerd])
        ),
    ]


def _hidden(one: Figures) -> str:
    """What the other image costs beside its own layers: its fresh base, without what a hidden base of the lowest layer takes."""
    hidden = one.hiding[0].blocks - one.changed[0].blocks
    own = one.fresh[0].blocks - hidden
    wall, cpu = (
        median(table.ratios([of(cost) for cost in one.hiding], [of(cost) for cost in one.fresh]))
        for of in (_seconds, _cpu_seconds)
    )
    return (
        f"The other image's own layers take {own} blocks of a fresh base: it has {one.changed[0].blocks / own:.3f} times as many. "
        f"The first such image makes a hidden base of {hidden} blocks as well (wall {wall:.2f}, CPU {cpu:.2f})."
    )


def _seconds(cost: Cost) -> float:
    return cost.seconds


def _cpu_seconds(cost: Cost) -> float:
    return cost.cpu_seconds


def _ratios(one: Figures, of: Callable[[Cost], float]) -> str:
    return table.spread(table.ratios([of(cost) for cost in one.changed], [of(cost) for cost in one.fresh]))


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--vm", default="race1", help="a machine of the lab, brought up when it is not")
    parser.add_argument("--image", choices=sorted(_LINEAGES), default="python")
    given = parser.parse_args()
    arena = Arena(given.vm)
    figures: dict[str, Figures] = {}
    path = Path(lab("image", given.image).strip())
    load = os.getloadavg()[0]
    try:
        arena.prepare("6G")
        for _ in range(given.rounds):
            for lineage in _LINEAGES[given.image](path):
                for name, one in measured(arena, lineage).items():
                    figures.setdefault(name, Figures(one.differs)).add(one)
    except (BenchError, AssertionError) as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        lab("down", given.vm)
    print(f"{given.image}, {given.rounds} rounds in a machine of the lab, load before {load:.1f}\n\n{report(figures)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

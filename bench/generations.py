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
import json
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.harness import table
from bench.harness.image_generations import generations, layers_of
from bench.harness.measuring import BenchError
from bench.harness.snapshotter import Imported, Snapshotter, now
from tests.campaigns.harness.target import HOME, STATE_DIR, Step, Target
from tests.e2e.machine import lab
from tests.unit.builders import images

_KEY, _SOURCE, _LOOK = "bench/generations.tar", "/root/generation.tar", "look"
_SECONDS_OF_UNPACK = (
    'tail -n 20 {0}/log/flyd.jsonl | grep \'"event": *"end"\' | grep \'"transition": *"unpack"\' | tail -n 1'
)


@dataclass(frozen=True)
class Cost:
    """What one unpacking took."""

    blocks: int
    seconds: float
    cpu_seconds: float
    written_bytes: int
    to_device_seconds: float


@dataclass
class Figures:
    """The costs of a generation, one for each round."""

    changed: list[Cost] = field(default_factory=list)
    fresh: list[Cost] = field(default_factory=list)
    containerd: list[Imported] = field(default_factory=list)


class Arena:
    """The machine, with a pool."""

    def __init__(self, vm: str) -> None:
        self._target = Target(vm)
        self._containerd = Snapshotter(self._target)

    def prepare(self) -> None:
        """The modules in a pristine machine."""
        lab("up", "1", "--name", self._target.name.rstrip("0123456789"))
        lab("reset", self._target.name)
        self._target.install()
        self._containerd.install()
        self._run("flyd_pool", data_size="6G")

    def publish(self, layers: Sequence[bytes]) -> str:
        """Make ``layers`` the current generation, fetched; returns the path of its archive."""
        self._target.ssh(f"cat > {_SOURCE}", stdin=images.docker_archive(layers))
        return str(self._run("flyd_fetch", key=_KEY, src=f"file://{_SOURCE}", max_size="8G")["path"])

    def unpack(self, archive: str, reuse: str) -> tuple[Cost, str]:
        """What unpacking the current generation takes, and the digest of its tree."""
        self._warm(archive)
        before, begun = self._used_blocks(), now(self._target)
        made, look = self._drive(
            Step("flyd_unpack", {"key": _KEY, "reuse": reuse}),
            Step("flyd_snapshot", {"key": _KEY, "name": _LOOK, "read_only": True}),
        )
        took = now(self._target) - begun
        blocks = self._used_blocks() - before
        line = json.loads(self._target.ssh(_SECONDS_OF_UNPACK.format(STATE_DIR)))
        if (made["origin"] is None) is not (reuse == "never"):
            raise BenchError(f"the base was made of {made['origin']}: {made['fresh_because']}")
        cost = Cost(blocks, line["seconds"], line["cpu_seconds"], made["written_bytes"], took)
        return cost, self._tree_on(str(look["device"]))

    def containerd(self, archives: Sequence[tuple[str, Sequence[bytes]]]) -> list[Imported]:
        """What importing each of ``archives`` (path, layers) after the ones before takes."""
        found = []
        with self._containerd.running():
            for number, (archive, layers) in enumerate(archives):
                self._warm(archive)
                found.append(self._containerd.import_image(archive, layers, f"active-{number}"))
        return found

    def first(self, archive: str) -> None:
        """The base of the first generation."""
        self._target.ssh(f"cat {shlex.quote(archive)} > /dev/null")
        self._run("flyd_unpack", key=_KEY)

    def remove(self) -> None:
        """Remove the base of the current generation alone."""
        [current] = [one for one in self._run("flyd_info", what=["images"])["images"] if one["current"]]
        self._run("flyd_unpack", key=_KEY, sha256=current["sha256"], state="absent")

    def forget(self) -> None:
        """Remove all generations."""
        self._run("flyd_fetch", key=_KEY, state="absent", force=True)

    def _tree_on(self, device: str) -> str:
        """The digest of what tree.py says of the tree on ``device``, which is removed."""
        said = self._target.ssh(
            f"mount -o ro,noload {shlex.quote(device)} /mnt && python3 {HOME}/tools/tree.py /mnt --exact | sha256sum; umount /mnt"
        )
        self._run("flyd_snapshot", key=_KEY, name=_LOOK, state="absent")
        return said.strip()

    def _warm(self, archive: str) -> None:
        self._target.ssh(f"sync; cat {shlex.quote(archive)} > /dev/null")

    def _used_blocks(self) -> int:
        return int(self._target.ssh("dmsetup status pool").split()[5].split("/")[0])

    def _run(self, module: str, **options: Any) -> dict[str, Any]:
        return self._drive(Step(module, options))[0]

    def _drive(self, *steps: Step) -> list[dict[str, Any]]:
        results = self._target.drive(steps)
        if len(results) < len(steps) or results[-1].get("failed"):
            raise BenchError(f"{steps[max(0, len(results) - 1)].module} failed: {results[-1:]}")
        return results


def measured(arena: Arena, layers: Sequence[bytes]) -> dict[str, Figures]:
    """One round: the costs of each generation but the first."""
    found: dict[str, Figures] = {}
    archives = []
    for name, made in generations(layers):
        archives.append((arena.publish(made), made))
        if name == "first":
            arena.first(archives[0][0])
            continue
        changed, tree = arena.unpack(archives[-1][0], "auto")
        arena.remove()
        fresh, fresh_tree = arena.unpack(archives[-1][0], "never")
        arena.remove()
        if tree != fresh_tree:
            raise BenchError(f"the trees of {name} differ: {tree} and {fresh_tree}")
        found[name] = Figures([changed], [fresh])
    for one, imported in zip(found.values(), arena.containerd(archives)[1:], strict=True):
        one.containerd.append(imported)
    arena.forget()
    return found


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
        arena.prepare()
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

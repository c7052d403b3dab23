"""Contenders that unpack the same image, round after round, and the table of what it took.

Invariant: all of them meet the same load, because they take turns, and the same caches, because all input is in memory.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench.harness import disks, table
from bench.harness.contenders import Contender
from bench.harness.inputs import Inputs
from bench.harness.measuring import MIB, Cost, measure, peak_bytes
from bench.harness.verifying import Reference

_ROOM = 3
_BLOCK_BYTES = 4096  # of the file system: a small file takes one
_MIN_DISK_BYTES = 512 * MIB


@dataclass
class Entrant:
    """A contender and what was measured of it."""

    contender: Contender
    costs: list[Cost] = field(default_factory=list)
    peak_bytes: int = 0

    @property
    def seconds(self) -> list[float]:
        return [cost.seconds for cost in self.costs]


@dataclass(frozen=True)
class Race:
    """Contenders for one image; ratios are those of the others to the first of ``ours``."""

    title: str
    image: Inputs
    work: Path
    others: list[Entrant]
    ours: list[Entrant]

    @classmethod
    def of(cls, title: str, image: Inputs, work: Path, others: Iterable[Contender], ours: Iterable[Contender]) -> Race:
        """A race in which nothing was measured yet."""
        return cls(title, image, work, list(map(Entrant, others)), list(map(Entrant, ours)))

    @property
    def all(self) -> list[Entrant]:
        return [*self.others, *self.ours]

    @contextlib.contextmanager
    def place(self, contender: Contender | None = None) -> Iterator[Path]:
        size_bytes = max(_MIN_DISK_BYTES, _ROOM * self.image.content_bytes + _BLOCK_BYTES * 2 * self.image.entries)
        with contextlib.ExitStack() as stack:
            root = stack.enter_context(disks.new_ext4(self.work, size_bytes, inodes=2 * self.image.entries + 10_000))
            if contender:
                stack.enter_context(contender.around(root, self.work))
            yield root

    def warm_up(self, reference: Reference) -> None:
        """Run each once, look whether it did its work, and measure its memory."""
        for entrant in self.all:
            contender = entrant.contender
            with self.place(contender) as root:
                entrant.peak_bytes = peak_bytes(contender.commands(self.image, root), contender.env)
                with contender.tree(root) as tree:
                    reference.check(contender.name, tree, contender.standard)

    def run(self) -> None:
        """One round: each contender once."""
        for entrant in self.all:
            contender = entrant.contender
            with self.place(contender) as root:
                entrant.costs.append(measure(contender.commands(self.image, root), synced=root, env=contender.env))

    def report(self) -> str:
        """The table."""
        ours = self.ours[0]
        head = ["", "seconds", "of it sync", "CPU seconds", "peak MiB", f"{ours.contender.name} / it"]
        rows = [_row(entrant, ours) for entrant in self.all]
        return f"{self.title}\n\n{table.markdown(head, rows)}\n"


def _row(entrant: Entrant, ours: Entrant) -> list[str]:
    return [
        entrant.contender.name,
        table.spread(entrant.seconds),
        table.spread([cost.sync_seconds for cost in entrant.costs]),
        table.spread([cost.cpu_seconds for cost in entrant.costs]),
        f"{entrant.peak_bytes / MIB:.0f}",
        "" if entrant is ours else table.spread(table.ratios(ours.seconds, entrant.seconds)),
    ]

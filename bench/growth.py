"""Whether time and memory grow with the image and no faster: ``make bench-unpack-growth``.

One size after the other, in turn, round after round: seconds for each entry from 10,000 to 1,000,000 entries, and for each MB from
100 MB to 4 GB, until the last byte is on the device. The size of the archive and as much again must fit into memory.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.harness import contenders, disks, synthetic, table
from bench.harness.measuring import MIB, BenchError, Cost, environment, measure, peak_bytes, run

_BLOCK_BYTES = 4096
_ROOM_BYTES = 512 * MIB


@dataclass
class Step:
    """An image of ``count`` entries or MB, and what unpacking it took."""

    count: int
    entries: int
    archive: Path
    disk_bytes: int
    inodes: int
    costs: list[Cost] = field(default_factory=list)
    peak_bytes: int = 0

    def commands(self, python: Path, root: Path) -> list[list[str | Path]]:
        return [[python, contenders.UNPACK, self.archive, root]]

    @property
    def micros(self) -> list[float]:
        """Microseconds for each entry or MB, round by round."""
        return [cost.seconds * 1e6 / self.count for cost in self.costs]


def many_entries(work: Path, count: int) -> Step:
    archive = work / f"{count}.tar"
    synthetic.of_entries(archive, count)
    return Step(count, count, archive, _ROOM_BYTES + count * (_BLOCK_BYTES + 512), count + 10_000)


def many_bytes(work: Path, count_mb: int) -> Step:
    archive = work / f"{count_mb}mb.tar"
    files = synthetic.of_bytes(archive, count_mb * MIB)
    return Step(count_mb, files, archive, _ROOM_BYTES + count_mb * MIB * 9 // 8, 10_000)


@contextmanager
def _place(work: Path, step: Step) -> Iterator[Path]:
    with disks.new_ext4(work, step.disk_bytes, inodes=step.inodes) as root:
        yield root


def grow(make: Callable[[Path, int], Step], counts: Sequence[int], what: str, given: argparse.Namespace) -> None:
    """Measure all sizes and print their table."""
    with disks.workspace() as work:
        env = environment(PYTHONPYCACHEPREFIX=str(work / "pycache"))
        steps = [make(work, count) for count in counts]
        for step in steps:
            with _place(work, step) as root:
                step.peak_bytes = peak_bytes(step.commands(given.python, root), env)
                _check(step, root)
        for _round in range(given.rounds):
            for step in steps:
                with _place(work, step) as root:
                    step.costs.append(measure(step.commands(given.python, root), synced=root, env=env))
        print(_report(steps, what), flush=True)


def _check(step: Step, root: Path) -> None:
    """The tree has all names; the contents' digests were verified by whom we measure."""
    found = run(["find", root, "-mindepth", "1", "-printf", "x"], environment()).count("x")
    if found != step.entries:
        raise BenchError(f"the tree has {found} entries, and the image {step.entries}")


def _report(steps: list[Step], what: str) -> str:
    first = steps[0]
    head = [what, "seconds", f"µs for each, {what}", "to that of the first", "CPU µs for each", "peak MiB"]
    rows = [
        [
            f"{step.count:,}",
            table.spread([cost.seconds for cost in step.costs]),
            table.spread(step.micros, 1),
            table.spread(table.ratios(step.micros, first.micros)),
            table.spread([cost.cpu_seconds * 1e6 / step.count for cost in step.costs], 1),
            f"{step.peak_bytes / MIB:.0f}",
        ]
        for step in steps
    ]
    return table.markdown(head, rows) + "\n"


def main() -> int:
    """0, or 1 and what went wrong."""
    parser = argparse.ArgumentParser(prog="bench.growth", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--python", type=Path, default=contenders.DISTRIBUTIONS_PYTHON, help="what flyd.lite runs on")
    parser.add_argument("--entries", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--megabytes", type=int, nargs="*", default=[100, 1000, 4000])
    given = parser.parse_args()
    try:
        disks.privately("bench.growth")
        print(f"{given.rounds} rounds; load before {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs; {given.python}\n")
        if given.entries:
            grow(many_entries, given.entries, "entries", given)
        if given.megabytes:
            grow(many_bytes, given.megabytes, "MB", given)
    except BenchError as error:
        print(f"bench.growth: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

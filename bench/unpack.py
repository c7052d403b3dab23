"""Unpacking, ourselves beside others: ``make bench-unpack``.

Each round runs every contender once, each into a new ext4 of its own, with all input in memory; what counts is the time until the
last byte is on the device. Before the rounds each runs once unmeasured, and its tree is compared with GNU tar's.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from disks.cache import Cache
from disks.packages import ensure_programs
from programs import LabError, find_program

from bench.harness import contenders, disks, inputs
from bench.harness.contenders import BSDTAR, GNU_TAR, GZIP_TAR, UMOCI, Contender
from bench.harness.measuring import BenchError
from bench.harness.race import Race
from bench.harness.verifying import Reference


def races(archive: Path, name: str, work: Path, given: argparse.Namespace) -> list[Race]:
    """Plain layers against those who read plain layers, gzip ones against those who read gzip."""
    plain = [GNU_TAR, BSDTAR, *([] if given.plain else [UMOCI]), contenders.ctr(work)]
    packed = [] if given.plain else [GZIP_TAR, UMOCI]
    if given.installed:
        plain, packed = list(filter(_is_installed, plain)), list(filter(_is_installed, packed))
    log = Cache.from_environment(os.environ).directory("logs") / "packages.log"
    ensure_programs("skopeo", *(program for one in plain for program in one.programs), log=log)
    image = inputs.prepare(name, archive, work, packed=not given.plain)

    def ours(title: str, *, packed: bool = False, whole: bool = False, packages: Path | None = None) -> Contender:
        return contenders.flyd(title, given.python, work, packed=packed, whole=whole, packages=packages)

    both = [ours("flyd.lite"), ours("flyd.lite, and the archive's digest", whole=True)]
    if given.plain:
        return [Race.of(f"{name}, plain layers", image, work, plain, both)]
    gzip = [ours("flyd.lite, Python's zlib", packed=True)]
    if not given.installed:  # a prepared host has it
        packages = contenders.optional_packages(given.python, work)
        gzip.insert(0, ours("flyd.lite, isal", packed=True, packages=packages))
    return [
        Race.of(f"{name}, plain layers", image, work, plain, both),
        Race.of(f"{name}, gzip layers", image, work, packed, gzip),
    ]


def _is_installed(contender: Contender) -> bool:
    return all(find_program(program) for program in contender.programs)


def bench(name: str, given: argparse.Namespace) -> None:
    """Measure one image and print its tables."""
    with disks.workspace() as work:
        archive = inputs.find(name, work)
        for race in races(archive, archive.stem, work, given):
            with race.place() as root:
                reference = Reference.of(race.image.archive, root)
            race.warm_up(reference)
            for _round in range(given.rounds):
                race.run()
            print(race.report(), flush=True)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.unpack", description=__doc__)
    parser.add_argument(
        "--image",
        action="append",
        help="redis, build, entries-N or mb-N, which are made up, or the path of a docker archive; may be repeated [redis, build]",
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--python", type=Path, default=contenders.DISTRIBUTIONS_PYTHON, help="what flyd.lite runs on")
    parser.add_argument(
        "--plain", action="store_true", help="no gzip layers, and so no umoci: for what memory holds few times"
    )
    parser.add_argument("--installed", action="store_true", help="only beside programs that are installed")
    return parser.parse_args()


def main() -> int:
    """0, or 1 and what went wrong."""
    given = _parse()
    try:
        disks.privately("bench.unpack")
        print(f"{given.rounds} rounds; load before {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs; {given.python}\n")
        for image in given.image or ["redis", "build"]:
            bench(image, given)
    except (BenchError, LabError) as error:
        print(f"bench.unpack: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

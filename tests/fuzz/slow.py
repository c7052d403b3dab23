# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the limit ``seconds`` holds: ``python -m tests.fuzz.slow [--seconds N] [--part P] [NAME ...]``.

Each archive of ``slow_recipes`` is given to the tool. It is refused, or unpacked, within the limit for reading and again for writing, and
a tenth; what it takes to start the tool, measured on an empty image, is not in that. The peak of memory is that of the largest process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fuzz.slow_recipes import RECIPES, packed

TOOL = Path(__file__).parents[1] / "tools" / "unpack.py"
MAX_PEAK_MIB = 512
MAX_ARCHIVE_BYTES = 10_000_000
_STARTS = 3  # the tool's own start varies with what else the machine does

_LAUNCHER = """
import json, resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([json.loads(done.stdout), used.ru_maxrss >> 10, used.ru_utime + used.ru_stime]))
"""


@dataclass(frozen=True)
class Result:
    """What became of an archive: seconds by the clock and of the processors, MiB, and what the tool answered."""

    archive_bytes: int
    seconds: float
    cpu_seconds: float
    peak_mib: int
    answer: dict[str, Any]
    has_written: bool

    @property
    def end(self) -> str:
        """``unpacked``, the limit that was exceeded, or the kind of the error."""
        if "entries" in self.answer:
            return "unpacked"
        limit = self.answer.get("details", {}).get("limit")
        return f"`{limit}`" if limit else str(self.answer["error_kind"])


def try_one(files: list[bytes], seconds: int, *, is_archive: bool) -> Result:
    """Give the image of ``files``, layers unless it is an archive, to the tool under the limit ``seconds``."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        place = Path(name)
        (place / "target").mkdir()
        source = place / "layers"
        source.mkdir()
        for at, data in enumerate(files):
            (source / f"{at}").write_bytes(data)
        given = source / "0" if is_archive else source
        command = [sys.executable, "-c", _LAUNCHER, sys.executable, str(TOOL), str(given), str(place / "target")]
        begun = time.monotonic()
        limits = ["--spool", name, "--limits", f"seconds={seconds}"]
        done = subprocess.run([*command, *limits], stdout=subprocess.PIPE, check=True)
        took = time.monotonic() - begun
        has_written = any((place / "target").iterdir())
    answer, peak_mib, cpu_seconds = json.loads(done.stdout)
    return Result(sum(map(len, files)), took, cpu_seconds, peak_mib, answer, has_written)


def start_seconds() -> float:
    """What the tool takes for an empty image, the longest of a few times."""
    return max(try_one([packed(b"")], 60, is_archive=False).seconds for _turn in range(_STARTS))


def holds(result: Result, seconds: int, start: float) -> bool:
    """Whether ``result`` is within the limit ``seconds`` for each stage and a tenth, and within its memory."""
    stages = 2 if result.has_written else 1  # reading has the limit, and writing once more
    is_known = result.end == "unpacked" or result.answer["error_kind"] in ("untrusted", "bad_input", "unsupported")
    return is_known and result.seconds <= 1.5 * start + stages * seconds * 1.1 and result.peak_mib <= MAX_PEAK_MIB


def main() -> int:
    """Print a table; returns the exit code."""
    parser = argparse.ArgumentParser(prog="tests.fuzz.slow", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="parts of the names of those to try; default: all")
    parser.add_argument("--seconds", type=int, default=5, help="the limit")
    parser.add_argument("--part", type=float, default=1.0, help="of the size of each archive")
    given = parser.parse_args()
    chosen = [one for one in RECIPES if not given.names or any(name in one.name for name in given.names)]
    start = start_seconds()
    load = os.getloadavg()[0]
    print(f"{len(chosen)} archives, seconds={given.seconds}; the tool's start takes {start:.1f} s; load {load:.1f}\n")
    print(
        "| archive | stage | its size, KB | ended by | seconds | CPU seconds | peak MiB |\n|---|---|---|---|---|---|---|"
    )
    failed = 0
    for recipe in chosen:
        files = recipe.make(max(1, int(recipe.count * given.part)))
        result = try_one(files, given.seconds, is_archive=recipe.is_archive)
        is_good = holds(result, given.seconds, start) and result.archive_bytes <= MAX_ARCHIVE_BYTES
        failed += not is_good
        row = f"{result.archive_bytes // 1000:,} | {result.end} | {result.seconds:.1f} | {result.cpu_seconds:.1f} | {result.peak_mib}"
        print(f"| {recipe.name} | {recipe.stage} | {row} |{'' if is_good else ' NOT HELD'}", flush=True)
        if not is_good:
            print(f"{recipe.name}: {result.answer.get('msg')}", file=sys.stderr)
    print(f"\n{len(chosen) - failed} of {len(chosen)} within the limit and a tenth, and {MAX_PEAK_MIB} MiB", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())

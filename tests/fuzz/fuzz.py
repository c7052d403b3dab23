#!/usr/bin/env python3
# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Try archives without end, led by what code they reach: ``fuzz.py [--minutes N] [--workers N]``.

Each worker is a process that Atheris feeds with recipes (see ``recipes``); what they find interesting stays in build/fuzz/corpus for the
next time. A recipe that breaks a rule of ``oracle`` ends its worker and stays in build/fuzz/found; the exit code is 1 then.
Without Atheris recipes are chosen at random.
"""

from __future__ import annotations

import argparse
import collections
import os
import random
import subprocess
import sys
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "plugins"), str(ROOT)]
WORK = ROOT / "build" / "fuzz"
_MAX_RECIPE_BYTES = 400


def _worker(number: int, seconds: int) -> None:
    from module_utils._image.merge import tree

    tree.MAX_ALL_STEPS = 1_000_000
    counts: collections.Counter[str] = collections.Counter()
    try:
        import atheris  # type: ignore[import-untyped]  # it has no types
    except ImportError:
        _at_random(number, seconds, counts)
        return
    with atheris.instrument_imports(include=["module_utils"], enable_loader_override=False):
        from tests.fuzz.oracle import judge

    begun = time.monotonic()

    def one(recipe: bytes) -> None:
        counts[_judged(judge, recipe)] += 1
        if time.monotonic() - begun > seconds:
            _report(counts)

    corpus = WORK / "corpus"
    if not corpus.is_dir():  # something to begin with, or it would take long to come upon more than one member
        corpus.mkdir(parents=True, exist_ok=True)  # another worker may be as far
        for at in range(200):
            (corpus / f"seed-{at}").write_bytes(random.Random(at).randbytes(20 + at))
    options = [
        f"-max_len={_MAX_RECIPE_BYTES}",
        "-rss_limit_mb=4096",
        "-timeout=60",
        f"-seed={number + 1}",
        "-verbosity=0",
    ]
    atheris.Setup([sys.argv[0], *options, str(corpus)], one)
    atheris.Fuzz()


def _at_random(number: int, seconds: int, counts: collections.Counter[str]) -> None:
    from tests.fuzz.oracle import judge

    chance = random.Random(number + time.time_ns())
    begun = time.monotonic()
    while time.monotonic() - begun < seconds:
        counts[_judged(judge, chance.randbytes(chance.randrange(_MAX_RECIPE_BYTES)))] += 1
    _report(counts)


def _judged(judge: object, recipe: bytes) -> str:
    try:
        assert callable(judge)
        return str(judge(recipe))
    except Exception:  # noqa: BLE001 - any is what is looked for
        found = WORK / "found"
        found.mkdir(parents=True, exist_ok=True)
        name = found / f"{time.time_ns()}"
        name.write_bytes(recipe)
        name.with_suffix(".txt").write_text(traceback.format_exc())
        print(f"found: {name}\n{traceback.format_exc()}", flush=True)
        os._exit(1)


def _report(counts: collections.Counter[str]) -> None:
    print(
        f"{counts.total()} archives: {', '.join(f'{count} {kind}' for kind, count in counts.most_common())}", flush=True
    )
    os._exit(0)


def main() -> int:
    """Run the workers; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--worker", type=int, default=-1, help=argparse.SUPPRESS)
    given = parser.parse_args()
    seconds = max(1, int(given.minutes * 60))
    if given.worker >= 0:
        _worker(given.worker, seconds)
        return 0
    command = [sys.executable, __file__, "--minutes", str(given.minutes), "--worker"]
    workers = [subprocess.Popen([*command, str(at)]) for at in range(given.workers)]
    codes = [worker.wait() for worker in workers]
    return int(any(codes))


if __name__ == "__main__":
    sys.exit(main())

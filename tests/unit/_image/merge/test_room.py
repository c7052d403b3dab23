"""Random trees on real file systems: the computed volume is always large enough, and not much larger; `make room` has more of them.

FLYD_TREES is the number of trees.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings, target

from module_utils._thin.ext4.sizing import MIB
from tests.unit._image.trees import Measured, Part, archive, frees, measure, trees
from tests.unit.support.real import needs_loops

pytestmark = pytest.mark.slow
TREES = int(os.environ.get("FLYD_TREES", "6"))
MEMORY = Path("/dev/shm")


@pytest.fixture(scope="module")
def workplace() -> Iterator[Path]:
    """A directory in memory, where the kernel tells exactly which pages of a file were written."""
    made = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))
    yield made
    shutil.rmtree(made)


def judge(found: Measured, free_bytes: int | None) -> None:
    """What must hold of every tree; 16 MiB are what the kernel withholds from files."""
    room = 64 * MIB if free_bytes is None else max(8 * MIB, free_bytes)
    assert found.taken <= found.computed, found
    assert found.free >= room, found
    assert found.volume <= 1.3 * found.used + room + (0 if free_bytes is None else 16 * MIB), found
    for bound, written in zip(found.written_bounds, found.written, strict=True):
        assert written <= bound, found


@needs_loops
@settings(
    max_examples=TREES, deadline=None, derandomize=TREES < 20, database=None, suppress_health_check=list(HealthCheck)
)
@given(parts=trees, free_bytes=frees)
@example(parts=[Part("attributes", 300, 5, 4), Part("many attributes", 60, 40, 3)], free_bytes=None)
@example(parts=[Part("files", 400, 90_000, 60_000)], free_bytes=1 << 30)
@example(parts=[Part("hard links", 3000, 200, 1), Part("sparse", 30, 80, 7)], free_bytes=0)
def test_real_a_random_tree_fits_the_volume_that_was_computed_for_it(
    workplace: Path, parts: list[Part], free_bytes: int | None
) -> None:
    found = measure(workplace, archive(parts), free_bytes)
    if TREES >= 20:
        target(found.taken / found.computed, label="taken of computed")
        target(max(w / b for w, b in zip(found.written, found.written_bounds, strict=True)), label="written of bound")
    judge(found, free_bytes)

"""Freed memory is used again without page faults."""

from __future__ import annotations

import ctypes
import resource
import subprocess
import sys
from pathlib import Path

import pytest

BLOCK_BYTES = 1 << 18
ROUNDS = 200
# An interpreter of its own: whether glibc returns a block depends on what else lies in the heap.
PROGRAM = f"""
import resource, sys
sys.path.insert(0, sys.argv[1])
from module_utils._host.confinement.malloc import keep_freed_memory
if sys.argv[2] == "kept":
    keep_freed_memory({BLOCK_BYTES * 4})
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _round in range({ROUNDS}):
    blocks = [bytearray(b"x") * {BLOCK_BYTES} for _number in range(2)]
    del blocks
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults_of_rounds(kept: str) -> int:
    """Return the page faults of a process that allocates, fills and frees two blocks ``ROUNDS`` times."""
    plugins = Path(__file__).parents[4] / "plugins"
    argv = [sys.executable, "-c", PROGRAM, str(plugins), kept]
    return int(subprocess.run(argv, capture_output=True, check=True, text=True).stdout)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="not glibc")
def test_a_block_that_is_freed_and_allocated_again_has_its_pages() -> None:
    pages = BLOCK_BYTES // resource.getpagesize()
    assert faults_of_rounds("returned") > ROUNDS * pages
    assert faults_of_rounds("kept") < 5 * pages

"""What a download takes of memory does not grow with the object."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("boto3", reason="boto3 is not installed")

from bench.fetch_memory import peak, running
from bench.harness.measuring import MIB


def test_an_object_sixteen_times_as_large_takes_no_more_memory_to_speak_of(tmp_path: Path) -> None:
    with running() as url:
        small, large = (peak(url, size_mib, Path(sys.executable), tmp_path) for size_mib in (32, 512))
    assert 0 < small < 256 * MIB  # an interpreter that has to compile what it imports takes 170 of them
    assert large < small + 32 * MIB

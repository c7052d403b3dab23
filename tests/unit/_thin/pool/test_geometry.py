"""The sizes of a pool's parts."""

from __future__ import annotations

import pytest

from module_utils._errors import BadInput
from module_utils._thin.pool.geometry import MAX_METADATA_BYTES, MIB, compute_geometry, computed_metadata_bytes

GIB = 1 << 30
KIB = 1 << 10


def test_the_default_pool_needs_no_warning() -> None:
    geometry = compute_geometry(2 * GIB)
    assert geometry.warnings == ()
    assert (geometry.data_bytes, geometry.block_bytes, geometry.data_blocks) == (2 * GIB, 64 * KIB, 32768)
    assert geometry.metadata_bytes == 32768 * 48 + 1000 * 32 * 4096
    assert 0 < geometry.low_water_blocks < geometry.data_blocks


def test_metadata_grows_with_blocks_and_counts_the_snapshots_that_fit() -> None:
    assert computed_metadata_bytes(16) == computed_metadata_bytes(100) == 16 * MIB
    per_snapshot = 32 * 4096
    assert computed_metadata_bytes(200 * 16) == 200 * per_snapshot + 38 * 4096, (
        "48 bytes for each of 3200, in whole blocks"
    )
    assert computed_metadata_bytes(1_000_000) == 48_001_024 + 1000 * per_snapshot, "for a thousand snapshots"
    assert computed_metadata_bytes(1 << 40) == MAX_METADATA_BYTES


def test_a_large_pool_gets_larger_blocks_up_to_1_mib() -> None:
    sizes = [compute_geometry(gib * GIB).block_bytes for gib in (64, 65, 200, 1 << 14)]
    assert sizes == [64 * KIB, 128 * KIB, 256 * KIB, MIB]


def test_the_classic_values_are_taken_as_given_with_two_warnings() -> None:
    geometry = compute_geometry(2 * GIB, MIB, 2048 * 512, 32768)
    assert (geometry.metadata_bytes, geometry.block_sectors, geometry.low_water_blocks) == (MIB, 2048, 32768)
    assert [warning.split()[0] for warning in geometry.warnings] == ["metadata_size", "low_water_mark"]


def test_a_mark_one_below_the_pools_size_is_no_warning() -> None:
    assert compute_geometry(64 * MIB, low_water_blocks=1023).warnings == ()
    assert len(compute_geometry(64 * MIB, low_water_blocks=1024).warnings) == 1


def test_data_is_rounded_down_to_whole_blocks() -> None:
    geometry = compute_geometry(10 * MIB + 1, block_bytes=MIB)
    assert (geometry.data_bytes, geometry.data_blocks) == (10 * MIB, 10)


@pytest.mark.parametrize("block_bytes", [64 * KIB, 192 * KIB, GIB])
def test_multiples_of_64_kib_up_to_1_gib_are_blocks(block_bytes: int) -> None:
    assert compute_geometry(2 * GIB, block_bytes=block_bytes).block_bytes == block_bytes


@pytest.mark.parametrize("block_bytes", [0, 512, 32 * KIB, 96 * KIB, 64 * KIB + 1, GIB + 64 * KIB])
def test_other_block_sizes_are_refused(block_bytes: int) -> None:
    with pytest.raises(BadInput, match="block_size"):
        compute_geometry(2 * GIB, block_bytes=block_bytes)


@pytest.mark.parametrize("metadata_bytes", [0, 4096, 255 * KIB, MIB + 1])
def test_metadata_that_the_kernel_cannot_use_is_refused(metadata_bytes: int) -> None:
    with pytest.raises(BadInput, match="metadata_size"):
        compute_geometry(2 * GIB, metadata_bytes)


def test_metadata_beyond_what_the_kernel_uses_is_a_warning() -> None:
    assert "the kernel uses" in compute_geometry(GIB, 17 * GIB).warnings[0]


def test_less_data_than_a_block_is_refused() -> None:
    with pytest.raises(BadInput, match="less than one block"):
        compute_geometry(65535)
    assert compute_geometry(65536).low_water_blocks == 0


def test_a_negative_mark_is_refused() -> None:
    with pytest.raises(BadInput, match="negative"):
        compute_geometry(GIB, low_water_blocks=-1)

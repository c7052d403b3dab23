"""The texts of device-mapper: tables out, status lines in."""

from __future__ import annotations

import pytest

from module_utils._errors import Unsupported
from module_utils._thin.dm.table import MAX_THIN_ID, PoolMode, PoolStatus, PoolTable, ThinStatus, ThinTable

POOL = "0 131072 thin-pool "


def test_a_pool_table_reports_a_full_pool_as_an_error_and_zeroes_blocks() -> None:
    text = PoolTable("7:0", "7:1", data_sectors=131072, block_sectors=128, low_water_blocks=100).text()
    assert text == "0 131072 thin-pool 7:0 7:1 128 100 1 error_if_no_space"
    assert "skip_block_zeroing" not in text


def test_a_pool_table_without_features_counts_none() -> None:
    text = PoolTable("/dev/a", "/dev/b", 131072, 128, 0, error_if_no_space=False).text()
    assert text == "0 131072 thin-pool /dev/a /dev/b 128 0"


def test_a_read_only_pool_counts_two_features() -> None:
    text = PoolTable("7:0", "7:1", 131072, 128, 0, read_only=True).text()
    assert text.endswith(" 2 error_if_no_space read_only")


def test_a_thin_table_names_pool_and_number() -> None:
    assert ThinTable("253:0", MAX_THIN_ID, 2048).text() == "0 2048 thin 253:0 16777215"


def test_a_healthy_pool_is_read_in_full() -> None:
    status = PoolStatus.parse(POOL + "7 111/1024 3/1000 - rw discard_passdown error_if_no_space - 256 ")
    assert status == PoolStatus(
        mode=PoolMode.RW,
        transaction_id=7,
        used_metadata_blocks=111,
        total_metadata_blocks=1024,
        used_data_blocks=3,
        total_data_blocks=1000,
        held_metadata_root=None,
        discard="passdown",
        no_space_policy="error",
        needs_check=False,
        metadata_low_water=256,
    )
    assert status.free_data_percent == pytest.approx(99.7)
    assert status.free_metadata_percent == pytest.approx(100 * 913 / 1024)


@pytest.mark.parametrize(
    ("tail", "mode", "root", "check", "policy", "discard"),
    [
        ("9 ro no_discard_passdown queue_if_no_space needs_check 256", PoolMode.RO, 9, True, "queue", "no_passdown"),
        (
            "- out_of_data_space ignore_discard error_if_no_space - 256",
            PoolMode.OUT_OF_DATA_SPACE,
            None,
            False,
            "error",
            "ignore",
        ),
    ],
)
def test_every_state_of_a_pool_is_distinguished(
    tail: str, mode: PoolMode, root: int | None, check: bool, policy: str, discard: str
) -> None:
    status = PoolStatus.parse(POOL + "0 1/2 3/4 " + tail)
    assert (status.mode, status.held_metadata_root, status.needs_check) == (mode, root, check)
    assert (status.no_space_policy, status.discard) == (policy, discard)


@pytest.mark.parametrize(("word", "mode"), [("Fail", PoolMode.FAIL), ("Error", PoolMode.ERROR)])
def test_a_pool_that_has_failed_reports_nothing_else(word: str, mode: PoolMode) -> None:
    status = PoolStatus.parse(POOL + word)
    assert status == PoolStatus(mode)
    assert status.free_data_percent == 0.0


def test_older_kernels_leave_the_last_fields_out() -> None:
    without_mark = PoolStatus.parse(POOL + "0 1/2 3/4 - rw discard_passdown queue_if_no_space needs_check")
    assert (without_mark.needs_check, without_mark.metadata_low_water) == (True, None)
    assert not PoolStatus.parse(POOL + "0 1/2 3/4 - rw discard_passdown queue_if_no_space").needs_check


@pytest.mark.parametrize(
    "line",
    [
        "",
        "0 131072 thin-pool",
        "0 131072 thin 0 -",
        "x y thin-pool Fail",
        POOL + "0 1/2 3/4 - wr discard_passdown error_if_no_space -",
        POOL + "0 1 3/4 - rw discard_passdown error_if_no_space -",
        POOL + "0 1/2 3/4 - rw discard_passdown error_if_no_space perhaps",
        POOL + "0 1/2 3/4 - rw",
    ],
)
def test_a_line_that_is_not_understood_is_refused(line: str) -> None:
    with pytest.raises(Unsupported, match="is not one of a thin device"):
        PoolStatus.parse(line)


def test_the_status_of_a_volume() -> None:
    assert ThinStatus.parse("0 2048 thin 1024 2047") == ThinStatus(1024)
    assert ThinStatus.parse("0 2048 thin 0 -") == ThinStatus(0)
    assert ThinStatus.parse("0 2048 thin Fail").failed
    with pytest.raises(Unsupported):
        ThinStatus.parse("0 2048 thin many of them")

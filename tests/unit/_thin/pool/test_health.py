"""Which pools may be worked with."""

from __future__ import annotations

from typing import Any

import pytest

from module_utils._errors import DamagedPool, FlydError, NoSpace
from module_utils._thin.dm.table import PoolMode, PoolStatus
from module_utils._thin.pool.health import require_healthy

HEALTHY = PoolStatus(
    PoolMode.RW,
    used_metadata_blocks=112,
    total_metadata_blocks=1024,
    used_data_blocks=50,
    total_data_blocks=100,
    metadata_low_water=256,
)


def test_a_healthy_pool_passes() -> None:
    require_healthy(HEALTHY, 10)


@pytest.mark.parametrize(
    ("facts", "error", "said"),
    [
        ({"mode": PoolMode.FAIL}, DamagedPool, "has failed"),
        ({"mode": PoolMode.ERROR}, DamagedPool, "has failed"),
        ({"mode": PoolMode.RO}, DamagedPool, "could not be written"),
        ({"mode": PoolMode.RO, "used_metadata_blocks": 1000}, NoSpace, "metadata is full"),
        ({"mode": PoolMode.RO, "needs_check": True}, DamagedPool, "needs_check"),
        ({"needs_check": True}, DamagedPool, "needs_check"),
        ({"mode": PoolMode.OUT_OF_DATA_SPACE}, NoSpace, "out of data space"),
        ({"used_data_blocks": 91}, NoSpace, "9.0 % of its data space"),
        ({"used_metadata_blocks": 1000}, NoSpace, "2.3 % of its metadata space"),
    ],
)
def test_a_pool_in_trouble_is_refused_with_the_way_out(
    facts: dict[str, Any], error: type[FlydError], said: str
) -> None:
    with pytest.raises(error, match=said) as caught:
        require_healthy(HEALTHY._replace(**facts), 10)
    assert ("state: repaired" if error is DamagedPool else "remove images") in caught.value.hint


def test_exactly_the_least_free_space_is_enough() -> None:
    require_healthy(HEALTHY._replace(used_data_blocks=90), 10)

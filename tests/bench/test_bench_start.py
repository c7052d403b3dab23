"""The benchmark of starts ships every module and runs it both ways."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

pytest.importorskip("ansible.executor", reason="ansible-core is not installed")

from bench.start import ABSENT, Shipped, measure
from tests.unit.support.engines import CAN_TRY, ROOT_ALONE, WHY_NOT

pytestmark = pytest.mark.skipif(not CAN_TRY, reason=WHY_NOT)


def test_each_module_is_measured_without_and_with_the_engine() -> None:
    with tempfile.TemporaryDirectory(prefix="flyd-bench-", dir=ROOT_ALONE) as directory:
        found = measure(Shipped(Path(directory)), rounds=1)
    assert set(found) == {(name, compiled) for name in ("ping", *ABSENT) for compiled in (True, False)}
    assert min(found.values()) > 0

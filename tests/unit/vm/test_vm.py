"""Names and ports of machines, without a machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from disks.cache import Cache
from programs import LabError
from vm import Vm, known_vms


@pytest.mark.parametrize("name", ["", "Vm1", "1vm", "../vm", "a b", "a,b", "a" * 32])
def test_a_name_that_is_no_host_name_is_refused(name: str) -> None:
    with pytest.raises(LabError, match="no name for a VM"):
        Vm(Cache(Path("/c")), name)


def test_a_cache_too_deep_for_sockets_is_refused_before_anything_starts() -> None:
    with pytest.raises(LabError, match="FLYD_LAB_CACHE"):
        Vm(Cache(Path("/") / ("d" * 90)), "vm1")


def test_a_machine_that_was_never_up_has_no_port() -> None:
    with pytest.raises(LabError, match=r"lab\.py up"):
        Vm(Cache(Path("/c")), "vm1").port  # noqa: B018 - reading it is what must fail


def test_machines_are_listed_in_natural_order(tmp_path: Path) -> None:
    for name in ("vm10", "vm2", "vm1"):
        (tmp_path / "run" / "vms" / name).mkdir(parents=True)
        (tmp_path / "run" / "vms" / name / "port").write_text("22001\n")
    (tmp_path / "run" / "vms" / "half").mkdir()
    assert [vm.name for vm in known_vms(Cache(tmp_path))] == ["vm1", "vm2", "vm10"]

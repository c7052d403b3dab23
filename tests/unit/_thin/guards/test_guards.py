"""What a host must have so that it does not read what guests write: each part that is missing is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from module_utils._thin.dm.device import Device
from tests.unit._thin.host_files import RULE, Files, prepared_host

SNAP = Device("snap-1", "FLYD-1-snap", 254, 3, suspended=False, read_only=False, sectors=8)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """A host with udev and the rule, without LVM and mdadm."""
    return prepared_host(tmp_path)


def test_a_prepared_host_lacks_nothing(files: Files) -> None:
    files.put("run/udev/data/b254:3", "S:mapper/snap-1\nE:FLYD_RULES=1\n")
    assert files.missing(SNAP) == []


def test_a_host_without_udev_lacks_nothing(files: Files) -> None:
    (files.root / "run/udev/control").unlink()
    (files.root / "etc/udev/rules.d/10-flyd.rules").unlink()
    files.program("lvm")
    assert files.missing(SNAP) == []


def test_a_missing_rule_is_named_with_what_to_do(files: Files) -> None:
    (files.root / "etc/udev/rules.d/10-flyd.rules").unlink()
    [line] = files.missing(SNAP)
    assert line.startswith("the udev rule 10-flyd.rules is missing")
    assert "flyd.lite.prepare" in line


def test_a_device_that_came_up_before_the_rule_is_named(files: Files) -> None:
    files.put("run/udev/data/b254:3", "S:mapper/snap-1\nE:ID_FS_TYPE=ext4\n")
    [line] = files.missing(SNAP)
    assert "has not been applied to snap-1" in line
    assert "udevadm trigger" in line


@pytest.mark.parametrize(
    "settings", ["", '# global_filter = [ "r|/dev/disk/by-path/flyd-|" ]', 'global_filter = [ "a|.*|" ]']
)
def test_lvm_without_the_filter_is_named(files: Files, settings: str) -> None:
    files.program("lvm")
    files.put("etc/lvm/lvm.conf", settings)
    [line] = files.missing()
    assert "LVM may read" in line
    assert "r|/dev/disk/by-path/flyd-|" in line


@pytest.mark.parametrize("path", ["etc/lvm/lvm.conf", "etc/lvm/lvmlocal.conf"])
def test_lvm_with_the_filter_is_not(files: Files, path: str) -> None:
    files.program("lvm")
    files.put(path, 'devices/global_filter = [ "r|/dev/disk/by-path/flyd-|" ]')
    assert files.missing() == []


def test_the_rule_gives_the_name_that_lvm_looks_for_and_the_mark_that_is_looked_for() -> None:
    assert 'SYMLINK+="disk/by-path/flyd-%k"' in RULE
    assert 'ENV{FLYD_RULES}="1"' in RULE

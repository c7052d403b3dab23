"""The rule of udev: whether the host has it, in this release's version, and which devices udev has not processed with it."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from module_utils._thin.guards import udev_rule
from module_utils._thin.guards.udev_rule import missing_rule, not_applied
from tests.unit._thin.host_files import RULE, Files, prepared_host

POOL_FILE = f"/var/lib/flyd/pools/{'0' * 26}/data"


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """A host with udev and the rule, and a block device of each sort."""
    made = prepared_host(tmp_path)
    made.put("sys/block/dm-0/dm/uuid", "FLYD-1-pool\n")
    made.put("sys/block/dm-1/dm/uuid", "LVM-others\n")
    made.put("sys/block/loop0/loop/backing_file", f"{POOL_FILE}\n")
    made.put("sys/block/loop1/loop/backing_file", "/srv/pools/others/data\n")
    made.put("sys/block/vda/dev", "254:0\n")
    for name, number in (("dm-0", "253:0"), ("dm-1", "253:1"), ("loop0", "7:0"), ("loop1", "7:1")):
        made.put(f"sys/block/{name}/dev", f"{number}\n")
        made.put(f"run/udev/data/b{number}", "S:disk/by-id/x\nE:ID_FS_TYPE=\n")
    return made


def test_an_own_device_and_a_loop_of_a_pool_are_found_until_udev_has_seen_them_with_the_rule(files: Files) -> None:
    assert not_applied(str(files.root)) == ["dm-0", "loop0"]
    files.put("run/udev/data/b253:0", "E:FLYD_RULES=1\n")
    assert not_applied(str(files.root)) == ["loop0"]
    files.put("run/udev/data/b7:0", "S:disk/by-path/flyd-loop0\nE:FLYD_RULES=1\nG:systemd\n")
    assert not_applied(str(files.root)) == []


@pytest.mark.parametrize("record", ["", "E:FLYD_RULES=0\n", "E:FLYD_RULES=\n", "E:FLYD_RULES=10\n"])
def test_another_version_of_the_rule_counts_as_none(files: Files, record: str) -> None:
    files.put("run/udev/data/b253:0", record)
    assert "dm-0" in not_applied(str(files.root))


def test_a_host_without_block_devices_or_records_is_no_error(tmp_path: Path) -> None:
    assert not_applied(str(tmp_path)) == []


def test_the_file_runs_without_the_collection(files: Files) -> None:
    """As the role prepare runs it: as text, by the host's Python."""
    assert udev_rule.__file__ is not None
    program = f"{Path(udev_rule.__file__).read_text()}\nprint(*not_applied({str(files.root)!r}))"
    argv = [sys.executable, "-I", "-c", program]
    assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout == "dm-0 loop0\n"


@pytest.mark.parametrize("directory", ["etc", "run"])
def test_a_rule_that_is_masked_or_of_another_version_is_reported(files: Files, directory: str) -> None:
    (files.root / "etc/udev/rules.d/10-flyd.rules").unlink()
    files.put("usr/lib/udev/rules.d/10-flyd.rules", RULE)
    assert missing_rule([], root=str(files.root)) == []
    for text in ("", RULE.replace('ENV{FLYD_RULES}="1"', 'ENV{FLYD_RULES}="0"')):
        files.put(f"{directory}/udev/rules.d/10-flyd.rules", text)
        [line] = missing_rule([], root=str(files.root))
        assert f"{directory}/udev/rules.d/10-flyd.rules is not the udev rule of this release" in line
        assert "flyd.lite.prepare" in line


def test_a_rule_that_does_something_else_has_another_version() -> None:
    """Else the role would not apply it to the devices of hosts that have the earlier one. Change the version, then this line."""
    effective = "\n".join(line for line in RULE.splitlines() if line and not line.startswith("#"))
    assert re.findall(r'ENV\{FLYD_RULES\}="(\w+)"', effective) == [udev_rule.VERSION]
    digest = hashlib.sha256(effective.encode()).hexdigest()[:16]
    assert (udev_rule.VERSION, digest) == ("1", "28f903e0209ae5a8")

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The units of systemd are confined, and nothing that they work with is hidden from them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

jinja2 = pytest.importorskip("jinja2", reason="Jinja is not installed")
yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")

ROLE = Path(__file__).parents[4] / "roles/prepare"
UNITS = ("flyd-restore.service", "flyd-grow.service", "flyd-backup.service", "flyd-metrics.service")
MOST_EXPOSURE = 2.5
VARIABLES = yaml.safe_load((ROLE / "vars/main.yml").read_text())


def rendered(unit: str, **given: Any) -> str:
    """The unit as the role installs it."""
    values = {
        "prepare_state_dir": "/var/lib/flyd",
        "prepare_python": "/usr/bin/python3",
        "prepare_textfile_directory": "/var/lib/prometheus/node-exporter",
        "__prepare_uses_home": False,
        "__prepare_uses_tmp": False,
        "__prepare_protects_state": False,
        **{name: VARIABLES[name] for name in ("__prepare_venv", "__prepare_program", "__prepare_sandbox")},
    }
    text = (ROLE / f"templates/{unit}.j2").read_text()
    made: str = jinja2.Environment(undefined=jinja2.StrictUndefined).from_string(text).render({**values, **given})
    return made


def settings(unit: str, **given: Any) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", rendered(unit, **given), re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


@pytest.mark.parametrize("unit", UNITS)
def test_nothing_is_hidden_that_locks_and_devices_depend_on(unit: str) -> None:
    """A process of another run that cannot be seen would be taken for one that is gone; udev answers dmsetup by semaphores."""
    found = settings(unit)
    for name in ("ProtectProc", "ProcSubset", "PrivateIPC", "PrivateDevices", "PrivateUsers", "DynamicUser", "User"):
        assert name not in found
    assert found["NoNewPrivileges"] == ["yes"]
    assert found["CapabilityBoundingSet"][0].split()[0] == "CAP_SYS_ADMIN"


@pytest.mark.parametrize("unit", UNITS)
def test_what_lies_in_a_home_is_seen_only_where_it_is_needed(unit: str) -> None:
    assert settings(unit)["ProtectHome"] == ["yes"]
    assert settings(unit, __prepare_uses_home=True)["ProtectHome"] == ["read-only"]
    assert settings(unit)["PrivateTmp"] == ["yes"]
    assert settings(unit, __prepare_uses_tmp=True)["PrivateTmp"] == ["no"]


@pytest.mark.parametrize("unit", UNITS)
def test_the_exposure_is_what_the_guide_says(unit: str, tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if (
        program is None
        or b"--offline" not in subprocess.run([program, "--help"], capture_output=True, check=False).stdout
    ):
        pytest.skip("systemd-analyze is not installed, or too old")
    (tmp_path / unit).write_text(rendered(unit))
    done = subprocess.run(
        [program, "security", "--offline=yes", "--no-pager", tmp_path / unit],
        capture_output=True,
        text=True,
        check=False,
    )
    figure = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert figure is not None, done.stdout + done.stderr
    assert float(figure[1]) <= MOST_EXPOSURE
    if "systemd 252" in subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout:
        row = rf"`{re.escape(unit)}`.*\| {re.escape(figure[1])} \|"
        assert re.search(row, (ROLE.parents[1] / "docs/security.md").read_text()), figure[1]


def test_the_state_directory_is_no_mount_of_its_own_without_need() -> None:
    """Else `losetup` would show the files of the pool by another path once the unit has ended."""
    for unit in ("flyd-restore.service", "flyd-grow.service", "flyd-backup.service"):
        assert "ReadWritePaths" not in settings(unit)
        assert settings(unit, __prepare_protects_state=True)["ReadWritePaths"] == ["/var/lib/flyd"]


PATHS = [
    ("/var/lib/flyd", True),
    ("/srv/a-b_c.d+e@f:g", True),
    ("/srv/ä", True),
    ("relative", False),
    ("/with space", False),
    ("/a\nExecStart=/bin/sh", False),
    ("/a%h", False),
    ('/a"b', False),
    ("/a'b", False),
    ("/a\\b", False),
    ("/$HOME", False),
    ("/a;b", False),
]


@pytest.mark.parametrize(("path", "is_taken"), PATHS)
def test_a_path_that_systemd_would_read_otherwise_is_refused(path: str, is_taken: bool) -> None:
    tasks = yaml.safe_load((ROLE / "tasks/units.yml").read_text())
    environment = jinja2.Environment()
    environment.tests["match"] = lambda text, pattern: re.match(pattern, text) is not None
    assert environment.compile_expression(tasks[0]["ansible.builtin.assert"]["that"])(item=path) == is_taken

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each option of the roles prepare and unprepare does in each situation: the data that test_options_of_host_roles.py evaluates.

A new option needs a row for each situation of its role; the test says which are missing. A row is the option's value (``LEFT_OUT``: none), and
expressions of the role with what they are then: a variable, or ``when TASK`` for whether a task runs. The options of activate, deactivate
and prune are those of modules: tests/unit/modules/options_table.py.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

LEFT_OUT = object()
SYSTEMD = "/etc/systemd/system"
DEFAULT_PACKAGES = ("dmsetup", "e2fsprogs", "kmod", "python3-venv", "thin-provisioning-tools", "util-linux")


class Row(NamedTuple):
    """One option in one situation; ``shows`` has expressions and their values, ``also`` further variables, ``shown_by`` tests of the rest."""

    role: str
    option: str
    situation: str
    value: Any
    shows: Mapping[str, Any]
    also: Mapping[str, Any] = {}
    shown_by: tuple[str, ...] = ()


def _files(*names: str) -> list[dict[str, str]]:
    return [{"path": f"{SYSTEMD}/{name}"} for name in names]


RESTORE = ("multi-user.target.wants/flyd-restore.service", "flyd-restore.service")
GROW = ("multi-user.target.wants/flyd-grow.service", "flyd-grow.service")
BACKUP = ("timers.target.wants/flyd-backup.timer", "flyd-backup.service", "flyd-backup.timer")
METRICS = ("timers.target.wants/flyd-metrics.timer", "flyd-metrics.service", "flyd-metrics.timer")
ALWAYS = ("flyd-restore.service", "flyd-grow.service", "flyd-backup.service", "flyd-backup.timer")
_MDADM = {
    "is_installed": True,
    "is_wanted": True,
    "has_directory": True,
    "drop_in": "/etc/mdadm/mdadm.conf.d/flyd.conf",
}
_EXEC = "ExecStart=/opt/flyd/venv/bin/python -I program metrics /var/lib/flyd /numbers/flyd.prom\n"
_LOOK = {
    "state_dir": "/var/lib/flyd",
    "held": [],
    "stop": ["flyd-restore.service"],
    "packages": ["kmod"],
    "kept": [],
}
_NOTHING: dict[str, list[str]] = {"pools": [], "snapshots": [], "operations": []}
# By role and situation, what the role has found on the host.
SITUATIONS: dict[str, dict[str, dict[str, Any]]] = {
    "prepare": {
        "new": {
            "__prepare_installed": {"stdout_lines": []},
            "__prepare_looked": {"id": "", "left": [], "python": "3.11"},
            "__prepare_plan": {"id": "a plan", "wheels": []},
            "__prepare_unit_files": {"files": []},
            "__prepare_metrics_unit": {},
            "__prepare_mdadm": _MDADM,
        },
        "prepared": {
            "__prepare_installed": {"stdout_lines": [f"ii  {name}" for name in DEFAULT_PACKAGES]},
            "__prepare_looked": {"id": "a plan", "left": [], "python": "3.11"},
            "__prepare_plan": {"id": "a plan", "wheels": []},
            "__prepare_unit_files": {"files": _files(*RESTORE, *GROW, *BACKUP, *METRICS)},
            "__prepare_metrics_unit": {"content": base64.b64encode(_EXEC.encode()).decode()},
            "__prepare_mdadm": _MDADM,
        },
    },
    "unprepare": {
        "prepared": {"__unprepare_look": _LOOK, "__unprepare_report": _NOTHING},
        "left": {"__unprepare_look": {**_LOOK, "stop": [], "packages": []}, "__unprepare_report": _NOTHING},
        "held": {"__unprepare_look": _LOOK, "__unprepare_report": {**_NOTHING, "pools": [{"name": "pool"}]}},
    },
}


def rows(role: str, option: str, situations: str, value: Any, shows: Mapping[str, Any], **more: Any) -> list[Row]:
    """The same in several situations, named in one string."""
    return [Row(role, f"{role}_{option}", situation, value, shows, **more) for situation in situations.split()]


def _prepare() -> Iterable[Row]:
    role, every = "prepare", "new prepared"
    numbers = {"prepare_textfile_directory": "/numbers"}
    yield from rows(role, "packages", "new", ["kmod", "xz"], {"__prepare_missing | sort": ["kmod", "xz"]})
    yield from rows(role, "packages", "prepared", ["kmod", "xz"], {"__prepare_missing | sort": ["xz"]})
    yield from rows(role, "packages", "prepared", LEFT_OUT, {"__prepare_missing": [], "__prepare_predicted": []})
    yield from rows(role, "packages", every, [], {"__prepare_missing": []})
    installed = {"stdout_lines": ["ii  kmod", "package device-mapper is not installed"]}
    red_hat = {"ansible_facts": {"os_family": "RedHat"}, "__prepare_installed": installed}
    missing = ["device-mapper", "device-mapper-persistent-data", "e2fsprogs", "python3", "util-linux"]
    yield from rows(role, "packages", "new", LEFT_OUT, {"__prepare_missing | sort": missing}, also=red_hat)
    written = "when Restrict mdadm to the arrays that are listed"
    removed = "when Remove the restriction of mdadm to listed arrays"
    arrays = ("tests/unit/_thin/guards/test_mdadm.py::test_the_role_runs_what_is_tested_here",)
    for value in (LEFT_OUT, True):
        yield from rows(role, "mdadm", every, value, {written: True, removed: False}, shown_by=arrays)
    yield from rows(role, "mdadm", every, False, {written: False, removed: True})
    yield from rows(role, "python", every, "/opt/python", {"__prepare_record_command[0]": "/opt/python"})
    yield from rows(
        role, "python", "new", LEFT_OUT, {"__prepare_record_command[0]": "/usr/bin/python3", "__prepare_stale": True}
    )
    plan = ("tests/unit/roles/prepare/test_plan.py::test_the_same_makes_the_same_id_and_anything_else_another",)
    yield from rows(role, "python", "prepared", LEFT_OUT, {"__prepare_stale": False}, shown_by=plan)
    names, unwanted = "__prepare_units | map(attribute='name')", "__prepare_unwanted"
    for value in (LEFT_OUT, True):
        yield from rows(role, "restore", every, value, {names: list(ALWAYS)})
        yield from rows(role, "grow", every, value, {names: list(ALWAYS)})
        yield from rows(role, "backup", every, value, {names: list(ALWAYS)})
    for option, units in (("restore", RESTORE), ("grow", GROW), ("backup", BACKUP)):
        others = [name for name in ALWAYS if name not in units]
        yield from rows(role, option, "new", False, {names: others, unwanted: []})
        gone = [f"{SYSTEMD}/{name}" for name in units]
        yield from rows(role, option, "prepared", False, {unwanted: gone}, also=numbers)
    yield from rows(role, "restore", "prepared", True, {unwanted: []}, also=numbers)
    unit = "lookup('ansible.builtin.template', role_path ~ '/templates/flyd-restore.service.j2')"
    paths = ("tests/unit/roles/prepare/test_units.py::test_a_path_that_systemd_would_read_otherwise_is_refused",)
    for given, state in (("/srv/flyd", "/srv/flyd"), (LEFT_OUT, "/var/lib/flyd")):
        shown = {f"' restore {state}' in {unit}": True, "__prepare_recorded.state_dir": state}
        yield from rows(role, "state_dir", every, given, shown, shown_by=paths)
    metrics = [*ALWAYS, "flyd-metrics.service", "flyd-metrics.timer"]
    yield from rows(
        role, "textfile_directory", every, "/numbers", {names: metrics, unwanted: [], "__prepare_numbers": []}
    )
    moved = {names: metrics, unwanted: [], "__prepare_numbers": ["/numbers/flyd.prom"]}
    yield from rows(role, "textfile_directory", "prepared", "/other", moved, shown_by=paths)
    gone = [f"{SYSTEMD}/{name}" for name in METRICS]
    left = {names: list(ALWAYS), unwanted: gone, "__prepare_numbers": ["/numbers/flyd.prom"]}
    yield from rows(role, "textfile_directory", "prepared", LEFT_OUT, left)
    wheels = ("tests/unit/roles/prepare/test_plan.py::test_wheels_that_are_listed_are_sent_and_pip_is_not_installed",)
    yield from rows(
        role, "wheels", every, "/srv/wheels", {"__prepare_plan_command.split()[-1]": "/srv/wheels"}, shown_by=wheels
    )
    yield from rows(role, "wheels", every, LEFT_OUT, {"__prepare_plan_command.split()[-1]": "3.11"})
    yield from _other_variables(role)


def _unprepare() -> Iterable[Row]:
    role, free = "unprepare", "prepared left"
    listed, removed = "when List the contents of the state directory", "when Remove the empty state directory"
    state = ("tests/unit/roles/test_unprepare.py::test_all_of_it_goes_the_database_last",)
    yield from rows(role, "state", free, True, {listed: True, removed: True}, shown_by=state)
    for value in (LEFT_OUT, False):
        yield from rows(role, "state", free, value, {listed: False, removed: False})
    of_record = ("tests/unit/roles/test_unprepare.py::test_the_state_directory_is_that_of_the_last_prepare",)
    yield from rows(role, "state_dir", free, "/srv/flyd", {"__unprepare_look_command[-1]": "/srv/flyd"})
    yield from rows(role, "state_dir", free, LEFT_OUT, {"__unprepare_look_command[-1]": ""}, shown_by=of_record)
    asked = "when Ask apt which installed packages can go"
    apt = ("tests/unit/roles/test_unprepare.py::test_one_that_others_need_stays_with_what_it_needs",)
    yield from rows(role, "packages", "prepared", True, {asked: True}, shown_by=apt)
    yield from rows(role, "packages", "left", True, {asked: False})
    for value in (LEFT_OUT, False):
        yield from rows(role, "packages", free, value, {asked: False})
    yield from rows(role, "python", free, "/opt/python", {"__unprepare_look_command[0]": "/opt/python"})
    yield from rows(role, "python", free, LEFT_OUT, {"__unprepare_look_command[0]": "/usr/bin/python3"})
    yield from _other_variables(role)
    # Whatever is given: the role ends before its first change.
    for option, value in (("state", True), ("state_dir", "/srv/flyd"), ("packages", True), ("python", "/opt/python")):
        yield from rows(role, option, "held", value, {"__unprepare_held": ["the pool pool"]})


def _other_variables(role: str) -> Iterable[Row]:
    every, also = " ".join(SITUATIONS[role]), {f"{role}_of_another": 1}
    passes = ("tests/unit/roles/test_variables.py::test_what_the_role_has_passes",)
    yield from rows(
        role, "other_variables", every, [f"{role}_of_another"], {f"__{role}_unknown": []}, also=also, shown_by=passes
    )
    yield from rows(role, "other_variables", every, LEFT_OUT, {f"__{role}_unknown": [f"{role}_of_another"]}, also=also)


ROWS = [*_prepare(), *_unprepare()]

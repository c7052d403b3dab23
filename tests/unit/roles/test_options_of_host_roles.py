# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""No option of prepare and unprepare is ignored in silence: every row of options_table.py is evaluated by Ansible, and no row is missing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ansible", reason="ansible-core is not installed")

import yaml

from tests.unit.roles.options_table import LEFT_OUT, ROWS, SITUATIONS, Row

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]
ROLES = tuple(SITUATIONS)


def options_of(role: str) -> set[str]:
    specs = yaml.safe_load((ROOT / "roles" / role / "meta/argument_specs.yml").read_text())
    return set(specs["argument_specs"]["main"]["options"])


def tasks_of(role: str) -> Iterator[dict[str, Any]]:
    """All tasks of the role, those of blocks after their block."""
    for path in sorted((ROOT / "roles" / role / "tasks").glob("*.yml")):
        yield from _flat(yaml.safe_load(path.read_text()))


def _flat(tasks: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for task in tasks:
        yield task
        for part in ("block", "rescue", "always"):
            yield from _flat(task.get(part, []))


@pytest.mark.parametrize("role", ROLES)
def test_every_option_has_a_row_for_every_situation(role: str) -> None:
    there = {(row.option, row.situation) for row in ROWS if row.role == role}
    wanted = {(option, situation) for option in options_of(role) for situation in SITUATIONS[role]}
    assert sorted(wanted - there) == [], "add rows to tests/unit/roles/options_table.py"
    assert sorted(there - wanted) == [], "rows of options that the role does not have"


def test_the_tests_that_rows_name_are_there() -> None:
    named = {one for row in ROWS for one in row.shown_by}
    for path, name in (one.split("::") for one in sorted(named)):
        assert re.search(rf"^ *def {name}\(", (ROOT / path).read_text(), re.MULTILINE), f"{path} has no {name}"


def expression(row: Row, shown: str) -> str:
    """The expression of ``shown``, of which ``when TASK`` stands for the conditions of that task."""
    name = shown.removeprefix("when ")
    if name == shown:
        return shown
    [task] = [task for task in tasks_of(row.role) if task.get("name") == name]
    conditions = task["when"] if isinstance(task["when"], list) else [task["when"]]
    return " and ".join(f"({one})" for one in conditions)


def task_of(number: int, row: Row) -> dict[str, Any]:
    """Evaluate a row: its expressions, with what the role has found in the situation, and the option."""
    given = {} if row.value is LEFT_OUT else {row.option: row.value}
    found = {shown: "{{ " + expression(row, shown) + " }}" for shown in row.shows}
    variables = {**SITUATIONS[row.role][row.situation], **row.also, **given}
    return {"ansible.builtin.set_fact": {f"row_{number}": found}, "vars": variables}


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, Any]]:
    """By the number of the row, its expressions and what they are; one run of Ansible, as starting it takes longest."""
    directory = tmp_path_factory.mktemp("play")
    plays = []
    for role in ROLES:
        numbers = [number for number, row in enumerate(ROWS) if row.role == role]
        kept = {str(number): "{{ row_" + str(number) + " }}" for number in numbers}
        copy = {"content": "{{ kept | to_json }}", "dest": str(directory / role), "mode": "0600"}
        tasks = [
            *(task_of(number, ROWS[number]) for number in numbers),
            {"ansible.builtin.copy": copy, "vars": {"kept": kept}},
        ]
        files = [str(ROOT / "roles" / role / name / "main.yml") for name in ("defaults", "vars")]
        variables = {"role_path": str(ROOT / "roles" / role), "ansible_python_interpreter": sys.executable}
        play = {"hosts": "localhost", "gather_facts": False, "connection": "local", "tasks": tasks}
        plays.append({**play, "vars_files": files, "vars": variables})
    (directory / "play.json").write_text(json.dumps(plays))
    argv = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", str(directory / "play.json")]
    environment = {**os.environ, "ANSIBLE_LOCALHOST_WARNING": "false"}
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return {int(number): row for role in ROLES for number, row in json.loads((directory / role).read_text()).items()}


@pytest.mark.parametrize("number", range(len(ROWS)), ids=lambda number: "-".join(ROWS[number][1:3]) + f"-{number}")
def test_an_option_does_what_the_table_says(shown: dict[int, dict[str, Any]], number: int) -> None:
    assert shown[number] == dict(ROWS[number].shows)

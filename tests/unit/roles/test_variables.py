# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Variables with the prefix of a role: its options pass, all others are refused, with the options that are alike."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.slow

pytest.importorskip("ansible", reason="ansible-core is not installed")

ROOT = Path(__file__).parents[3]
ROLES = ("activate", "deactivate", "prune", "prepare", "unprepare", "rollout", "fleet")
ALIKE = {"rollout": "rollout_short"}  # for roles without a state_dir of their own
PASSES = ("options", "result", "listed")


def options_of(role: str) -> dict[str, Any]:
    specs = yaml.safe_load((ROOT / "roles" / role / "meta/argument_specs.yml").read_text())
    options: dict[str, Any] = specs["argument_specs"]["main"]["options"]
    return options


def tasks_of(role: str) -> Iterator[dict[str, Any]]:
    """The first task of the role alone, with its options, a misspelt one, and one of another role."""
    files = (ROOT / "roles" / role / "tasks" / name for name in ("shared/variables.yml", "variables.yml", "main.yml"))
    [refuse] = [
        task
        for path in files
        if path.exists()
        for task in _flat(yaml.safe_load(path.read_text()))
        if "ansible.builtin.assert" in task
    ][:1]
    name = f"{role}_sise"
    given: dict[str, dict[str, Any]] = {
        "options": dict.fromkeys(options_of(role), "x") | {f"{role}_other_variables": []},
        "unknown": {name: 1, f"{role}_sise_too": 1},
        "result": {f"{role}_result": {}} if role in ("activate", "prune") else {},
        "listed": {name: 1, f"{role}_other_variables": [name]},
        "broken": {name: "{{ there_is_no_such_variable }}"},
    }
    for case, variables in given.items():
        yield {**refuse, "name": case, "vars": variables, "register": f"__{case}", "ignore_errors": True}


def _flat(tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [inner for task in tasks for inner in (_flat(task["block"]) if "block" in task else [task])]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """By role and case, the result of the task; one run of Ansible for all of them."""
    directory = tmp_path_factory.mktemp("play")
    plays = []
    for role in ROLES:
        keep = "{{ {" + ", ".join(f"'{task['name']}': {task['register']}" for task in tasks_of(role)) + "} | to_json }}"
        copy = {"content": keep, "dest": str(directory / f"{role}.json"), "mode": "0600"}
        play = {"hosts": "localhost", "gather_facts": False, "connection": "local"}
        files = [str(ROOT / "roles" / role / "vars/main.yml")]
        variables = {"role_path": str(ROOT / "roles" / role), "ansible_python_interpreter": sys.executable}
        plays.append(
            {**play, "vars_files": files, "vars": variables, "tasks": [*tasks_of(role), {"ansible.builtin.copy": copy}]}
        )
    (directory / "play.json").write_text(json.dumps(plays))
    argv = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", str(directory / "play.json")]
    done = subprocess.run(
        argv, capture_output=True, text=True, check=False, env={**os.environ, "ANSIBLE_LOCALHOST_WARNING": "false"}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return {role: json.loads((directory / f"{role}.json").read_text()) for role in ROLES}


@pytest.mark.parametrize("case", PASSES)
@pytest.mark.parametrize("role", ROLES)
def test_what_the_role_has_passes(results: dict[str, dict[str, Any]], role: str, case: str) -> None:
    assert not results[role][case].get("failed"), results[role][case]


@pytest.mark.parametrize("role", ROLES)
def test_what_the_role_has_not_is_refused_and_named(results: dict[str, dict[str, Any]], role: str) -> None:
    result = results[role]["unknown"]
    assert result["failed"]
    assert f"has no option {role}_sise, {role}_sise_too." in result["msg"]
    assert ALIKE.get(role, f"{role}_state_dir") in result["msg"]  # it begins alike
    assert f"ansible-doc -t role flyd.lite.{role}" in result["msg"]


@pytest.mark.parametrize("role", ROLES)
def test_an_unknown_variable_is_refused_without_being_templated(results: dict[str, dict[str, Any]], role: str) -> None:
    assert "has no option" in results[role]["broken"]["msg"]

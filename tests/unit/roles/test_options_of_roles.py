# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every option of a role is passed to a module, whose table says what it does, or is in the table here; what activate returns."""

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
import yaml

pytest.importorskip("ansible", reason="ansible-core is not installed")

from tests.unit.modules.modules import MODULES, source

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]
ROLES = ("activate", "deactivate", "prune")
OTHERS = ("flyd_instance", "flyd_prune", "flyd_info")  # modules that the role activate does not call
GROUP = "group/flyd.lite.flyd"  # of module_defaults
# Options that no module gets, and what they do.
OWN = {
    "activate_other_variables": "names that the first task lets pass: tests/unit/roles/test_variables.py",
    "prune_other_variables": "names that the first task lets pass: tests/unit/roles/test_variables.py",
    "deactivate_other_variables": "names that the first task lets pass: tests/unit/roles/test_variables.py",
    "deactivate_instances": "a list: its items are the name of one call of flyd_instance each",
}
# Options of a role that say whether an option of a module is passed at all.
SWITCHES = {"activate_check_room": "flyd_fetch's pool"}


def options_of(role: str) -> dict[str, Any]:
    specs = yaml.safe_load((ROOT / "roles" / role / "meta/argument_specs.yml").read_text())
    options: dict[str, Any] = specs["argument_specs"]["main"]["options"]
    return options


def tasks_of(role: str) -> Iterator[dict[str, Any]]:
    """Each task, and the defaults that all modules of the collection get as one more."""
    directory = ROOT / "roles" / role / "tasks"
    for block in yaml.safe_load((directory / "main.yml").read_text()):
        yield {f"flyd.lite.{module}": block["module_defaults"][GROUP] for module in MODULES if module != "flyd_info"}
        for task in block["block"]:
            other = task.get("ansible.builtin.import_tasks")
            yield from yaml.safe_load((directory / other).read_text()) if other else [task]


def passed(role: str) -> dict[str, set[tuple[str, str]]]:
    """By option of the role, the module and the option that it is passed to."""
    found: dict[str, set[tuple[str, str]]] = {}
    for task in tasks_of(role):
        for action, options in task.items():
            if action.startswith("flyd.lite.") and isinstance(options, dict):
                for name, value in options.items():
                    for variable in re.findall(rf"\b{role}_\w+", f"{value} {task.get('when', '')}"):
                        found.setdefault(variable, set()).add((action.removeprefix("flyd.lite."), name))
    return found


@pytest.mark.parametrize("role", ROLES)
def test_every_option_of_a_role_reaches_a_module(role: str) -> None:
    known = passed(role)
    assert [name for name in options_of(role) if name not in known and name not in OWN] == []
    assert [name for name in known if name not in options_of(role)] == []


@pytest.mark.parametrize("role", ROLES)
def test_an_option_of_a_role_has_the_type_and_the_choices_of_the_option_of_the_module(role: str) -> None:
    for name, given in options_of(role).items():
        for module, option in () if name in SWITCHES else passed(role).get(name, ()):
            spec = source(module).ARGUMENTS.get(option, {})
            if spec and option != "state" and not (name.endswith("_snapshot_name") and option != "name"):
                wanted = (spec.get("type", "str"), spec.get("choices"), sorted(spec.get("options", {})))
                assert (given["type"], given.get("choices"), sorted(given.get("options", {}))) == wanted, (name, module)


@pytest.mark.parametrize("module", [module for module in MODULES if module not in OTHERS])
def test_every_option_of_a_module_that_is_for_a_present_image_can_be_given_to_the_role(module: str) -> None:
    reached = {option for pairs in passed("activate").values() for name, option in pairs if name == module}
    others = {"force", "sha256", "assume", "assume_pool_size", "controller_file"} | (
        {"pool"} if "name" in reached else set()
    )
    assert set(source(module).ARGUMENTS) - reached - others == set()


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What activate returns for results of the four modules, made by the templates of the role."""
    directory = tmp_path_factory.mktemp("play")
    step = {"changed": False, "run_seconds": 0.5, "run_id": "R"}
    made = {
        "__activate_made": {**step, "changed": True, "run_id": "R1"},
        "__activate_fetched": {**step, "new_generation": False, "revived": False},
        "__activate_unpacked": step,
        "__activate_snapshot": {
            **step,
            "device": "/dev/mapper/x",
            "sha256": "ab",
            "trust": "pinned",
            "run_seconds": 1.25,
        },
    }
    copy = {"content": "{{ __activate_result | to_json }}", "dest": str(directory / "out.json"), "mode": "0600"}
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "connection": "local",
        "vars_files": [str(ROOT / "roles/activate/vars/main.yml")],
        "vars": {**made, "ansible_python_interpreter": sys.executable},
        "tasks": [{"ansible.builtin.copy": copy}],
    }
    (directory / "play.json").write_text(json.dumps([play]))
    argv = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", str(directory / "play.json")]
    done = subprocess.run(
        argv, capture_output=True, text=True, check=False, env={**os.environ, "ANSIBLE_LOCALHOST_WARNING": "false"}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads((directory / "out.json").read_text())
    return found


def test_activate_returns_the_image_the_device_and_every_step(result: dict[str, Any]) -> None:
    assert (result["device"], result["sha256"], result["trust"]) == ("/dev/mapper/x", "ab", "pinned")
    assert result["changed"] is True
    assert list(result["steps"]) == ["pool", "fetch", "unpack", "snapshot"]
    assert result["steps"]["pool"] == {"changed": True, "seconds": 0.5, "run_id": "R1"}
    assert result["steps"]["snapshot"] == {"changed": False, "seconds": 1.25, "run_id": "R"}

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rollout passes to the modules: the same as the role activate does, and what the options of the role rollout say, by one lookup each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("ansible", reason="ansible-core is not installed")

from tests.unit.roles.test_options_of_roles import GROUP, options_of

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]
COLLECTIONS = ROOT / "build/collections"
TASKS = ROOT / "roles/activate/tasks"
STEPS = {"flyd_pool": "pool", "flyd_fetch": "fetch", "flyd_unpack": "unpack"}
FOUND = {"__activate_fetched": {"sha256": "ab"}, "__activate_made": {"changed": True, "data_size": 5}}
AWS = {
    "AWS_ACCESS_KEY_ID": "own",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_SESSION_TOKEN": "token",
    "AWS_DEFAULT_REGION": "eu",
}
OWN_OPTIONS = ("activate_check_room", "activate_anonymous", "activate_other_variables")


def args_of(step: str, module: str) -> dict[str, Any]:
    """The options of a module in a file of tasks of activate."""
    [task] = yaml.safe_load((TASKS / f"{step}.yml").read_text())
    found: dict[str, Any] = task[f"flyd.lite.{module}"]
    return found


def rendered(
    directory: Path, roles: tuple[str, ...], variables: dict[str, Any], asked: dict[str, Any], *, check: bool = False
) -> Any:
    """What ``asked`` comes to on a host with these variables."""
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS), **AWS}
    files = [ROOT / "roles" / role / name / "main.yml" for role in roles for name in ("defaults", "vars")]
    copy = {"content": "{{ asked }}", "dest": str(directory / "out.json"), "mode": "0600"}
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "connection": "local",
        "vars_files": [str(path) for path in files],
        "tasks": [{"ansible.builtin.copy": copy, "vars": {"asked": asked}, "check_mode": False}],
    }
    (directory / "play.json").write_text(json.dumps([play]))
    (directory / "given.json").write_text(json.dumps({"ansible_python_interpreter": sys.executable, **variables}))
    mode = ["--check"] if check else []
    argv = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", str(directory / "play.json")]
    done = subprocess.run(
        [*argv, *mode, "-e", f"@{directory}/given.json"], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((directory / "out.json").read_text())


def given() -> dict[str, dict[str, Any]]:
    """By case, what an operator has set; ``activate_pool`` is a template, as those of an inventory are."""
    every = {name: f"its {name}" for name in options_of("activate") if name not in OWN_OPTIONS}
    return {
        "all": {**every, "activate_pool": "{{ activate_key }}"},
        "none": {"activate_key": "k"},
        "left out": {
            **every,
            **dict.fromkeys(("activate_pool", "activate_pool_data_size", "activate_region"), "{{ omit }}"),
        },
        "empty": {"activate_key": "k", "activate_endpoint_url": "", "activate_access_key": ""},
        "own key": {"activate_key": "k", "activate_access_key": "own"},
        "own key and secret": {"activate_key": "k", "activate_access_key": "own", "activate_secret_key": "its"},
        "another key": {"activate_key": "k", "activate_access_key": "another"},
        "anonymous": {"activate_key": "k", "activate_anonymous": "yes"},
        "profile": {"activate_key": "k", "activate_profile": "its", "activate_anonymous": False},
        "room": {"activate_key": "k", "activate_check_room": "no"},
        "predicted": {
            "activate_key": "k",
            "__activate_fetched": {"sha256": "ab", "revived": True},
        },
    }


@pytest.mark.parametrize("case", list(given()))
def test_the_steps_of_a_rollout_get_the_options_that_activate_passes(tmp_path: Path, case: str) -> None:
    [block] = yaml.safe_load((TASKS / "main.yml").read_text())
    stage = yaml.safe_load((TASKS / "stage.yml").read_text())
    common = block["module_defaults"][GROUP]
    asked = {
        "wanted": {module: {**common, **args_of(step, module)} for module, step in STEPS.items()},
        "found": {module: task["module_defaults"][f"flyd.lite.{module}"] for module, task in zip(STEPS, stage)},
    }
    shown = rendered(tmp_path, ("activate",), {**FOUND, **given()[case]}, asked, check=case == "predicted")
    wanted, found = shown["wanted"], shown["found"]
    for module in STEPS:
        del wanted[module]["key"]  # stands in the tasks of both
    assert found == wanted
    assert found["flyd_fetch"]


def test_a_flip_gets_the_options_of_the_rollout(tmp_path: Path) -> None:
    variables = {
        "rollout_switch": ["restart", "{{ inventory_hostname }}"],
        "rollout_switch_timeout": 7,
        "rollout_min_healthy": 0,
        "rollout_confirm_within": "{{ omit }}",
        "rollout_health_port": 6379,
        "rollout_health_url": None,
        "activate_state_dir": "/srv",
        "activate_snapshot_size": "1G",
        "activate_mode": "0600",
        "__rollout_pin": "ab",
    }
    flips = yaml.safe_load((ROOT / "roles/rollout/tasks/flip.yml").read_text())
    [flip] = [task["module_defaults"]["flyd.lite.flyd_instance"] for task in flips if "module_defaults" in task]
    found = rendered(tmp_path, (), variables, {"flip": flip})
    assert found["flip"] == {
        "switch": ["restart", "localhost"],
        "switch_timeout": 7,
        "min_healthy": 0,
        "health": {"port": 6379},
        "state_dir": "/srv",
        "size": "1G",
        "mode": "0600",
        "sha256": "ab",
        "assume": [],
    }
    bare = rendered(tmp_path, (), {"__rollout_pin": ""}, {"flip": flip})
    assert bare["flip"] == {"assume": []}
    predicted = rendered(tmp_path, (), FOUND, {"flip": flip}, check=True)
    assert predicted["flip"] == {"assume": ["pool"]}

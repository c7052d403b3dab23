# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""module_defaults of the action group flyd.lite.flyd, in a real play: a default that all modules share reaches each of them.

A value that is refused shows where it went: a module that has not got the option would complain of the option instead.
"""

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

from module_utils._module import COMMON_ARGUMENTS
from tests.s3.module import make_site
from tests.unit._lifecycle.machine import KEY, Machine
from tests.unit._lifecycle.s3_stand_in import BUCKET
from tests.unit.modules.modules import MODULES, REPOSITORY, Modules, source

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="modules refuse to run as another user than root"),
    pytest.mark.timeout(600),
    pytest.mark.slow,
]
GROUP = "group/flyd.lite.flyd"
# What each module needs besides; nothing is asked of S3, as options are read first.
NEEDED: dict[str, dict[str, Any]] = {
    "flyd_fetch": {"key": KEY.value, "bucket": BUCKET, "anonymous": True},
    "flyd_unpack": {"key": KEY.value},
    "flyd_snapshot": {"key": KEY.value},
    "flyd_instance": {"key": KEY.value, "name": "web"},
}
BAD: dict[str, tuple[Any, str]] = {
    "pool": ("not/a/name", "not/a/name"),
    "state_dir": ("/", "state_dir"),
    "lock_timeout": (-1, "lock_timeout"),
}


def test_every_module_is_in_the_group() -> None:
    groups = yaml.safe_load((REPOSITORY / "meta/runtime.yml").read_text())["action_groups"]
    assert sorted(groups["flyd"]) == sorted(path.stem for path in (REPOSITORY / "plugins/modules").glob("*.py"))
    assert sorted(groups["flyd"]) == sorted(MODULES)


def test_what_all_modules_have_is_an_option_of_each() -> None:
    shared = set.intersection(*(set(source(module).ARGUMENTS) for module in MODULES))
    assert {*COMMON_ARGUMENTS, *shared} >= set(BAD)
    assert shared == {"key", "pool"}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, dict[str, Any]]]:
    """By option and module, the result; one run of Ansible for all of them, as that takes longest."""
    directory = tmp_path_factory.mktemp("play")
    tasks: list[dict[str, Any]] = []
    for option, (value, _said) in BAD.items():
        defaults = {"state_dir": str(directory / "state"), option: value}
        block = [
            {f"flyd.lite.{module}": NEEDED.get(module, {}), "register": f"{module}_{option}", "ignore_errors": True}
            for module in MODULES
        ]
        tasks.append({"block": block, "module_defaults": {GROUP: defaults}})
    kept = {option: {module: "{{ " + f"{module}_{option}" + " }}" for module in MODULES} for option in BAD}
    copy = {"content": "{{ kept | to_json }}", "dest": str(directory / "results"), "mode": "0600"}
    tasks.append({"ansible.builtin.copy": copy, "vars": {"kept": kept}})
    play = {"hosts": "localhost", "gather_facts": False, "connection": "local", "tasks": tasks}
    (directory / "play.json").write_text(json.dumps([{**play, "vars": {"ansible_python_interpreter": sys.executable}}]))
    site = make_site(tmp_path_factory.mktemp("site"))
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(site), "ANSIBLE_LOCALHOST_WARNING": "false"}
    argv = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", str(directory / "play.json")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, dict[str, dict[str, Any]]] = json.loads((directory / "results").read_text())
    return found


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("option", BAD)
def test_a_default_of_the_group_reaches_the_module(
    results: dict[str, dict[str, dict[str, Any]]], option: str, module: str
) -> None:
    result = results[option][module]
    assert (result["failed"], result["error_kind"]) == (True, "bad_input"), result
    assert BAD[option][1] in result["msg"]
    assert "nsupported parameters" not in result["msg"]


def test_a_name_counts_before_a_pool_of_the_group(virgin: Machine) -> None:
    """As an alias of name, a pool of the group would win over the name of the task."""
    given = {"name": "one", "pool": "two", "data_size": "4M"}
    made = Modules(virgin).run("flyd_pool", given)
    assert (made["device"], list(virgin.fake.devices())) == ("/dev/mapper/one", ["one"])
    assert made.warned == ["this is the pool 'one' (name); pool: two has no effect here"]


def test_a_report_on_a_pool_has_what_lies_in_it_and_a_pool_that_is_not_there_is_reported(activated: Machine) -> None:
    modules = Modules(activated)
    modules.run("flyd_pool", {"name": "other", "data_size": "4M"})
    whole, here, there, nowhere = (
        modules.run("flyd_info", {"pool": pool} if pool else {}) for pool in ("", "pool", "other", "third")
    )
    assert [
        (len(one["pools"]), len(one["images"]), len(one["snapshots"])) for one in (whole, here, there, nowhere)
    ] == [
        (2, 1, 1),
        (1, 1, 1),
        (1, 0, 0),
        (0, 0, 0),
    ]
    assert [one.warned for one in (here, there)] == [[], []]
    assert nowhere.warned == ["there is no pool 'third' on this host"]

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The section "Roll back" of docs/guides/microvms.md, and the role activate with ``activate_checksum``, do what they say they do.

Their tasks are run, as they are written, by the real modules on the simulated host. The server holds the new object and then does not answer.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("ansible.module_utils.testing", reason="ansible-core is not installed")
pytest.importorskip("ulid", reason="python-ulid is not installed")
pytest.importorskip("boto3", reason="boto3 is not installed")

from jinja2.nativetypes import NativeEnvironment

from module_utils._names import ObjectKey
from tests.unit._lifecycle.machine import ARCHIVE, KEY, LAYERS, OTHER_ARCHIVE, Machine
from tests.unit.builders import images
from tests.unit.modules.modules import MODULES, Modules, Result

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="modules refuse to run as another user than root")

ROOT = Path(__file__).parents[3]
OLD, NEW = (hashlib.sha256(archive).hexdigest() for archive in (ARCHIVE, OTHER_ARCHIVE))
OMIT = "__omit__"
TEMPLATES = NativeEnvironment()
TEMPLATES.filters["bool"] = bool
TEMPLATES.tests["changed"] = lambda result: bool(result["changed"])


@pytest.fixture
def host(activated: Machine) -> Iterator[Machine]:
    """A host on which the new version has taken the place of the old one, and a server that does not answer."""
    activated.s3.put(KEY.value, OTHER_ARCHIVE)
    for step in ("fetch", "unpack", "snapshot"):
        getattr(activated, step)()
    activated.s3.forget()
    activated.s3.fail(503, 1 << 30)
    yield activated
    activated.s3.forget()


def rendered(value: Any, variables: dict[str, Any]) -> Any:
    """``value`` with its templates filled in, those in the variables that it names included."""
    if isinstance(value, dict):
        filled = {name: rendered(one, variables) for name, one in value.items()}
        return {name: one for name, one in filled.items() if one != OMIT}
    while isinstance(value, str) and "{{" in value:
        named = set(re.findall(r"\w+", value)) & set(variables)
        value = TEMPLATES.from_string(value).render({name: _late(name, variables) for name in named})
    return value


def _late(name: str, variables: dict[str, Any]) -> Any:
    value = variables[name]
    return rendered(value, {k: v for k, v in variables.items() if k != name}) if _is_template(value) else value


def _is_template(value: Any) -> bool:
    return isinstance(value, str) and "{{" in value


def played(machine: Machine, tasks: list[dict[str, Any]], variables: dict[str, Any], *, check: bool) -> list[Result]:
    """The results of the tasks of the collection's modules, in order, each of which the later ones see as registered."""
    modules, known, results = Modules(machine), {**variables, "omit": OMIT, "ansible_check_mode": check}, []
    for task in tasks:
        for module in MODULES:
            if f"flyd.lite.{module}" in task:
                result = modules.run(module, rendered(task[f"flyd.lite.{module}"], known), check=check, diff=True)
                assert "failed" not in result, result["msg"]
                results.append(result)
                known[task.get("register", "_")] = result
    return results


def of_guide() -> list[dict[str, Any]]:
    text = (ROOT / "docs/guides/microvms.md").read_text().partition("\n## Roll back\n")[2].partition("\n## ")[0]
    [play] = yaml.safe_load(re.findall(r"(?:^    .*\n|^\n)+", text, re.MULTILINE)[1])
    return [{**task, "vars": play["vars"]} for task in play["tasks"]]


def of_role() -> list[dict[str, Any]]:
    directory = ROOT / "roles/activate/tasks"
    [block] = yaml.safe_load((directory / "main.yml").read_text())
    tasks: list[dict[str, Any]] = []
    for task in block["block"]:
        imported = task.get("ansible.builtin.import_tasks")
        tasks += yaml.safe_load((directory / imported).read_text()) if imported else [task]
    return tasks


def variables_of_role(machine: Machine) -> dict[str, Any]:
    """Those that the role computes for its steps, what a play gives, and what the defaults have."""
    computed = yaml.safe_load((ROOT / "roles/activate/vars/main.yml").read_text())
    given = {"key": KEY.value, "checksum": f"sha256:{OLD}", "endpoint_url": machine.s3.url, "anonymous": True}
    unused = dict.fromkeys(("region", "profile", "access_key", "secret_key", "session_token"), "")
    return {
        **{name: computed[name] for name in ("__activate_assume", "__activate_meant")},
        "__activate_environment": dict.fromkeys(computed["__activate_environment"], ""),  # all of it is given
        **{f"activate_{name}": value for name, value in {**given, **unused, "check_room": True}.items()},
    }


@pytest.mark.parametrize("what", ["guide", "role"])
def test_the_old_generation_is_current_again_with_its_device_and_a_second_run_changes_nothing(
    host: Machine, what: str
) -> None:
    old = Modules(host).run("flyd_info", {"what": ["images"]})["images"][1]
    assert (old["sha256"], old["current"]) == (OLD, False)
    before, devices = host.everything(), host.fake.devices()
    if what == "guide":
        tasks, variables = of_guide(), {"key": KEY.value, "sha256": OLD}
        assert set(tasks[0]["vars"]) == set(variables)
    else:
        tasks, variables = of_role(), variables_of_role(host)
    predicted = played(host, tasks, variables, check=True) if what == "role" else []
    assert host.everything() == before
    real = played(host, tasks, variables, check=False)
    fetched, unpacked, snapshot = real[-3:]
    assert [one["changed"] for one in real[-3:]] == [True, False, False]
    assert (fetched["revived"], fetched["trust"]) == (True, "pinned")
    assert (unpacked["device"], snapshot["device"]) == (old["base_device"], old["snap_device"])
    for said, did in zip(predicted, real):
        assert [said.get(name) for name in ("changed", "device", "sha256", "diff")] == [
            did.get(name) for name in ("changed", "device", "sha256", "diff")
        ]
    assert (host.fake.devices(), host.s3.requests(), host.left_over()) == (devices, [], [])
    state = host.everything()
    assert [one["changed"] for one in played(host, tasks, variables, check=False)] == [False] * len(real)
    assert host.everything() == state


def test_every_generation_is_listed_with_what_it_has(host: Machine) -> None:
    new, old = Modules(host).run("flyd_info", {"what": ["images"], "key": KEY.value})["images"]
    assert [(one["sha256"], one["current"], one["state"]) for one in (new, old)] == [
        (NEW, True, "activated"),
        (OLD, False, "activated"),
    ]
    for one in (new, old):
        assert one["snapshots"] == [{"name": "default", "device": one["snap_device"]}]
        assert one["archives"] == [str(host.state / "archives" / one["sha256"])]
        assert one["base_device"]
    (host.state / "archives" / OLD).unlink()
    assert Modules(host).run("flyd_info", {})["images"][1]["archives"] == []


def test_the_current_generation_is_listed_first_then_the_newest_of_the_others(host: Machine) -> None:
    host.s3.forget()
    host.s3.put("images/another.tar", ARCHIVE)
    host.fetch(key=ObjectKey("images/another.tar"))
    third = images.docker_archive(LAYERS[1:])
    host.s3.put(KEY.value, third)
    host.fetch()
    listed = [(one["key"], one["sha256"]) for one in Modules(host).run("flyd_info", {"what": ["images"]})["images"]]
    of_key = [(KEY.value, digest) for digest in (hashlib.sha256(third).hexdigest(), NEW, OLD)]
    assert [one for one in listed if one[0] == KEY.value] == of_key
    first = listed.index(of_key[0])
    assert listed[first : first + 3] == of_key, "those of a key are together"
    host.s3.delete("images/another.tar")


def test_an_unknown_key_is_a_warning_of_the_report(host: Machine) -> None:
    result = Modules(host).run("flyd_info", {"key": "images/other.tar"})
    assert (result["images"], result["snapshots"], len(result["pools"])) == ([], [], 1)
    assert result.warned == ["there is no image images/other.tar on this host"]

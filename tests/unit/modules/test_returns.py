# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What modules return is what their documentation says: every key, of the documented type, in the runs that it names, and no other."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("ansible.module_utils.testing", reason="ansible-core is not installed")
pytest.importorskip("ulid", reason="python-ulid is not installed")
pytest.importorskip("boto3", reason="boto3 is not installed")
pytest.importorskip("yaml", reason="PyYAML is not installed")

from module_utils._errors import ErrorKind
from module_utils._host.processes.process import own_identity
from module_utils._lifecycle.actions import Verb
from module_utils._lifecycle.findings import FORGOTTEN, DriftKind, RecoveryKind
from module_utils._lifecycle.report.info import UNKNOWN_STATUS
from module_utils._lifecycle.store.records import Operation, OperationKind, RetiredImage, Volume
from module_utils._names import ObjectKey, Ulid, new_ulid
from module_utils._thin.dm.table import PoolMode
from tests.unit._lifecycle.conftest import Stages
from tests.unit._lifecycle.disk import gone_pid
from tests.unit._lifecycle.machine import ARCHIVE, KEY, OTHER_ARCHIVE, Machine
from tests.unit._lifecycle.s3_stand_in import BUCKET
from tests.unit.modules.modules import MODULES, Modules, Result, source

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="modules refuse to run as another user than root"),
    pytest.mark.slow,
]

# What Ansible documents itself (docs.ansible.com, "Return Values").
_ANSIBLES = {"changed", "failed", "invocation", "warnings", "deprecations", "msg"}
_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (float, int),
    "bool": (bool,),
    "list": (list,),
    "dict": (dict,),
}
FAMILY = "images/family/"


class Run:
    """One run of a module: what it was for, and what it returned."""

    def __init__(self, module: str, purpose: str, result: Result) -> None:
        self.module = module
        self.purpose = purpose
        self.result = result


def all_runs(stages: Stages) -> Iterator[Run]:
    """Every module: new, again, in check mode, with a diff, with something to remove and without, and failing."""
    for module, stage, purpose, options in _plans():
        machine = stages.at(stage)
        modules = Modules(machine)
        base = _options(module, machine)
        for mode in ({"check": True}, {}, {}):
            yield Run(module, purpose, modules.run(module, {**base, **options}, diff=True, **mode))
    yield from _changed_objects(stages)
    yield from _with_operations(stages)
    yield from _after_interruptions(stages)
    yield from _of_a_short_pool(stages)
    yield from _prunes(stages)


def _plans() -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    absent = {"state": "absent"}
    yield "flyd_pool", "virgin", "present", {"data_size": "4M"}
    yield "flyd_pool", "rebooted", "present", {}
    yield "flyd_pool", "pooled", "absent", absent
    yield "flyd_pool", "activated", "failure", {**absent}
    yield "flyd_pool", "activated", "absent", {**absent, "force": True}
    yield "flyd_pool", "damaged", "repaired", {"state": "repaired"}
    yield "flyd_pool", "lost", "recovered", {"state": "recovered"}
    yield "flyd_fetch", "pooled", "present", {}
    yield "flyd_fetch", "activated", "present", {}
    yield "flyd_fetch", "activated", "failure", {"pool": "other"}
    yield "flyd_fetch", "activated", "absent", {**absent, "force": True}
    added = [{"src": "/etc/hostname", "dest": "/etc/motd"}]
    yield "flyd_unpack", "fetched", "present", {"size": "1M", "inject": added}
    yield "flyd_unpack", "unpacked", "absent", absent
    yield "flyd_unpack", "activated", "failure", absent
    yield "flyd_snapshot", "unpacked", "present", {"mode": "0640", "owner": "1"}
    yield "flyd_snapshot", "activated", "absent", absent
    yield "flyd_snapshot", "activated", "failure", {"size": "512K"}
    yield "flyd_instance", "activated", "present", {"health": {"command": ["/bin/true"]}, "min_healthy": 0}
    yield "flyd_instance", "bound", "confirmed", {"state": "confirmed"}
    yield "flyd_instance", "flipped", "previous", {"state": "previous"}
    yield "flyd_instance", "bound", "absent", absent
    yield "flyd_instance", "activated", "failure", {"switch": ["no-such-program"]}
    yield "flyd_prune", "many", "present", {}
    yield "flyd_prune", "bound", "present", {}
    yield "flyd_info", "virgin", "present", {}
    yield "flyd_info", "flipped", "present", {"what": ["images", "generations", "instances", "host", "history"]}
    yield "flyd_info", "flipped", "present", {}
    yield "flyd_info", "activated", "present", {}
    for module in MODULES:
        yield module, "pooled", "failure", {"lock_timeout": "soon"}
        yield module, "pooled", "failure", {"state_dir": "relative"}


def _options(module: str, machine: Machine) -> dict[str, Any]:
    key = {"key": KEY.value} if module not in ("flyd_pool", "flyd_info") else {}
    if module == "flyd_instance":
        key["name"] = "web"
    s3 = {"bucket": BUCKET, "endpoint_url": machine.s3.url, "region": "us-east-1", "anonymous": True}
    return {**key, **(s3 if module == "flyd_fetch" else {})}


def _changed_objects(stages: Stages) -> Iterator[Run]:
    """An object that took another's place, and a family."""
    machine = stages.at("fetched")
    modules, base = Modules(machine), _options("flyd_fetch", machine)
    machine.s3.put(KEY.value, OTHER_ARCHIVE)
    yield Run("flyd_fetch", "present", modules.run("flyd_fetch", base))
    yield Run("flyd_info", "present", modules.run("flyd_info", {}))
    pinned = {"checksum": f"sha256:{hashlib.sha256(ARCHIVE).hexdigest()}"}
    for check in (True, False):
        yield Run("flyd_fetch", "present", modules.run("flyd_fetch", {**base, **pinned}, check=check))
    machine.s3.put(f"{FAMILY}1", OTHER_ARCHIVE)
    try:
        yield Run("flyd_fetch", "present", modules.run("flyd_fetch", {**base, "key": FAMILY}))
        yield Run("flyd_info", "present", modules.run("flyd_info", {}))
    finally:
        machine.s3.delete(f"{FAMILY}1")


def _with_operations(stages: Stages) -> Iterator[Run]:
    """flyd_info while something is being downloaded."""
    machine = stages.at("activated")
    with machine.host() as host:
        operation = host.begin(OperationKind.FETCH, str(ObjectKey("other.tar")))
        with host.store.transaction():
            host.store.put(operation)
        spool = machine.state / "spool"
        spool.mkdir(exist_ok=True, mode=0o700)
        progress = '{"key": "other.tar", "run_id": "x", "received_bytes": 1, "total_bytes": 2, "bytes_per_second": 1}'
        (spool / f"{operation.ulid}.progress").write_text(progress)
    yield Run("flyd_info", "present", Modules(machine).run("flyd_info", {}))


def _after_interruptions(stages: Stages) -> Iterator[Run]:
    """Each module after a run that was killed, a repair that cannot save everything, and a host after a reboot."""
    for module, stage in _FINDING_SOMETHING_LEFT.items():
        machine = stages.at(stage)
        left = Operation(str(new_ulid()), OperationKind.UNPACK, "other.tar", "", own_identity().boot_id, gone_pid(), 1)
        with machine.host() as host, host.store.transaction():
            host.store.put(left)
        size = {"size": "1M"} if module == "flyd_unpack" else {}
        yield Run(module, "present", Modules(machine).run(module, {**_options(module, machine), **size}))
    machine = stages.at("activated")
    base = next(volume for volume in machine.records(Volume) if volume.kind == "base")
    machine.fake.set_pool("pool", needs_check=True, damaged=True, lost=[base.thin_id])
    yield Run("flyd_pool", "repaired", Modules(machine).run("flyd_pool", {"state": "repaired"}))
    yield Run("flyd_info", "present", Modules(stages.at("rebooted")).run("flyd_info", {}))


def _of_a_short_pool(stages: Stages) -> Iterator[Run]:
    """What lets a pool grow by its policy, and what finds that it cannot."""
    for module, stage, options in (
        ("flyd_pool", "pooled", {}),
        ("flyd_unpack", "fetched", {"size": "1M"}),
        ("flyd_snapshot", "unpacked", {}),
    ):
        for purpose, max_size in (("present", "1G"), ("failure", "4M")):
            machine = stages.at(stage)
            modules, base = Modules(machine), _options(module, machine)
            modules.run("flyd_pool", {"max_size": max_size, "grow_reserve": "1M", "min_free_percent": 10})
            machine.fake.set_pool("pool", used_data_blocks=63)
            for check in (True, False):
                yield Run(module, purpose, modules.run(module, {**base, **options}, check=check))


def _prunes(stages: Stages) -> Iterator[Run]:
    """flyd_prune with one generation in use, and with a pool that is down."""
    machine = stages.at("many")
    [retired, *_others] = [one for one in machine.records(RetiredImage) if not one.confirmed_at]
    machine.fake.hold(retired.snap_device.rpartition("/")[2])
    yield Run("flyd_prune", "present", Modules(machine).run("flyd_prune", {"keep": 0}))
    machine = stages.at("many")
    machine.fake.reboot()
    yield Run("flyd_prune", "failure", Modules(machine).run("flyd_prune", {"keep": 0}))


_FINDING_SOMETHING_LEFT = {
    "flyd_pool": "pooled",
    "flyd_fetch": "pooled",
    "flyd_unpack": "fetched",
    "flyd_snapshot": "unpacked",
    "flyd_instance": "activated",
    "flyd_prune": "many",
}


@pytest.fixture(scope="module")
def runs(stages: Stages, request: pytest.FixtureRequest) -> list[Run]:
    """All of them, made once."""
    with pytest.MonkeyPatch.context() as patch:
        replace_for(patch, stages)
        return list(all_runs(stages))


def replace_for(patch: pytest.MonkeyPatch, stages: Stages) -> None:
    """See ``replaced`` in tests/unit/_lifecycle/conftest.py, which is for one test."""
    from tests.unit._lifecycle.conftest import replace

    replace(patch, stages.machine)


@functools.cache
def documented(module: str) -> dict[str, Any]:
    import yaml

    found: dict[str, Any] = yaml.safe_load(source(module).RETURN)
    return found


def differences(found: object, documentation: dict[str, Any], where: str) -> Iterator[str]:
    """What of a value is not as documented, parts and all."""
    if found is None:
        return
    kind = documentation["type"]
    if not isinstance(found, _TYPES[kind]) or (kind == "int" and isinstance(found, bool)):
        yield f"{where} is {type(found).__name__}, not {kind}"
        return
    if found not in documentation.get("choices", [found]):
        yield f"{where} is {found!r}, which is none of its choices"
    parts: list[object] = found if isinstance(found, list) else [found]
    for part in parts:
        if isinstance(part, dict) and "contains" in documentation:
            for name, value in part.items():
                if name in documentation["contains"]:
                    yield from differences(value, documentation["contains"][name], f"{where}.{name}")
                else:
                    yield f"{where}.{name} is not documented"
        elif isinstance(part, dict) and isinstance(found, list):
            yield f"{where} has parts that are not documented"


def names_of(documentation: dict[str, Any], found: list[object], where: str = "") -> Iterator[tuple[str, bool]]:
    """Every documented key, parts and all, and whether one of the results ``found`` has it."""
    for name, one in documentation.items():
        values = [result[name] for result in found if isinstance(result, dict) and name in result]
        yield f"{where}{name}", bool(values)
        if "contains" in one:
            parts = [part for value in values for part in (value if isinstance(value, list) else [value])]
            yield from names_of(one["contains"], parts, f"{where}{name}.")


@pytest.mark.parametrize("module", MODULES)
def test_every_key_that_is_returned_is_documented_and_of_that_type(runs: list[Run], module: str) -> None:
    wrong: set[str] = set()
    for run in runs:
        if run.module == module:
            for name, value in run.result.items():
                if name in documented(module):
                    wrong.update(differences(value, documented(module)[name], name))
                elif name not in _ANSIBLES:
                    wrong.add(f"{name} is not documented")
    assert sorted(wrong) == []


@pytest.mark.parametrize("module", MODULES[:4])
def test_every_kind_of_recovery_is_documented(module: str) -> None:
    assert documented(module)["settled"]["contains"]["kind"]["choices"] == [kind.value for kind in RecoveryKind]


@pytest.mark.parametrize("module", MODULES)
def test_every_kind_of_error_is_documented(module: str) -> None:
    assert documented(module)["error_kind"]["choices"] == [kind.value for kind in ErrorKind]


@pytest.mark.parametrize("module", MODULES)
def test_every_verb_is_documented(module: str) -> None:
    assert documented(module)["actions"]["contains"]["action"]["choices"] == [verb.value for verb in Verb]


def test_every_status_is_documented() -> None:
    modes = [mode.value for mode in PoolMode]
    assert documented("flyd_pool")["status"]["choices"] == modes
    assert documented("flyd_info")["pools"]["contains"]["status"]["choices"] == [*modes, UNKNOWN_STATUS]


def test_every_kind_of_drift_and_of_loss_is_documented() -> None:
    assert documented("flyd_info")["drift"]["contains"]["kind"]["choices"] == [kind.value for kind in DriftKind]
    lost = documented("flyd_pool")["lost"]["contains"]["kind"]["choices"]
    assert lost == [kind.value for kind in RecoveryKind if kind in FORGOTTEN]


@pytest.mark.parametrize("module", MODULES)
def test_every_key_that_is_documented_is_returned(runs: list[Run], module: str) -> None:
    found: list[object] = [run.result for run in runs if run.module == module]
    assert [name for name, there in names_of(documented(module), found) if not there] == []


_ALWAYS: dict[str, Callable[[Run], bool]] = {
    "always": lambda run: True,
    "success": lambda run: not run.result.get("failed"),
    "failure": lambda run: bool(run.result.get("failed")),
    "O(state=present)": lambda run: run.purpose == "present" and not run.result.get("failed"),
    "O(state=absent)": lambda run: run.purpose == "absent" and not run.result.get("failed"),
    "O(state=repaired)": lambda run: run.purpose == "repaired" and not run.result.get("failed"),
}


@pytest.mark.parametrize("module", MODULES)
def test_a_key_is_in_every_run_that_its_documentation_names(runs: list[Run], module: str) -> None:
    """Also in check mode, where what is not known yet is null."""
    for name, one in documented(module).items():
        for when in one["returned"].partition(";")[0].split(", "):
            applies = _ALWAYS.get(when)
            concerned = [run for run in runs if run.module == module and applies is not None and applies(run)]
            missing = [run.purpose for run in concerned if name not in run.result]
            assert missing == [], f"{name} is documented as returned: {one['returned']}"


def test_the_fixtures_succeed_and_fail_as_they_are_meant_to(runs: list[Run]) -> None:
    wrong = [run for run in runs if (run.purpose == "failure") is not bool(run.result.get("failed"))]
    assert [(run.module, run.purpose, run.result.get("msg")) for run in wrong] == []


def test_every_run_has_a_ulid_of_its_own(runs: list[Run]) -> None:
    ids = [Ulid(run.result["run_id"]) for run in runs]
    assert len(set(ids)) == len(ids)


def test_what_an_image_is_is_in_the_result_of_each_of_its_modules(activated: Machine) -> None:
    modules = Modules(activated)
    for module in ("flyd_fetch", "flyd_unpack", "flyd_snapshot"):
        result = modules.run(module, _options(module, activated))
        [image] = modules.run("flyd_info", {})["images"]
        for name in ("sha256", "trust", "platform", "config"):
            assert result[name] == image[name] is not None
        assert result["image_id"] == image["image_id"]
        assert result["platform"] == "linux/amd64"
        assert result["config"]["Cmd"] == ["/bin/sh"]


def test_the_run_of_a_result_is_the_one_of_its_lines_in_the_log(unpacked: Machine) -> None:
    result = Modules(unpacked).run("flyd_snapshot", {"key": KEY.value, "name": "blue"})
    assert result["msg"] == f"SUCCESS: Image activated at device {result['device']}"
    ended = [line for line in unpacked.log() if line.get("message") == result["msg"]]
    assert [line["run_id"] for line in ended] == [result["run_id"]]


def test_access_that_was_never_given_is_null_and_a_mode_is_written_as_ansible_writes_it(unpacked: Machine) -> None:
    modules = Modules(unpacked)
    modules.run("flyd_snapshot", {"key": KEY.value})
    [snapshot] = modules.run("flyd_info", {"what": ["snapshots"]})["snapshots"]
    assert (snapshot["uid"], snapshot["gid"], snapshot["mode"]) == (None, None, None)
    modules.run("flyd_snapshot", {"key": KEY.value, "owner": "12", "mode": "u=rw,go="})
    [snapshot] = modules.run("flyd_info", {"what": ["snapshots"]})["snapshots"]
    assert (snapshot["uid"], snapshot["gid"], snapshot["mode"]) == (12, None, "0600")

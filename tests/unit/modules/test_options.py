# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""No option is ignored in silence: every row of options_table.py is run, in check mode and for real, and no row is missing."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("ansible.module_utils.testing", reason="ansible-core is not installed")
pytest.importorskip("ulid", reason="python-ulid is not installed")
pytest.importorskip("boto3", reason="boto3 is not installed")

from module_utils._errors import BadInput, CorruptStore
from module_utils._lifecycle.store.records import Image, Operation, PoolRecord, RetiredImage, Snapshot, Volume
from module_utils._module import COMMON_ARGUMENTS
from module_utils._names import exact_size_text, parse_bytes
from tests.unit._lifecycle.conftest import Stages
from tests.unit.modules.modules import MODULES, Modules, Result, source
from tests.unit.modules.options_table import ROWS, SITUATIONS, Effect, Row

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="modules refuse to run as another user than root")


def options_of(module: str) -> Iterator[str]:
    """All options of a module, sub-options with a point."""
    arguments: dict[str, Any] = {**COMMON_ARGUMENTS, **source(module).ARGUMENTS}
    for name, spec in arguments.items():
        yield name
        yield from (f"{name}.{inner}" for inner in spec.get("options", {}))
    if module not in ("flyd_prune", "flyd_info"):
        yield "state"


@pytest.mark.parametrize("module", MODULES)
def test_every_option_has_a_row_for_every_situation(module: str) -> None:
    there = {(row.option, row.situation) for row in ROWS if row.module == module}
    wanted = {(option, situation) for option in options_of(module) for situation in SITUATIONS[module]}
    assert sorted(wanted - there) == [], "add rows to tests/unit/modules/options_table.py"
    assert sorted(there - wanted) == [], "rows of options that the module does not have"


def test_every_module_of_the_collection_is_in_the_table() -> None:
    assert set(SITUATIONS) == set(MODULES)


# The stage of the machine, when the last test has left it there.
_untouched: list[str] = []


class Tried:
    """The machine in the situation of a row, and what a call of the module gives."""

    def __init__(self, stages: Stages, module: str, situation: str, stage: str = "") -> None:
        self.module = module
        self._situation = SITUATIONS[module][situation]
        self._stage = stage or self._situation.stage
        self.machine = stages.machine if _untouched == [self._stage] else stages.at(self._stage)
        _untouched.clear()
        self.modules = Modules(self.machine)

    def is_untouched(self) -> None:
        """Let the next test have the machine as it is, when it is at the same stage."""
        _untouched[:] = [self._stage]

    def written(self) -> object:
        """Of all files of the host, what a write changes."""
        found = {
            path: path.lstat()
            for path in self.machine.root.rglob("*")
            if path.name != "state.json" and "sys" not in path.parts
        }
        return {path: (one.st_ino, one.st_size, one.st_mode, one.st_mtime_ns) for path, one in found.items()}

    def kept(self) -> object:
        """What is recorded and what there is: a run that was refused may have written its log."""
        tables: list[Any] = []
        with contextlib.suppress(CorruptStore):  # where the database is lost
            tables += map(self.machine.records, (Image, RetiredImage, Snapshot, Volume, PoolRecord, Operation))
        return tables, self.machine.fake.devices(), self.machine.fake.loops(), self.machine.files_in("archives")

    def call(self, given: dict[str, Any], *, check: bool = False) -> Result:
        options = {**self._situation.options, **given}
        return self.modules.run(
            self.module, {name: self._there(one) for name, one in options.items() if one is not None}, check=check
        )

    def _there(self, value: Any) -> Any:
        """``value`` with the places of this machine."""
        if not isinstance(value, str):
            return value
        places = {"TMP": str(self.machine.root / "files"), "STATE": str(self.machine.state)}
        head, slash, rest = value.partition("/")
        return self.machine.s3.url if value == "S3" else f"{places[head]}{slash}{rest}" if head in places else value

    def shown(self, result: Result, name: str) -> Any:
        """A key of the result, of a part of it, or of the device's node."""
        first, _point, inner = name.partition(".")
        if first == "node":
            node = os.stat(self.machine.fake.root / result["device"].lstrip("/"))
            return {"uid": node.st_uid, "gid": node.st_gid, "mode": stat.S_IMODE(node.st_mode)}[inner]
        value: Any = result.get(first)
        return value[inner] if inner else value

    def expected(self, value: Any) -> Any:
        return [self._there(one) for one in value] if isinstance(value, list) else self._there(value)


def given_of(row: Row) -> dict[str, Any]:
    """The options of a row. A sub-option of a list is given in its only item, beside what ``also`` has of that."""
    name, _point, inner = row.option.partition(".")
    if inner and source(row.module).ARGUMENTS[name]["type"] == "list":
        return {**row.also, name: [{**row.also[name], inner: row.value}]}
    return {**row.also, name: {inner: row.value} if inner else row.value}


def named(row: Row, texts: list[str]) -> bool:
    """Whether one of the texts names the option."""
    return any(word in text for text in texts for word in {row.option, row.option.partition(".")[0]})


# In the order in which the machine is seldom to be brought to its stage again.
RUN_ALONE = sorted(
    (row for row in ROWS if row.effect is not Effect.NO_EFFECT or row.also),
    key=lambda row: (row.module, row.situation, row.stage, row.effect.name),
)


def name_of(row: Row) -> str:
    return f"{row.module}-{row.situation}-{row.option}-{row.value}".replace("/", "|").encode("unicode_escape").decode()


@pytest.mark.parametrize("row", RUN_ALONE, ids=name_of)
def test_an_option_does_what_the_table_says(stages: Stages, row: Row) -> None:
    tried = Tried(stages, row.module, row.situation, row.stage)
    before, written = tried.kept(), tried.written()
    foreseen = tried.call(given_of(row), check=True)
    assert tried.written() == written, "check mode has written something"
    result = tried.call(given_of(row))
    if row.is_foreseen:
        assert (foreseen["changed"], foreseen.get("error_kind")) == (result["changed"], result.get("error_kind"))
    if row.effect is Effect.REFUSED:
        assert tried.kept() == before, "what was refused has changed something"
        tried.is_untouched()
        _is_refused(row, result)
        return
    if row.effect is Effect.SELECTS:
        _is_shown(tried, row, result)
        return
    assert "failed" not in result, result["msg"]
    assert named(row, result.warned) is (row.effect is Effect.WARNS), result.warned
    _is_shown(tried, row, result)
    if row.is_change or row.effect in (Effect.CONVERGES, Effect.MADE):
        assert result["changed"]
        assert not tried.call(given_of(row))["changed"], "it changes again"
    elif row.situation not in ("absent", "down", "new", "previous", "recovered"):
        assert not result["changed"]
        tried.is_untouched()


def _is_refused(row: Row, result: Result) -> None:
    assert result.get("failed"), "it was not refused"
    assert (result["error_kind"], result["changed"]) == (row.kind, False), result["msg"]
    assert result["hint"]
    words = {row.says} if row.says else {row.option.partition(".")[2] or row.option}
    value = str(row.value).lower() if isinstance(row.value, bool) else str(row.value)
    assert any(word in result["msg"] for word in words), result["msg"]
    if isinstance(row.value, (str, bool)) and not row.says and row.kind == "bad_input":
        shown = {value, *_as_bytes(row.value)}
        assert (
            any(one in result["msg"] for one in shown)
            or row.option.endswith(("_key", "_token"))
            or "required" in result["msg"]
        ), result["msg"]


def _as_bytes(value: Any) -> list[str]:
    """The value as a number of bytes, and as messages show it, when it is a size."""
    with contextlib.suppress(BadInput):
        size_bytes = parse_bytes(str(value), what="it")
        return [str(size_bytes), exact_size_text(size_bytes)]
    return []


def _is_shown(tried: Tried, row: Row, result: Result) -> None:
    for name, value in row.shows.items():
        assert tried.shown(result, name) == tried.expected(value), (name, result)


@pytest.mark.parametrize(("module", "situation"), [(module, one) for module in MODULES for one in SITUATIONS[module]])
def test_options_without_effect_change_nothing_together(stages: Stages, module: str, situation: str) -> None:
    """Those that are of no other effect by nature, in one call: as without them, and without a warning."""
    there = [
        row
        for row in ROWS
        if (row.module, row.situation) == (module, situation) and row.effect is Effect.NO_EFFECT and not row.also
    ]
    if not there:
        pytest.skip("there are none")
    tried = Tried(stages, module, situation)
    plain = tried.call({})
    tried = Tried(stages, module, situation)
    result = tried.call({name: value for row in there for name, value in given_of(row).items()})
    assert "failed" not in result, result["msg"]
    assert result["changed"] == plain["changed"]
    assert result.keys() == plain.keys()
    assert [row.option for row in there if named(row, result.warned) and not named(row, plain.warned)] == []

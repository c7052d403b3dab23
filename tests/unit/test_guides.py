"""The guides in docs/ are true to the code: kinds, options, playbooks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from module_utils._errors import ErrorKind

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")

ROOT = Path(__file__).parents[2]
GUIDES = sorted(path for path in (ROOT / "docs").rglob("*.md") if path.parent.name not in ("adr", "site"))
MODULES = {path.stem for path in (ROOT / "plugins/modules").glob("flyd_*.py")}
_COMMON = ROOT / "plugins/doc_fragments/common.py"


def options_of(module: str) -> set[str]:
    """The options of a module, by the keys of its documentation and of the shared fragments."""
    text = (ROOT / f"plugins/modules/{module}.py").read_text() + _COMMON.read_text()
    return set(re.findall(r"^  (\w+):$", text, re.MULTILINE))


def role_options() -> set[str]:
    """The options of all roles."""
    found: set[str] = set()
    for path in (ROOT / "roles").glob("*/meta/argument_specs.yml"):
        found |= set(yaml.safe_load(path.read_text())["argument_specs"]["main"]["options"])
    return found


def tasks_in(guide: Path) -> list[dict[str, Any]]:
    """All tasks of the plays that a guide shows."""
    tasks: list[dict[str, Any]] = []
    for block in re.findall(r"(?:^    .*\n|^\n)+", guide.read_text(), re.MULTILINE):
        if re.match(r"\n*    - (name|hosts):", block):
            for item in yaml.safe_load(block):
                tasks += item.get("tasks", []) if "hosts" in item else [item]
    return tasks


def test_every_kind_of_error_has_its_section_and_no_other() -> None:
    sections = re.findall(r"^## (\w+)$", (ROOT / "docs/errors.md").read_text(), re.MULTILINE)
    assert sections == [kind.value for kind in ErrorKind]


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.name)
def test_the_tasks_that_are_shown_use_options_that_exist(guide: Path) -> None:
    for task in tasks_in(guide):
        for action in task:
            if action.startswith("flyd.lite."):
                module = action.removeprefix("flyd.lite.")
                assert module in MODULES
                assert set(task[action]) <= options_of(module)


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.name)
def test_the_variables_that_are_named_are_options_of_the_roles(guide: Path) -> None:
    named = set(
        re.findall(r"\b(?:activate|deactivate|prepare|prune|unprepare|rollout|fleet)_[a-z_]+\b", guide.read_text())
    ) - {
        "activate_result",
        *(path.stem for path in (ROOT / "plugins/filter").glob("*.py")),
    }
    assert named <= role_options()


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.name)
def test_what_is_named_of_the_collection_is_there(guide: Path) -> None:
    there = MODULES | {path.stem for path in (ROOT / "playbooks").glob("*.yml")} | {"git"}
    there |= {path.name for path in (ROOT / "roles").iterdir()}
    there |= {path.stem for kind in ("filter", "lookup", "callback") for path in (ROOT / "plugins" / kind).glob("*.py")}
    there |= set(yaml.safe_load((ROOT / "meta/runtime.yml").read_text())["action_groups"])
    assert set(re.findall(r"\bflyd\.lite\.(\w+)", guide.read_text())) <= there

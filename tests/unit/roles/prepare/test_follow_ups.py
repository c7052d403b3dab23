"""What must follow a change is done by a later run of the role too: the run that changed something may have been killed before it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

jinja2 = pytest.importorskip("jinja2", reason="Jinja is not installed")
yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")

ROLE = Path(__file__).parents[4] / "roles/prepare"
TASKS = {path.name: yaml.safe_load(path.read_text()) for path in sorted((ROLE / "tasks").glob("*.yml"))}


def flat(tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the tasks with those of their blocks."""
    return [
        inner
        for task in tasks
        for inner in (task, *(flat([one for part in ("block", "rescue", "always") for one in task.get(part, [])])))
    ]


ALL = [task for tasks in TASKS.values() for task in flat(tasks)]


def test_no_task_depends_on_a_change_of_this_run_alone() -> None:
    assert len(ALL) > 20
    assert not (ROLE / "handlers").exists(), "handlers are lost with the run that notifies them"
    for task in ALL:
        own = {key: value for key, value in task.items() if key not in ("block", "rescue", "always")}
        assert "notify" not in own, task["name"]
        for condition in re.findall(r"[^']*(?:is changed|\.changed)[^']*", str(own)):
            is_result = task["name"] == "Build, test and exchange the virtual environment"
            assert is_result or re.search(r"is changed or \w+\.stdout", condition), f"{task['name']}: {condition}"


def condition_of(name: str) -> str:
    [task] = [task for task in ALL if task["name"] == name]
    return " and ".join(f"({one})" for one in task["when"])


@pytest.mark.parametrize(
    ("said", "unwanted", "reads"),
    [
        (["loaded no", "not-found no", "not-found no"], 2, False),
        (["loaded no", "loaded no", "loaded no"], 0, False),
        (["loaded no", "loaded yes", "loaded no"], 0, True),
        (["not-found no", "loaded no", "loaded no"], 0, True),
        (["not-found no", "not-found no", "not-found no"], 2, True),
        (["loaded no", "not-found no", "loaded yes"], 2, True),
        ([], 2, False),
    ],
    ids=["one wanted", "all", "written", "not found", "all new", "removed", "no systemd"],
)
def test_systemd_reads_the_units_again_whenever_it_knows_others(said: list[str], unwanted: int, reads: bool) -> None:
    lines = [line for one in said for line in (f"LoadState={one.split()[0]}", f"NeedDaemonReload={one.split()[1]}", "")]
    found = jinja2.Environment().compile_expression(condition_of("Reload systemd when unit files have changed"))(
        ansible_check_mode=False,
        __prepare_units_read={"stdout_lines": lines},
        __prepare_unwanted_units=["unit"] * unwanted,
    )
    assert found is reads


def test_the_old_numbers_are_removed_while_the_unit_still_names_them() -> None:
    names = [task["name"] for task in flat(TASKS["units.yml"])]
    order = [
        "Stop the units that write metrics to the old directory",
        "Remove metrics that are no longer written",
        "Install the unit files",
    ]
    assert [names.index(name) for name in order] == sorted(names.index(name) for name in order)
    assert names.index(order[1]) < names.index("Remove the unit files that are no longer wanted")

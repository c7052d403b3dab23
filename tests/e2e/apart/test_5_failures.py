"""Everything that may be wrong at three in the morning: each with its kind and a hint, nothing left over, and the next right run succeeds."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from module_utils._lifecycle.store.schema import VERSION
from tests.campaigns.harness.target import Shell, Step, Target
from tests.e2e.apart.failures import DATABASE, KEYS, LARGE, POOL, SMALL, STATE_DIR, TINY_POOL, Failure, failures
from tests.e2e.machine import Machine

pytestmark = pytest.mark.timeout(1800)

# All that a run could leave behind, without what only time changes.
TRACES = f"""dmsetup ls 2>/dev/null | sort; dmsetup table 2>/dev/null | sort; losetup --list --noheadings --output BACK-FILE | sort
cut -d' ' -f5 /proc/self/mountinfo | sort; find {STATE_DIR} -path {STATE_DIR}/log -prune -o -type f ! -name flyd.db -printf '%p %m %s\\n' | sort
ls -A /tmp /dev/shm | grep -v -e ansible -e systemd
python3 -c 'import sqlite3
for table in ("operations", "_busy", "volumes", "images", "retired_images", "snapshots"):
    print(sqlite3.connect("file:{DATABASE}?mode=ro", uri=True).execute("SELECT * FROM " + table).fetchall())'
"""  # noqa: S608 - names of tables


@pytest.fixture(scope="module")
def table(target: Target, prepared: Machine, upload: Callable[[str, bytes], None]) -> list[Failure]:
    """The rows, and a host on which each can happen."""
    for key in ("sound", "summed", "packed", "other"):
        upload(f"{KEYS}{key}.tar", SMALL)
    upload(f"{KEYS}text.tar", b"This is no archive.\n" * 500)
    upload(f"{KEYS}large.tar", LARGE)
    fetch = [
        Step("flyd_fetch", {**prepared.s3_options(), "state_dir": STATE_DIR, "key": f"{KEYS}{key}.tar"})
        for key in ("packed", "text", "large")
    ]
    pools = [
        Step("flyd_pool", {"state_dir": STATE_DIR, "name": name, "data_size": size})
        for name, size in ((POOL, "64M"), (TINY_POOL, "8M"))
    ]
    made = target.drive([*pools, *fetch])
    assert [result.get("changed") for result in made] == [True] * len(made), made
    return failures(prepared.s3_options(), VERSION)


Told = dict[str, tuple[dict[str, Any], str]]


@pytest.fixture(scope="module")
def told(table: list[Failure], prepared: Machine, target: Target) -> Told:
    """What each row's run came to, and the traces that were found after it."""
    return {
        **_told_by_ansible([row for row in table if row.by_ansible], prepared),
        **_told_on_the_machine([row for row in table if not row.by_ansible], target),
    }


def _mended(row: Failure) -> str:
    return f"{row.mend or 'true'} || exit 1\n{TRACES}"


def _told_by_ansible(rows: Sequence[Failure], prepared: Machine) -> Told:
    """All in one play."""
    tasks: list[dict[str, Any]] = [{"ansible.builtin.shell": {"cmd": TRACES}}]
    for row in rows:
        tasks += [
            {"ansible.builtin.shell": {"cmd": row.wrong or "true"}},
            {f"flyd.lite.{row.module}": row.options, "become_user": row.become_user, "diff": True},
            {"ansible.builtin.shell": {"cmd": _mended(row)}},
        ]
    results = prepared.tasks(tasks)
    return _sorted_out(rows, results)


def _told_on_the_machine(rows: Sequence[Failure], target: Target) -> Told:
    steps: list[Step | Shell] = [Shell(TRACES)]
    for row in rows:
        steps += [Shell(row.wrong or "true"), Step(row.module, row.options), Shell(_mended(row))]
    results = target.drive(steps, go_on=True)
    return _sorted_out(rows, results)


def _sorted_out(rows: Sequence[Failure], results: Sequence[dict[str, Any]]) -> Told:
    assert len(results) == 1 + 3 * len(rows), results
    found: Told = {}
    for number, row in enumerate(rows):
        wrong, result, mended = results[3 * number + 1 : 3 * number + 4]
        assert [one.get("rc", one.get("driven")) for one in (wrong, mended)] == [0, 0], (row.name, wrong, mended)
        found[row.name] = (result, _difference(results[0]["stdout"], mended["stdout"]))
    return found


def _difference(before: str, after: str) -> str:
    return "\n".join(sorted(set(before.splitlines()) ^ set(after.splitlines())))


def test_every_failure_is_reported_with_its_kind_and_what_to_do(table: list[Failure], told: Told) -> None:
    wrong = [f"{row.name}: {problem}" for row in table for problem in _problems(row, *told[row.name])]
    assert wrong == []
    assert len(table) == 19


def _problems(row: Failure, result: dict[str, Any], left: str) -> list[str]:
    shown = json.dumps(result)
    checks = {
        f"kind {result.get('error_kind')}, not {row.kind}": result.get("error_kind") == row.kind,
        f"retryable {result.get('retryable')}": result.get("retryable") is row.retryable,
        f"the message is {result.get('msg')!r}": row.says in str(result.get("msg")),
        f"the hint is {result.get('hint')!r}": row.advice in str(result.get("hint")),
        "no clean failure": result.get("failed") is True and result.get("changed") is False,
        f"no JSON of the module's own: {shown[:500]}": not {"module_stdout", "module_stderr"} & set(result),
        f"a traceback: {shown[:2000]}": "Traceback (most recent call last)" not in shown,
        f"left behind: {left}": left == "",
    }
    return [problem for problem, holds in checks.items() if not holds]


def test_the_next_right_run_succeeds_after_each(
    table: list[Failure],
    told: Told,
    target: Target,
    upload: Callable[[str, bytes], None],
) -> None:
    for row in table:
        for key, data in row.objects.items():
            upload(key, data)
    steps: Sequence[Step] = [step for row in table for step in row.right]
    results = target.drive(steps, go_on=True)
    failed = [
        (step.module, step.options["state_dir"], result)
        for step, result in zip(steps, results, strict=True)
        if result["driven"]
    ]
    assert failed == []
    again = target.drive(steps, go_on=True)
    assert [result["changed"] for result in again] == [False] * len(steps)


def test_at_the_end_all_of_it_can_be_removed(told: Told, target: Target) -> None:
    pools = [
        Step("flyd_pool", {"state_dir": STATE_DIR, "name": name, "state": "absent", "force": True})
        for name in (POOL, TINY_POOL)
    ]
    assert [result["changed"] for result in target.drive(pools)] == [True, True]
    assert (
        target.ssh(f"dmsetup ls | grep failures; losetup --list | grep {STATE_DIR}; ls {STATE_DIR}/pools; true") == ""
    )
    target.ssh(f"rm -r {STATE_DIR}")

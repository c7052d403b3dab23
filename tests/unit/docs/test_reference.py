# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/reference.md has the error kinds, log events, transitions and metrics that the code has, and no other; so do the pages that use them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from module_utils._errors import ErrorKind
from module_utils._source.reuse.seeding import NotReused

ROOT = Path(__file__).parents[3]
REFERENCE = (ROOT / "docs/reference.md").read_text()
CODE = "\n".join(path.read_text() for path in (ROOT / "plugins/module_utils").rglob("*.py"))
KINDS = {kind.value for kind in ErrorKind}


def section(title: str) -> str:
    """The text below a heading of the reference."""
    return REFERENCE.partition(f"## {title}\n")[2].partition("\n## ")[0]


def first_column(title: str) -> set[str]:
    """All words in code type of the first column of the table below a heading, without the header's."""
    rows = re.findall(r"^\| (`.*?) \|", section(title), re.MULTILINE)
    return {word for row in rows for word in re.findall(r"`([^`]+)`", row)} - {"event"}


def test_the_kinds_are_those_of_the_code() -> None:
    assert first_column("Error kinds") == KINDS


@pytest.mark.parametrize("page", ["docs/operations.md", "docs/errors.md"])
def test_every_kind_has_a_row_in(page: str) -> None:
    rows = re.findall(r"^\| \[?`(\w+)`(?:\]\(\S+\))? \|", (ROOT / page).read_text(), re.MULTILINE)
    assert set(rows) - {"error_kind"} == KINDS


def test_the_events_are_those_that_the_code_writes() -> None:
    assert first_column("Log events") == set(re.findall(r'(?:log|self)\.write\(\s*"([a-z_ ]+)"', CODE))


def test_the_transitions_are_those_that_the_code_logs() -> None:
    listed = section("Log events").partition("Transitions: ")[2].partition(".")[0]
    logged = {
        *re.findall(r'\.transition\(\s*"([a-z ]+)"', CODE),
        *re.findall(r'^    name = "([a-z ]+)"$', CODE, re.MULTILINE),
    }
    assert set(re.findall(r"`([^`]+)`", listed)) == logged


def test_the_reasons_to_download_it_whole_are_those_of_the_code() -> None:
    assert first_column("`not_reused_because`") == {one.value for one in NotReused}


def test_the_metrics_are_those_of_the_code() -> None:
    assert first_column("Metrics") == set(re.findall(r'"(flyd_[a-z_]+)": "(?:gauge|counter): ', CODE))


def test_alarms_use_metrics_that_there_are() -> None:
    named = re.findall(r"\bflyd_[a-z]+_[a-z_]+", (ROOT / "docs/operations.md").read_text())
    assert named
    assert set(named) <= first_column("Metrics")

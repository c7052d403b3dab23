# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator reads while a play runs: each task has a name, in the imperative, that names its thing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")

ROOT = Path(__file__).parents[3]
FILES = sorted(
    [*ROOT.glob("roles/*/tasks/**/*.yml"), *ROOT.glob("roles/*/handlers/*.yml"), *ROOT.glob("playbooks/*.yml")]
)
PRONOUNS = re.compile(
    r"\b(it|its|them|they|this|that there are|nobody|somebody|whoever|anew|by itself|what)\b", re.IGNORECASE
)
NOT_IMPERATIVE = re.compile(r"^(have|let|say|look|the|a|an)\b|^\w+(ing|ed)\b", re.IGNORECASE)


def tasks(items: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """All plays and tasks, with those in blocks."""
    for item in items:
        yield item
        for inner in ("tasks", "pre_tasks", "post_tasks", "handlers", "block", "rescue", "always"):
            yield from tasks(item.get(inner, []))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_task_says_what_it_does_to_which_thing(path: Path) -> None:
    found = list(tasks(yaml.safe_load(path.read_text()) or []))
    names = [str(one.get("name", "")) for one in found if "import_playbook" not in one]
    assert [one for one in names if len(one.split()) < 2 or PRONOUNS.search(one) or NOT_IMPERATIVE.search(one)] == []

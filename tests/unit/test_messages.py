# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every message reads as an operator needs it: names, sizes with units, a hint that says what to do, plain words."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from module_utils._errors import ErrorKind, FlydError
from module_utils._names import exact_size_text, size_text
from tests.e2e.apart.failures import failures
from tests.unit.support.messages import ROOT, error_classes, messages, texts

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")

QUIRKS = re.compile(
    r"\b(told|nobody|somebody|whoever|anew|by itself|made to do harm|cut off|mended|of ours|that is none|goes on with|gone on with|"
    r"asked was|half way|put down|cannot be one|cannot be had)\b",
    re.IGNORECASE,
)
REPRS = re.compile(r"=(False|True|None)\b|\b(False|True|None)\b|\bb'|\w=\{")
DOUBLED = re.compile(r"\b([a-z]+) \1\b", re.IGNORECASE)
SIZE = re.compile(
    r"\{(?![^{}]*(?:size_text|option_size|size_for)\()[^{}]*(?:_bytes|st_size|\.size\b)[^{}]*\}(?! (?:bytes|of \{[^{}]*\} bytes|and \{[^{}]*\} bytes))"
)
POOL = re.compile(r"\{[^{}]*\bname\b[^{}]*\}")  # a pool that was given no name is called pool
PLACEHOLDER = re.compile(r"\{[^{}]*\}")
NAMES = (
    "pool {pool.name}",
    "pool {name}",
)  # of a lock in the database, of the subject of a record; messages write them out
ACTION = re.compile(
    r"`[^`]+`|\bflyd_(?:pool|fetch|unpack|snapshot|info)\b|\bflyd\.lite\.|\bactivate_|\brun (?:again|the module again)\b|\breport it\b"
)


def options() -> frozenset[str]:
    """The options of all modules and roles."""
    found: set[str] = set()
    for path in [*(ROOT / "plugins/modules").glob("*.py"), ROOT / "plugins/doc_fragments/common.py"]:
        found |= set(re.findall(r"^ +(\w+):$", path.read_text(), re.MULTILINE))
    for path in (ROOT / "roles").glob("*/meta/argument_specs.yml"):
        found |= set(yaml.safe_load(path.read_text())["argument_specs"]["main"]["options"])
    return frozenset(found)


def shown() -> Iterator[tuple[str, str]]:
    """Place and text of all that an operator may read of the plugins' code, and of what describes it."""
    yield from texts()
    for number, line in enumerate((ROOT / "docs/errors.md").read_text().splitlines(), 1):
        yield f"docs/errors.md:{number}", line
    for failure in failures({}, 1):
        for text in (failure.says, failure.advice):
            yield f"failures.py: {failure.name}", text


def found(pattern: re.Pattern[str]) -> list[str]:
    return [f"{where} {text}" for where, text in shown() if pattern.search(PLACEHOLDER.sub("…", text))]


def test_all_errors_are_walked() -> None:
    seen = list(messages())
    assert len(seen) > 250
    assert error_classes() >= {cls.__name__ for cls in FlydError.__subclasses__()}
    assert {one.maker.partition(".")[0] for one in seen} >= {cls.__name__ for cls in FlydError.__subclasses__()}


def test_no_message_has_a_word_that_a_maintainer_would_not_write() -> None:
    assert found(QUIRKS) == []


def test_no_message_shows_a_value_as_python_writes_it() -> None:
    assert [f"{one.where} {one.text}" for one in messages() if REPRS.search(one.text) or REPRS.search(one.hint)] == []


def test_every_size_has_a_unit() -> None:
    assert [
        f"{where} {text}"
        for one in messages()
        for where, text in ((one.where, one.text), (one.where, one.hint))
        if SIZE.search(text)
    ] == []


def test_no_noun_is_doubled_by_the_name_that_follows_it() -> None:
    assert [
        f"{where} {text}" for where, text in shown() if DOUBLED.search(POOL.sub("pool", text)) and text not in NAMES
    ] == []


def test_every_error_has_a_hint_that_names_an_option_or_a_command() -> None:
    words = re.compile(rf"\b({'|'.join(sorted(options()))})\b")
    bad = [one for one in messages() if one.hint and not ACTION.search(one.hint) and not words.search(one.hint)]
    assert [f"{one.where} {one.text} -> {one.hint}" for one in bad] == []


def test_every_kind_that_is_named_is_one_of_the_closed_list() -> None:
    kinds = {kind.value for kind in ErrorKind}
    assert {failure.kind for failure in failures({}, 1)} <= kinds
    assert (
        set(re.findall(r"^\| `(\w+)` \| (?:yes|no|some)", (ROOT / "docs/errors.md").read_text(), re.MULTILINE)) == kinds
    )
    assert {cls.kind.value for cls in FlydError.__subclasses__()} == kinds


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (1023, "1023 bytes"),
        (1024, "1 KiB"),
        (267386880, "255 MiB"),
        (1610612736, "1.5 GiB"),
        (5 << 40, "5 TiB"),
        (1 << 50, "1024 TiB"),
    ],
)
def test_a_size_is_shown_in_its_largest_unit(size_bytes: int, text: str) -> None:
    assert size_text(size_bytes) == text


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (1, "1 byte"),
        (4 << 20, "4 MiB"),
        ((4 << 20) + 512, "4096.5 KiB"),
        ((4 << 20) + 1, "4194305 bytes"),
        (3 << 29, "1.5 GiB"),
    ],
)
def test_a_size_that_counts_to_the_byte_is_not_rounded(size_bytes: int, text: str) -> None:
    assert exact_size_text(size_bytes) == text

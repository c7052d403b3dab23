# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pages name only what there is: make targets, paths of tests, other pages; and the site has every page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
MOST_FILES = 12
_NO_PAGES = {"adr", "site"}
_OF_CODE = {"ARCHITECTURE.md", "CODING_STYLE.md"}
PAGES = sorted(
    [
        *(path for path in ROOT.glob("*.md") if path.name != "CHANGELOG.md"),
        *(path for path in DOCS.rglob("*.md") if path.relative_to(DOCS).parts[0] not in _NO_PAGES),
        *ROOT.glob("roles/*/README.md"),
    ]
)
# Words that a page of a project like this one would not have.
QUIRKS = re.compile(
    r"\b(?:told|goes on with|cut off|nobody|somebody|whoever|anew|by itself|mended|put down|of ours|that is none|way back"
    r"|what becomes of|has nothing to say)\b"
)
SOURCES = sorted(
    path
    for directory in ("plugins", "roles", "playbooks", "docs/adr")
    for path in (ROOT / directory).rglob("*")
    if path.suffix in {".py", ".yml", ".md", ".j2", ".service", ".timer"}
)


def name_of(page: Path) -> str:
    """The page as it is named in the repository."""
    return str(page.relative_to(ROOT))


def targets() -> set[str]:
    """The targets of the Makefile."""
    return set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def commands(page: Path) -> Iterator[str]:
    """The target of each ``make`` command of a page, in its text or in a block of its own."""
    text = page.read_text()
    for words in re.findall(r"`((?:[A-Z_]+=\S+ )*make [^`]*)`|^ {4}((?:[A-Z_]+=\S+ )*make .*)$", text, re.MULTILINE):
        yield from re.findall(r"[a-z][a-z-]*", re.sub(r"\S+=\S*|#.*", "", "".join(words).partition("make ")[2]))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_make_target_that_is_named_exists(page: Path) -> None:
    assert set(commands(page)) <= targets()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_test_that_is_named_exists(page: Path) -> None:
    named = set(re.findall(r"\btests/[\w./-]*\w/?", page.read_text()))
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", page.read_text()):
        path = page.parent / target if target else page
        assert path.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
            assert anchor in [re.sub(r"[^a-z0-9_ -]", "", one.lower()).replace(" ", "-") for one in headings]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_page_that_is_named_in_code_type_exists(page: Path) -> None:
    named = re.findall(r"`(docs/[\w/.-]+\.md)`", page.read_text())
    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in _OF_CODE], ids=name_of)
def test_no_page_for_users_has_a_quirk(page: Path) -> None:
    assert QUIRKS.findall(page.read_text()) == []


def test_no_source_has_a_quirk() -> None:
    found = {name_of(path): QUIRKS.findall(path.read_text()) for path in SOURCES}
    # The user of that name.
    assert found.pop("docs/adr/0027-decoders-are-processes-without-rights.md") == ["nobody"]
    assert {name: words for name, words in found.items() if words} == {}


def test_the_documentation_lists_every_page() -> None:
    listed = {(DOCS / path).resolve() for path in re.findall(r"\]\(([\w/-]+\.md)", (DOCS / "README.md").read_text())}
    assert {page for page in PAGES if DOCS in page.parents} - {DOCS / "README.md"} <= listed


def test_the_site_has_every_page() -> None:
    lines = (DOCS / "site/index.md").read_text().splitlines()
    pages = {name_of(page).removesuffix(".md") for page in PAGES if DOCS in page.parents} - {"docs/README"}
    assert pages <= set(lines)


def test_no_folder_has_more_files_than_one_can_take_in() -> None:
    folders = [DOCS, *(path for path in DOCS.iterdir() if path.is_dir() and path.name != "adr")]
    counts = {folder.name: sum(path.is_file() for path in folder.iterdir()) for folder in folders}
    assert max(counts.values()) <= MOST_FILES, counts

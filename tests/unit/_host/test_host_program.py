# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A program that was installed by an older release is noticed before a newer database keeps it from activating pools at boot."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from module_utils._host import host_program
from module_utils._lifecycle.store.schema import VERSION

ROOT = Path(__file__).parents[3]


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / host_program.PATH
    path.parent.mkdir(parents=True)
    return path


@pytest.fixture(scope="module")
def packed() -> str:
    """The program as the role prepare installs it."""
    pack: list[str | Path] = [sys.executable, ROOT / "roles/prepare/files/pack.py", ROOT / "plugins/module_utils"]
    return subprocess.run(pack, capture_output=True, text=True, check=True).stdout


def test_a_host_without_the_program_is_not_complained_about(tmp_path: Path) -> None:
    assert host_program.warnings(VERSION, root=str(tmp_path)) == []


def test_the_program_of_this_release_can_open_the_database(program: Path, packed: str, tmp_path: Path) -> None:
    program.write_text(packed)
    assert host_program.complaint(VERSION, root=str(tmp_path)) == ""


@pytest.mark.parametrize(
    ("replacement", "says"),
    [
        (
            f"database: {VERSION - 1}\n",
            rf"knows schema {VERSION - 1} of the database, and the database has schema {VERSION}",
        ),
        ("nothing\n", "of a release that does not say which schema it knows"),
    ],
)
def test_an_older_program_is_named_with_what_to_do(
    program: Path, packed: str, tmp_path: Path, replacement: str, says: str
) -> None:
    program.write_text(packed.replace(f"database: {VERSION}\n", replacement, 1))
    [warning] = host_program.warnings(VERSION, root=str(tmp_path))
    assert says in warning
    assert "run the role flyd.lite.prepare on this host" in warning
    assert str(program) in warning


def test_a_program_that_cannot_be_read_is_named(program: Path, tmp_path: Path) -> None:
    program.mkdir()
    assert "cannot be read: Is a directory" in host_program.complaint(VERSION, root=str(tmp_path))

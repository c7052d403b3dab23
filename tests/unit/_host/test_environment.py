# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The environment of the modules, as files: what is wrong with it is reported, with its path, and nothing of it is run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from module_utils._host.environment import _NEEDED, complaint, damage, interpreter

NO_UNIT = "/nonexistent/flyd-restore.service"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with an environment whose interpreter was upgraded to no other version."""
    python = tmp_path / "usr/bin/python3.11"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/false\n")
    python.chmod(0o755)
    made = tmp_path / "flyd/venv-0123.abc"
    site = made / "lib/python3.11/site-packages"
    for name in _NEEDED:
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text("ab\n")
    record = site / "boto3-1.dist-info/RECORD"
    record.parent.mkdir()
    record.write_text("boto3/__init__.py,sha256=x,3\nboto3-1.dist-info/RECORD,,\n")
    (made / "bin").mkdir()
    (made / "bin/python").symlink_to(python)
    (tmp_path / "flyd/venv").symlink_to(made.name)
    return tmp_path / "flyd"


def test_a_sound_environment_has_nothing_to_tell(home: Path) -> None:
    assert (complaint(str(home), NO_UNIT), damage(str(home))) == ("", "")


def test_the_interpreter_is_that_of_the_environment_itself_not_of_the_link(home: Path) -> None:
    assert interpreter(str(home)) == str(home / "venv-0123.abc/bin/python")


def test_a_host_that_was_never_prepared_has_nothing_to_tell(tmp_path: Path) -> None:
    assert (complaint(str(tmp_path), NO_UNIT), damage(str(tmp_path))) == ("", "")


def site(home: Path) -> Path:
    return home / "venv/lib/python3.11/site-packages"


def no_interpreter(home: Path) -> None:
    (home.parent / "usr/bin/python3.11").unlink()


def newer_python(home: Path) -> None:
    (home.parent / "usr/bin/python3.11").rename(home.parent / "usr/bin/python3.13")
    (home / "venv/bin/python").unlink()
    (home / "venv/bin/python").symlink_to(home.parent / "usr/bin/python3.13")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (no_interpreter, "python3.11 cannot be run"),
        (newer_python, "another version of Python"),
        (lambda home: shutil.rmtree(site(home) / "boto3"), "boto3/__init__.py is missing"),
        (lambda home: (site(home) / "six.py").unlink(), "six.py is missing"),
        (lambda home: shutil.rmtree(site(home)), "another version of Python"),
        (lambda home: shutil.rmtree(home / "venv-0123.abc"), "is missing"),
        (lambda home: shutil.rmtree(home / "venv-0123.abc/bin"), "no interpreter"),
    ],
)
def test_what_does_not_import_is_reported(home: Path, wrong: Callable[[Path], None], says: str) -> None:
    wrong(home)
    assert says in complaint(str(home), NO_UNIT)


def test_a_missing_environment_is_reported_where_a_boot_needs_it(tmp_path: Path) -> None:
    unit = tmp_path / "flyd-restore.service"
    unit.touch()
    assert "is missing" in complaint(str(tmp_path), str(unit))


def test_every_package_that_the_modules_need_is_looked_for(home: Path) -> None:
    for name in _NEEDED:
        path = site(home) / name
        path.rename(home / "away")
        assert name in complaint(str(home), NO_UNIT)
        (home / "away").rename(path)


@pytest.mark.parametrize("content", ["", "abc\n"])
def test_a_file_of_another_size_is_damage(home: Path, content: str) -> None:
    (site(home) / "boto3/__init__.py").write_text(content)
    assert complaint(str(home), NO_UNIT) == ""
    assert "boto3/__init__.py" in damage(str(home))


def test_a_package_without_a_record_is_damage(home: Path) -> None:
    os.unlink(site(home) / "boto3-1.dist-info/RECORD")
    assert "boto3-1.dist-info/RECORD" in damage(str(home))


def test_an_interpreter_without_a_version_in_its_name_is_taken_as_it_is(home: Path) -> None:
    named = home.parent / "usr/bin/python3"
    (home.parent / "usr/bin/python3.11").rename(named)
    (home / "venv/bin/python").unlink()
    (home / "venv/bin/python").symlink_to(named)
    assert complaint(str(home), NO_UNIT) == ""

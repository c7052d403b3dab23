# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A file for others is whole, and what the owner of its directory puts in the way changes nothing outside of that directory."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from module_utils._errors import BadInput
from module_utils._host.files.publishing import publish, withdraw
from tests.unit._lifecycle.disk import picture

NOBODY = 65534
PART = ".flyd.prom.new"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives a directory to another user")


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file that must not change."""
    path = tmp_path / "secret" / "shadow"
    path.parent.mkdir(0o755)
    path.write_text("root:secret")
    path.chmod(0o600)
    return path


@pytest.fixture(params=["own", pytest.param("of another user", marks=as_root)])
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "textfile"
    path.mkdir(0o755)
    if request.param != "own":
        os.chown(path, NOBODY, NOBODY)
    return path


def without_tmpfile(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that has no O_TMPFILE."""
    real = os.open

    def refusing(path: str, flags: int, *rest: int, **given: int) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "no O_TMPFILE")
        return real(path, flags, *rest, **given)

    monkeypatch.setattr(os, "open", refusing)


@pytest.fixture(params=["O_TMPFILE", "named"])
def anyhow(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "named":
        without_tmpfile(monkeypatch)


def test_the_file_is_whole_readable_and_belongs_to_the_owner_of_the_directory(directory: Path, anyhow: None) -> None:
    for text in (b"one\n", b"two\n" * 100000):
        publish(str(directory / "flyd.prom"), text)
        assert (directory / "flyd.prom").read_bytes() == text
    found, above = (directory / "flyd.prom").stat(), directory.stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid) == (0o644, above.st_uid)
    assert os.listdir(directory) == ["flyd.prom"]
    assert os.geteuid() == os.getuid()


TRAPS: dict[str, Callable[[Path, Path], object]] = {
    "symbolic link": lambda trap, secret: trap.symlink_to(secret),
    "dangling link": lambda trap, secret: trap.symlink_to(secret.parent / "new"),
    "hard link": lambda trap, secret: os.link(secret, trap),
    "fifo": lambda trap, secret: os.mkfifo(trap),
    "socket": lambda trap, secret: os.mknod(trap, stat.S_IFSOCK | 0o666),
    "file": lambda trap, secret: trap.write_text("something longer than what is written"),
}


@pytest.mark.parametrize("name", ["flyd.prom", PART])
@pytest.mark.parametrize("trap", TRAPS)
def test_what_the_owner_puts_in_the_way_is_replaced_and_never_opened(
    directory: Path, secret: Path, trap: str, name: str, anyhow: None
) -> None:
    TRAPS[trap](directory / name, secret)
    before = picture(secret.parent)
    publish(str(directory / "flyd.prom"), b"1\n")
    assert picture(secret.parent) == before
    assert (directory / "flyd.prom").read_bytes() == b"1\n"
    assert not (directory / "flyd.prom").is_symlink()
    assert os.listdir(directory) == ["flyd.prom"]


@pytest.mark.parametrize("name", ["flyd.prom", PART])
def test_a_directory_in_the_way_stays_and_is_an_error(directory: Path, name: str, anyhow: None) -> None:
    (directory / name).mkdir()
    (directory / name / "kept").write_text("")
    with pytest.raises(OSError, match=r"flyd\.prom"):
        publish(str(directory / "flyd.prom"), b"1\n")
    assert os.listdir(directory) == [name]
    assert os.geteuid() == os.getuid()


@as_root
def test_a_link_that_another_user_put_in_the_path_is_refused(tmp_path: Path, secret: Path) -> None:
    tmp_path.chmod(0o755)
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    os.chown(theirs, NOBODY, NOBODY)
    (theirs / "textfile").symlink_to(secret.parent)
    before = picture(secret.parent)
    with pytest.raises(BadInput, match="symbolic link"):
        publish(str(theirs / "textfile" / "flyd.prom"), b"1\n")
    with pytest.raises(BadInput, match="symbolic link"):
        withdraw(str(theirs / "textfile" / "shadow"))
    assert picture(secret.parent) == before


@as_root
def test_a_directory_of_another_user_is_written_to_with_that_users_rights(tmp_path: Path) -> None:
    directory = tmp_path / "textfile"
    directory.mkdir(0o555)  # not even its owner may write to it
    os.chown(directory, NOBODY, NOBODY)
    with pytest.raises(PermissionError):
        publish(str(directory / "flyd.prom"), b"1\n")
    assert os.listdir(directory) == []
    assert (os.geteuid(), os.getegid()) == (0, 0)


EXCHANGE = """
import errno
import os
while True:
    for other in ("real", "link"):
        os.rename(other, "textfile")
        os.rename("textfile", other)
"""


def outcome_of_publishing(path: Path) -> str:
    try:
        publish(str(path), b"1\n")
    except (OSError, BadInput) as error:
        return type(error).__name__
    return "written"


@as_root
def test_a_directory_that_is_exchanged_all_the_time_never_leads_elsewhere(tmp_path: Path, secret: Path) -> None:
    tmp_path.chmod(0o755)
    theirs = tmp_path / "theirs"
    (theirs / "real").mkdir(parents=True)
    os.symlink(secret.parent, theirs / "link")
    for path in (theirs, theirs / "real"):
        os.chown(path, NOBODY, NOBODY)
    before, outcomes = picture(secret.parent), set[str]()
    with subprocess.Popen([sys.executable, "-c", EXCHANGE], cwd=theirs) as attacker:
        try:
            for _ in range(300):
                outcomes.add(outcome_of_publishing(theirs / "textfile" / "flyd.prom"))
        finally:
            attacker.kill()
    assert picture(secret.parent) == before, outcomes


def test_a_file_that_cannot_be_filled_leaves_nothing_and_the_old_one(
    directory: Path, anyhow: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(str(directory / "flyd.prom"), b"old\n")

    def full(_fd: int, _mode: int) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(os, "fchmod", full)
    with pytest.raises(OSError, match="no space"):
        publish(str(directory / "flyd.prom"), b"new\n")
    assert os.listdir(directory) == ["flyd.prom"]
    assert (directory / "flyd.prom").read_bytes() == b"old\n"


def test_what_is_withdrawn_is_the_name_and_not_what_it_points_at(directory: Path, secret: Path) -> None:
    before = picture(secret.parent)
    assert not withdraw(str(directory / "flyd.prom"))
    (directory / "flyd.prom").symlink_to(secret)
    assert withdraw(str(directory / "flyd.prom"))
    assert (os.listdir(directory), picture(secret.parent)) == ([], before)
    assert not withdraw(str(directory / "missing" / "flyd.prom"))


def test_a_directory_that_is_withdrawn_stays_with_what_is_in_it(directory: Path) -> None:
    (directory / "flyd.prom").mkdir()
    (directory / "flyd.prom" / "kept").write_text("")
    with pytest.raises(OSError, match=r"flyd\.prom"):
        withdraw(str(directory / "flyd.prom"))
    assert (directory / "flyd.prom" / "kept").exists()

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""No other user decides where a path of root leads."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from module_utils._errors import BadInput
from module_utils._host.files.directories import open_directory
from module_utils._host.files.durable import check_private_directory, make_private_directory

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives a directory to another user")


def opened(path: Path, *, private: bool = True) -> str:
    """Where the descriptor leads."""
    fd = open_directory(str(path), private=private)
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def test_a_path_leads_where_the_kernel_says(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "up").symlink_to("../a/./b")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    for name in ("a/b", "link/b", "link/up", "a//b/."):
        assert opened(tmp_path / name) == str(tmp_path / "a" / "b")
    assert opened(Path("/")) == "/"


def test_a_circle_of_links_ends(tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    with pytest.raises(OSError, match="symbolic links"):
        opened(tmp_path / "one")


@pytest.mark.parametrize("name", ["missing", "file", "file/below"])
def test_what_is_no_directory_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    descriptors = len(os.listdir("/proc/self/fd"))
    with pytest.raises((FileNotFoundError, NotADirectoryError)):
        opened(tmp_path / name)
    assert len(os.listdir("/proc/self/fd")) == descriptors


@pytest.mark.parametrize(("mode", "gid"), [(0o777, 0), (0o775, NOBODY), (0o757, 0)])
@as_root
def test_a_parent_that_others_may_write_to_is_refused(tmp_path: Path, mode: int, gid: int) -> None:
    state = tmp_path / "shared" / "state"
    state.mkdir(parents=True, mode=0o700)
    os.chown(state.parent, 0, gid)
    state.parent.chmod(mode)
    with pytest.raises(BadInput, match=r"shared, on the path .*, belongs to uid 0"):
        check_private_directory(str(state))
    with pytest.raises(BadInput, match="could exchange"):
        make_private_directory(str(state.parent / "new"))
    assert not (state.parent / "new").exists()
    state.parent.chmod(0o1777)
    check_private_directory(str(state))


@as_root
def test_a_parent_of_another_user_is_refused_before_anything_is_made_in_it(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    os.chown(theirs, NOBODY, NOBODY)
    for name in ("state", "a/b/state"):
        with pytest.raises(BadInput, match=f"belongs to uid {NOBODY}"):
            make_private_directory(str(theirs / name))
    assert os.listdir(theirs) == []


@as_root
def test_a_link_of_another_user_in_a_sticky_directory_is_refused(tmp_path: Path) -> None:
    sticky = tmp_path / "tmp"
    sticky.mkdir()
    sticky.chmod(0o1777)
    (tmp_path / "root").mkdir()
    (sticky / "link").symlink_to(tmp_path / "root")
    assert opened(sticky / "link") == str(tmp_path / "root")
    os.chown(sticky / "link", NOBODY, NOBODY, follow_symlinks=False)
    for private in (True, False):
        with pytest.raises(BadInput, match=f"symbolic link that uid {NOBODY} controls"):
            opened(sticky / "link", private=private)

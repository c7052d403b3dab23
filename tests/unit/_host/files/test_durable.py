"""Private directories, and errors that an operator understands."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from module_utils._errors import BadInput, CommandFailed, FlydError, NoSpace, Unsupported
from module_utils._host.files.durable import (
    check_private_directory,
    file_errors,
    free_bytes,
    from_os_error,
    make_private_directory,
    remove_file,
    sync_directory,
)


def test_a_private_directory_is_made_with_its_parents(tmp_path: Path) -> None:
    make_private_directory(str(tmp_path / "a" / "b" / "c"))
    assert stat.S_IMODE((tmp_path / "a/b/c").stat().st_mode) == 0o700
    assert not (tmp_path / "a/b").stat().st_mode & 0o022


def test_a_private_directory_that_is_there_is_kept(tmp_path: Path) -> None:
    make_private_directory(str(tmp_path / "a"))
    (tmp_path / "a/file").touch()
    make_private_directory(str(tmp_path / "a"))
    assert (tmp_path / "a/file").exists()


def test_a_link_to_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(BadInput, match="is not a directory"):
        make_private_directory(str(tmp_path / "link"))


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="is not a directory"):
        check_private_directory(str(tmp_path / "file"))


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
def test_a_directory_that_others_may_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(mode)
    with pytest.raises(BadInput, match=f"mode 0{mode:o}"):
        check_private_directory(str(tmp_path / "open"))


@pytest.mark.parametrize("mode", [0o700, 0o755, 0o711])
def test_a_directory_that_others_may_only_read_is_trusted(tmp_path: Path, mode: int) -> None:
    (tmp_path / "readable").mkdir()
    (tmp_path / "readable").chmod(mode)
    check_private_directory(str(tmp_path / "readable"))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a directory away")
def test_a_directory_of_another_owner_is_refused(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir(mode=0o700)
    os.chown(tmp_path / "theirs", 1, 1)
    with pytest.raises(BadInput, match="belongs to uid 1"):
        check_private_directory(str(tmp_path / "theirs"))


def test_removing_a_file_says_whether_it_was_there(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert remove_file(str(tmp_path / "file")) is True
    assert remove_file(str(tmp_path / "file")) is False


def test_free_space_is_asked_of_the_nearest_parent(tmp_path: Path) -> None:
    assert free_bytes(str(tmp_path / "not" / "yet")) == pytest.approx(free_bytes(str(tmp_path)), rel=0.1)


def test_only_a_directory_can_be_synced(tmp_path: Path) -> None:
    sync_directory(str(tmp_path))
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        sync_directory(str(tmp_path / "file"))


@pytest.mark.parametrize(
    ("number", "kind", "said"),
    [
        (errno.ENOSPC, NoSpace, "no space left"),
        (errno.EDQUOT, NoSpace, "no space left"),
        (errno.EACCES, Unsupported, "not permitted"),
        (errno.EPERM, Unsupported, "not permitted"),
        (errno.EROFS, Unsupported, "read-only"),
        (errno.EMFILE, Unsupported, "refuses resources"),
        (errno.ENOMEM, Unsupported, "refuses resources"),
        (errno.EIO, CommandFailed, "Input/output error"),
    ],
)
def test_an_os_error_says_what_to_do(number: int, kind: type[FlydError], said: str) -> None:
    error = from_os_error(OSError(number, os.strerror(number), "/var/lib/flyd\n"), "writing the archive")
    assert type(error) is kind
    assert said in error.msg
    assert error.msg.startswith("writing the archive: /var/lib/flyd\\n")
    assert error.hint


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (b"etc/h\xffard", r"writing the tree: etc/h\xffard: "),
        (7, "writing the tree: 7: "),
        (None, "writing the tree: no "),
    ],
)
def test_a_name_is_reported_as_it_is_whatever_its_type(name: object, told: str) -> None:
    error = from_os_error(OSError(errno.ENOSPC, "No space left on device", name), "writing the tree")
    assert error.msg.startswith(told), error.msg


def test_own_errors_pass_unchanged() -> None:
    with pytest.raises(BadInput, match="ours"), file_errors("writing"):
        raise BadInput("ours", hint="")


def test_an_os_error_keeps_its_cause(tmp_path: Path) -> None:
    with pytest.raises(Unsupported) as caught, file_errors("reading"):
        (tmp_path / "nonesuch").read_bytes()
    assert isinstance(caught.value.__cause__, FileNotFoundError)

"""What the writer does besides being careful: many processes, many directories, and errors that say where."""

from __future__ import annotations

import os
import resource
import subprocess
from pathlib import Path

import pytest

from module_utils._errors import BadInput, FlydError, NoSpace
from module_utils._image.extent import Extent
from module_utils._image.writing import copying
from module_utils._image.writing.copying import Copier
from module_utils._image.writing.tree_writer import shares
from tests.unit._image.unpacked import Playground, needs_root, plan_of
from tests.unit.builders import images, tar

MANY = tar.tar(*(tar.file(b"d%d/f%d" % (at % 50, at), b"%d" % at * 300) for at in range(1200)))


@needs_root
def test_several_processes_write_the_same_tree_as_one(playground: Playground) -> None:
    one = playground.unpack("docker", [MANY], processes=1)
    subprocess.run(["find", playground.root, "-mindepth", "1", "-delete"], check=True)
    four = playground.unpack("docker", [MANY], processes=4)
    assert one.rows == four.rows
    assert len(four.rows) == 1 + 50 + 1200


def test_shares_cover_all_leaves_once_and_in_order(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, images.docker_archive([MANY]))
    for processes in (1, 2, 3, 4, 100):
        cut = shares(plan.leaves.inodes, processes)
        assert cut[0][0] == 0
        assert cut[-1][1] == 1200
        assert [begin for begin, _ in cut[1:]] == [end for _, end in cut[:-1]]
        assert len(cut) == min(processes, 1200 // 256)


def test_a_large_file_is_a_share_of_its_own(tmp_path: Path) -> None:
    files = [tar.file(b"a%d" % at, b"x") for at in range(600)]
    large = tar.tar(*files, tar.file(b"z", bytes(80 << 20)))
    plan = plan_of(tmp_path, images.docker_archive([large]))
    assert shares(plan.leaves.inodes, 2) == [(0, 600), (600, 601)]


@needs_root
def test_more_directories_than_may_be_open_are_written(playground: Playground) -> None:
    members = [tar.file(b"a%d/b%d/c%d/f" % (at % 7, at % 11, at), b"x") for at in range(300)]
    deep = tar.long_name(b"/".join([b"deep"] * 30)) + tar.file(b"deep")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    in_use = max(map(int, os.listdir("/proc/self/fd")))  # by tests before this one; a writer keeps none of them
    resource.setrlimit(resource.RLIMIT_NOFILE, (in_use + 48, hard))
    try:
        written = playground.unpack("docker", [tar.tar(*members, deep, *members)])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(written.kinds()) == 300 * 2 + 7 + 77 + 30


@needs_root
def test_a_directory_that_is_not_empty_is_refused(playground: Playground) -> None:
    (playground.root / "there").touch()
    with pytest.raises(BadInput, match="not empty"):
        playground.unpack("docker", [MANY])


@needs_root
def test_a_full_file_system_is_no_space_and_names_the_path(playground: Playground) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", playground.root], check=True)
    try:
        with pytest.raises(NoSpace, match="writing large"):
            playground.unpack("docker", [tar.tar(tar.file(b"large", bytes(1 << 20)))])
    finally:
        subprocess.run(["umount", playground.root], check=True)


@needs_root
def test_too_many_names_for_the_file_system_is_refused_with_the_path(playground: Playground) -> None:
    long = "ü".encode() * 127 + b"x"  # 255 bytes
    done = playground.unpack("docker", [tar.tar(tar.long_name(long), tar.file(b"x"))])
    assert len(done.kinds()) == 1


@pytest.fixture
def source(tmp_path: Path) -> Extent:
    """A file of a hundred bytes that begins at byte 10 of another."""
    (tmp_path / "source").write_bytes(bytes(10) + bytes(range(100)))
    return Extent(os.open(tmp_path / "source", os.O_RDONLY), 10, 100)


@pytest.mark.parametrize("ways", [1, 2, 3])
def test_content_is_copied_whichever_way_the_kernel_allows(
    tmp_path: Path, source: Extent, ways: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: int) -> int:
        raise OSError(18, "Invalid cross-device link")

    def zero(*_: int) -> int:
        return 0

    for name, step in (("_by_range", zero), ("_by_sendfile", refuse))[: 3 - ways]:
        monkeypatch.setattr(copying, name, step)
    with open(tmp_path / "target", "wb", buffering=0) as target:
        Copier().copy(source, 20, target.fileno(), 50)
    assert (tmp_path / "target").read_bytes() == bytes(range(20, 70))


def test_a_source_that_ends_early_is_an_error_and_not_a_short_file(tmp_path: Path, source: Extent) -> None:
    with open(tmp_path / "target", "wb", buffering=0) as target, pytest.raises(FlydError, match="was cut"):
        Copier().copy(source, 90, target.fileno(), 50)


def test_the_plan_measures_what_a_volume_needs(tmp_path: Path) -> None:
    layer = tar.tar(
        tar.directory(b"d"),
        tar.file(b"d/one", b"x" * 5000),
        tar.file(b"d/two", b"x"),
        tar.hard_link(b"d/three", b"d/one"),
        tar.symlink(b"short", b"t"),
        tar.symlink(b"long", b"t" * 60),
    )
    plan = plan_of(tmp_path, images.docker_archive([layer]))
    assert (plan.inodes, plan.entries, len(plan.directories)) == (6, 6, 2)
    assert (plan.content_bytes, plan.logical_bytes) == (5001, 5001)
    assert plan.volume_blocks == 2 + 2 + 1 + 1  # two directories, two files, a link that does not fit its inode
    assert (plan.depth, plan.longest_name_bytes) == (1, 5)

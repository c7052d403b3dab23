"""Sparse files in the four forms of GNU tar: holes stay holes, and a map that lies is refused."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from module_utils._errors import Untrusted
from tests.unit._image.unpacked import Playground, needs_root, plan_of
from tests.unit.builders import images, tar

FORMS = {
    "old GNU": ["--format=gnu"],
    "PAX 0.0": ["--format=posix", "--sparse-version=0.0"],
    "PAX 0.1": ["--format=posix", "--sparse-version=0.1"],
    "PAX 1.0": ["--format=posix", "--sparse-version=1.0"],
}
MIB = 1 << 20


def made_by_gnu_tar(directory: Path, form: str, islands: int) -> bytes:
    """A tar of one sparse file ``holes`` with data at every MiB, and nothing behind the last."""
    path = directory / "holes"
    with open(path, "wb") as file:
        for at in range(islands):
            file.seek((at + 1) * MIB)
            file.write(b"island %d" % at)
        file.truncate((islands + 3) * MIB)
    command = ["tar", "-c", "--sparse", *FORMS[form], "-C", str(directory), "-f", "-", "holes"]
    return subprocess.run(command, check=True, capture_output=True).stdout


@needs_root
@pytest.mark.parametrize("islands", [0, 1, 3, 60])  # more than 4 and 21 ranges need blocks that extend the old map
@pytest.mark.parametrize("form", FORMS)
def test_holes_stay_holes(playground: Playground, tmp_path: Path, form: str, islands: int) -> None:
    (tmp_path / "spool").mkdir()
    data = made_by_gnu_tar(tmp_path / "spool", form, islands)
    done = playground.unpack("docker", [data])
    with open(tmp_path / "spool" / "holes", "rb") as file:
        assert done.content("/holes") == file.read()
    assert os.stat(playground.root / "holes").st_blocks * 512 <= (islands + 1) * 8192
    assert done.summary.logical_bytes == (islands + 3) * MIB
    assert done.summary.bytes < (islands + 1) * 8192


def old_gnu(ranges: list[tuple[int, int]], size: int, stored: bytes) -> bytes:
    """A sparse member of the old form with its map in the header."""
    tail = bytes(41) + b"".join(tar.octal(a, 12) + tar.octal(b, 12) for a, b in ranges).ljust(96, b"\0")
    tail += b"\0" + (tar.octal(size, 12) if size < 8**11 else tar.base256(size, 12))
    return tar.header(b"s", b"S", len(stored), magic=tar.GNU, tail=tail) + tar.padded(stored)


def pax_0_1(text: bytes, size: bytes, stored: bytes, blocks: bytes = b"1") -> bytes:
    """A sparse member of the PAX form 0.1."""
    records = [(b"GNU.sparse.map", text), (b"GNU.sparse.size", size), (b"GNU.sparse.numblocks", blocks)]
    return tar.pax(*records) + tar.file(b"s", stored)


def pax_1_0(text: bytes, size: bytes) -> bytes:
    """A sparse member of the PAX form 1.0 whose data is ``text``."""
    keys = (b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.realsize", size)
    return tar.pax(*keys) + tar.file(b"s", text)


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (old_gnu([(0, 4), (2, 4)], 100, b"12345678"), "overlap"),
        (old_gnu([(50, 4), (0, 4)], 100, b"12345678"), "overlap"),
        (old_gnu([(98, 4)], 100, b"1234"), "reaches to byte 102"),
        (old_gnu([(0, 4)], 100, b"12345678"), "covers 4 bytes"),
        (old_gnu([(0, 2**33 - 1)], 2**33, b"1234"), "covers 8589934591 bytes"),
        (pax_0_1(b"0,4,2", b"100", b"1234"), "another length"),
        (pax_0_1(b"0,-4", b"100", b"1234"), "no number"),
        (pax_0_1(b"0,4", b"", b"1234"), "no number"),
        (pax_0_1(b"0,4", b"100", b"1234", blocks=b"7"), "another length"),
        (tar.pax((b"GNU.sparse.size", b"512")) + tar.file(b"s"), "no number"),
        (tar.pax((b"GNU.sparse.size", b"512"), (b"GNU.sparse.numblocks", b"0")) + tar.file(b"s/"), "for a directory"),
        (tar.pax((b"GNU.sparse.name", b"other")) + old_gnu([], 0, b""), "two sparse maps"),
        (tar.pax((b"GNU.sparse.name", b"other")) + tar.symlink(b"s", b"t"), "for a symbolic link"),
        (pax_1_0(b"1\n0\n4\n" + bytes(506) + b"1234", b"2"), "reaches to byte 4"),
        (pax_1_0(b"99999999\n0\n4\n" + bytes(500) + b"1234", b"9"), "does not end"),
        (pax_1_0(b"x\n0\n4\n" + bytes(506) + b"1234", b"9"), "no number"),
        (pax_1_0(b"1\n0\n4\n" + b"?" * 506 + b"1234", b"9"), "behind its sparse map"),
        (tar.pax((b"GNU.sparse.major", b"2"), (b"GNU.sparse.minor", b"0")) + tar.file(b"s"), "unknown"),
        (tar.pax((b"GNU.sparse.numbytes", b"0"), (b"GNU.sparse.size", b"0")) + tar.file(b"s"), "alternate"),
    ],
)
@needs_root
def test_a_map_that_lies_is_refused(playground: Playground, form: str, member: bytes, message: str) -> None:
    with pytest.raises(Untrusted, match=message):
        playground.unpack(form, [tar.tar(member)])


@needs_root
def test_the_logical_size_counts_against_the_limits(playground: Playground, form: str) -> None:
    bomb = old_gnu([(0, 4)], 4 << 40, b"1234")
    with pytest.raises(Untrusted, match="file_bytes is 34359738368, and the archive needs 4398046511104"):
        playground.unpack(form, [tar.tar(bomb)])


@needs_root
def test_a_map_of_ten_million_ranges_is_refused_before_it_is_read(playground: Playground, form: str) -> None:
    text = b"10000000\n" + b"1\n" * (1 << 20)
    with pytest.raises(Untrusted, match="header_bytes"):
        playground.unpack(form, [tar.tar(pax_1_0(text, b"9"))])


def test_an_old_map_without_end_is_refused(tmp_path: Path) -> None:
    endless = bytearray(old_gnu([(0, 0)] * 4, 100, b""))
    endless[482] = 1
    block = bytearray(512)
    block[504] = 1
    member = (
        bytes(endless[:148]) + f"{sum(endless) - sum(endless[148:156]) + 256:06o}\0 ".encode() + bytes(endless[156:])
    )
    with pytest.raises(Untrusted, match="header_bytes"):
        plan_of(tmp_path, images.docker_archive([tar.tar(member, bytes(block) * 2100)]))

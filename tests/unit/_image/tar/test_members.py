"""Headers that lie, contradict each other or break off. What is listed is what GNU tar lists, or the archive is refused."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from module_utils._errors import Untrusted
from module_utils._image.extent import Extent
from module_utils._image.limits import Limits
from module_utils._image.tar.member import Kind, Member
from module_utils._image.tar.members import TarReader
from tests.unit.builders import tar

Read = Callable[..., list[Member]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """A function that reads all members of an archive given as bytes."""

    def members(data: bytes, *, terminated: bool = False, is_covered: bool = False, **limits: int) -> list[Member]:
        (tmp_path / "tar").write_bytes(data)
        fd = os.open(tmp_path / "tar", os.O_RDONLY)
        try:
            return list(TarReader(Extent.whole(fd), Limits(**limits), terminated=terminated, is_covered=is_covered))
        finally:
            os.close(fd)

    return members


def names(members: list[Member]) -> list[bytes]:
    """The members' names."""
    return [member.name for member in members]


def listed_by_gnu_tar(data: bytes) -> list[bytes]:
    """The names that GNU tar lists; it must not complain."""
    done = subprocess.run(["tar", "-tP", "--quoting-style=literal", "-f", "-"], input=data, capture_output=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


CONTENT = b"y" * 512
SMUGGLED = tar.file(b"smuggled")
HONEST = {
    "two files": tar.tar(tar.file(b"a", b"1" * 700), tar.file(b"b")),
    "PAX size over the header's": tar.tar(tar.pax((b"size", b"5")), tar.file(b"a", b"12345", size=0), tar.file(b"b")),
    "PAX size that hides a header": tar.tar(tar.pax((b"size", b"512")), tar.header(b"a"), SMUGGLED, tar.file(b"b")),
    "PAX name over the header's": tar.tar(tar.pax((b"path", b"real")), tar.file(b"fake"), tar.file(b"b")),
    "long name over the header's": tar.tar(tar.long_name(b"real" * 50), tar.file(b"fake"), tar.file(b"b")),
    "a long name without its NUL": tar.tar(
        tar.header(b"l", b"L", 4, magic=tar.GNU), tar.padded(b"real"), tar.file(b"fake"), tar.file(b"b")
    ),
    "a long name without its NUL that fills its blocks": tar.tar(
        tar.header(b"l", b"L", 512, magic=tar.GNU), b"long" * 63 + b"/real" * 52, tar.file(b"fake"), tar.file(b"b")
    ),
    "PAX before a long name": tar.tar(tar.pax((b"path", b"p")), tar.long_name(b"l"), tar.file(b"h"), tar.file(b"b")),
    "long name before PAX": tar.tar(tar.long_name(b"l"), tar.pax((b"path", b"p")), tar.file(b"h"), tar.file(b"b")),
    "PAX size before a long name": tar.tar(
        tar.pax((b"size", b"512")), tar.long_name(b"l"), tar.header(b"h"), SMUGGLED, tar.file(b"b")
    ),
    "a global header with a comment": tar.tar(tar.pax((b"comment", b"0123abcd"), kind=b"g"), tar.file(b"a")),
    "a global name": tar.tar(tar.pax((b"path", b"same"), kind=b"g"), tar.file(b"a"), tar.file(b"b")),
    "a global name under a long one": tar.tar(
        tar.pax((b"path", b"same"), kind=b"g"), tar.long_name(b"long"), tar.file(b"a")
    ),
    "a global name under PAX": tar.tar(
        tar.pax((b"path", b"same"), kind=b"g"), tar.pax((b"path", b"own")), tar.file(b"a")
    ),
    "a global size": tar.tar(tar.pax((b"size", b"512"), kind=b"g"), tar.header(b"a"), SMUGGLED),
    "the prefix of ustar": tar.tar(tar.file(b"a", prefix=b"some/where")),
    "no prefix in GNU's form": tar.tar(tar.file(b"a", prefix=b"not/a/prefix", magic=tar.GNU)),
    "v7": tar.tar(tar.file(b"a", magic=tar.V7), tar.file(b"d/", magic=tar.V7, kind=b"\0")),
    "a size in base 256": tar.tar(tar.file(b"a", b"12345", size=tar.base256(5, 12)), tar.file(b"b")),
    "a contiguous file": tar.tar(tar.file(b"a", b"x", kind=b"7"), tar.file(b"b")),
    "leading spaces and no end of digits": tar.tar(
        tar.file(b"a", mode=b"   644 ", size=b"000000000005", mtime=b"0"), end=b""
    )
    + tar.padded(b"12345")
    + tar.END,
    "a NUL in front of a size": tar.tar(tar.header(b"d", size=b"\x000000001000\x00"), SMUGGLED, tar.file(b"b")),
    "no end at all": tar.tar(tar.file(b"a"), end=b""),
    "padding behind the end": tar.tar(tar.file(b"a"), end=tar.END + bytes(9000)),
    "PAX keys twice": tar.tar(tar.pax((b"path", b"first"), (b"path", b"second")), tar.file(b"a")),
    "a hard link with the size of its target": tar.tar(
        tar.file(b"a", b"1" * 700), tar.header(b"b", b"1", 700, link=b"a"), tar.file(b"c"), tar.file(b"d")
    ),
    "a hard link with a size at the end": tar.tar(tar.file(b"a", b"1"), tar.header(b"b", b"1", 9000, link=b"a")),
    "a directory with a size": tar.tar(tar.header(b"d/", b"5", 4096), tar.file(b"d/a"), tar.file(b"b"), tar.file(b"c")),
    "a directory with a size in PAX": tar.tar(tar.pax((b"size", b"512")), tar.header(b"d", b"5"), tar.file(b"a")),
    "a v7 directory with content": tar.tar(tar.file(b"a/", b"x", kind=b"\0"), tar.file(b"b")),
    "NULs in the value of a record": tar.tar(tar.pax((b"SCHILY.xattr.user.x", b"a\0b")), tar.file(b"a")),
    "records of Solaris": tar.tar(tar.raw_pax(tar.record(b"path", b"real"), kind=b"X"), tar.file(b"a")),
}


@pytest.mark.parametrize("case", HONEST)
def test_members_are_those_that_gnu_tar_lists(read: Read, case: str) -> None:
    assert names(read(HONEST[case])) == listed_by_gnu_tar(HONEST[case])


REFUSED = {
    "a wrong checksum": (tar.tar(tar.file(b"a"), tar.header(b"b", checksum=b"0000000\0")), "checksum"),
    "an empty checksum": (tar.tar(tar.header(b"b", checksum=b"        ")), "checksum"),
    "a size below zero": (tar.tar(tar.header(b"a", size=-1)), "size is negative \\(-1 bytes"),
    "a size without end": (tar.tar(tar.header(b"a", size=2**63)), "ends"),
    "a size that is none": (tar.tar(tar.header(b"a", size=b"12x45678901")), "no number"),
    "a size in base 256 with another marker": (tar.tar(tar.header(b"a", size=b"\xc0" + bytes(11))), "no number"),
    "a mode in base 256 with another marker": (tar.tar(tar.header(b"a", mode=b"\x81" + bytes(7))), "no number"),
    "a size in digits that octal lacks": (tar.tar(tar.header(b"a", size=b"00000000008\0")), "no number"),
    "a size of spaces": (tar.tar(tar.header(b"a", size=b" " * 12)), "no number"),
    "an extension below zero": (tar.tar(tar.header(b"a", b"x", size=-512)), "size is negative \\(-512 bytes"),
    "a PAX size below zero": (tar.tar(tar.pax((b"size", b"-1")), tar.file(b"a")), "no number"),
    "an empty PAX size": (tar.tar(tar.pax((b"size", b"")), tar.file(b"a")), "no number"),
    "a PAX record of length zero": (tar.tar(tar.raw_pax(b"0 path=x\n"), tar.file(b"a")), "length"),
    "a PAX record that is too long": (tar.tar(tar.raw_pax(b"99 path=x\n"), tar.file(b"a")), "malformed"),
    "a PAX record that is too short": (tar.tar(tar.raw_pax(b"5 path=x\n"), tar.file(b"a")), "malformed"),
    "a PAX record without a key": (tar.tar(tar.raw_pax(tar.record(b"", b"x")), tar.file(b"a")), "malformed"),
    "a PAX record with a signed length": (tar.tar(tar.raw_pax(b"+9 path=x\n"), tar.file(b"a")), "length"),
    "two PAX headers": (tar.tar(tar.pax((b"path", b"x")), tar.pax((b"size", b"0")), tar.file(b"a")), "two headers"),
    "two long names": (tar.tar(tar.long_name(b"x"), tar.long_name(b"y"), tar.file(b"a")), "two headers"),
    "a long name that goes on behind its end": (
        tar.tar(tar.header(b"l", b"L", 1, magic=tar.GNU), SMUGGLED, tar.file(b"a")),
        "goes on",
    ),
    "a long link that goes on behind its end": (
        tar.tar(tar.header(b"l", b"K", 1, magic=tar.GNU), SMUGGLED, tar.symlink(b"a", b"b")),
        "goes on",
    ),
    "an extension without a member": (tar.tar(tar.file(b"a"), tar.long_name(b"x")), "without the member"),
    "an unknown type": (tar.tar(tar.file(b"a", kind=b"Z")), "unknown type"),
    "a part of a multi-volume file": (tar.tar(tar.file(b"a", kind=b"M")), "unknown type"),
    "a link with content": (tar.tar(tar.header(b"a", b"2", 512, link=b"x"), CONTENT, tar.file(b"b")), "512 bytes of"),
    "a FIFO with content": (tar.tar(tar.header(b"a", b"6", 512), CONTENT, tar.file(b"b")), "512 bytes of content"),
    "a device with content": (tar.tar(tar.header(b"a", b"3", 512), CONTENT, tar.file(b"b")), "512 bytes of content"),
    "a directory with content": (tar.tar(tar.header(b"a", b"5", 512), CONTENT, tar.file(b"b")), "512 bytes of content"),
    "a file with content and the name of a directory": (tar.tar(tar.file(b"a/", b"x")), "with content"),
    "a hard link that hides a member by a PAX size": (
        tar.tar(tar.pax((b"size", b"512")), tar.header(b"a", b"1", link=b"b"), SMUGGLED),
        "no content",
    ),
    "a link that hides a member by a PAX size": (
        tar.tar(tar.pax((b"size", b"512")), tar.symlink(b"a", b"b"), SMUGGLED),
        "no content",
    ),
    "a hard link with zeros that hide what is behind them": (
        tar.tar(tar.file(b"a"), tar.header(b"b", b"1", 1024, link=b"a"), bytes(1024), SMUGGLED),
        "no content",
    ),
    "a record whose key holds a NUL": (
        tar.tar(tar.pax((b"SCHILY.xattr.user.a\0b", b"x")), tar.file(b"a")),
        "malformed",
    ),
    "a global record whose key holds a NUL": (
        tar.tar(tar.pax((b"a\0b", b"x"), kind=b"g"), tar.file(b"a")),
        "malformed",
    ),
    "a name that PAX makes empty": (tar.tar(tar.pax((b"path", b"")), tar.directory(b"a")), "makes empty"),
    "a hard link that hides a member behind a block of content": (
        tar.tar(tar.header(b"a", b"1", 700, link=b"b"), b"y" * 512, SMUGGLED),
        "hide a member",
    ),
    "a hard link that hides the end of the archive": (
        tar.tar(tar.header(b"a", b"1", 1500, link=b"b"), b"y" * 512, bytes(1024), SMUGGLED),
        "hide a member",
    ),
    "a cut header": (tar.tar(tar.file(b"a"), end=b"")[:-100], "middle of a block"),
    "cut content": (tar.tar(tar.file(b"a", b"x" * 700), end=b"")[:-600], "ends 600 bytes before"),
    "cut padding": (tar.tar(tar.file(b"a", b"x" * 700), end=b"")[:-1], "ends 1 bytes before"),
    "a cut extension": (tar.pax((b"path", b"x" * 600))[:-512], "ends 512 bytes before"),
    "a single zero block": (tar.tar(tar.file(b"a"), end=bytes(512)), "lone zero block"),
    "a single zero block and a member": (tar.tar(tar.file(b"a"), bytes(512), tar.file(b"b")), "lone zero block"),
    "garbage behind the end": (tar.tar(tar.file(b"a"), end=tar.END + b"x"), "behind the end"),
    "garbage far behind the end": (tar.tar(tar.file(b"a"), end=tar.END + bytes(3 << 20) + b"x"), "behind the end"),
    "two tars one behind the other": (tar.tar(tar.file(b"a")) + tar.tar(tar.file(b"b")), "behind the end"),
    "global headers that contradict each other": (
        tar.tar(tar.pax((b"path", b"a"), (b"path", b"b"), kind=b"g"), tar.file(b"c")),
        "different opinion",
    ),
    "a sparse map in a global header": (
        tar.tar(tar.pax((b"GNU.sparse.major", b"1"), kind=b"g"), tar.file(b"a")),
        "global",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_archive_is_refused_for(read: Read, case: str) -> None:
    data, message = REFUSED[case]
    with pytest.raises(Untrusted, match=message):
        read(data)


def test_where_no_digest_covers_the_archive_its_end_must_be_marked(read: Read) -> None:
    with pytest.raises(Untrusted, match="it was cut"):
        read(tar.tar(tar.file(b"a"), end=b""), terminated=True)
    assert names(read(tar.tar(tar.file(b"a")), terminated=True)) == [b"a"]


def test_no_bytes_at_all_are_an_empty_layer(read: Read) -> None:
    assert read(b"", terminated=True) == []


COVERED = {
    "a single zero block": tar.tar(tar.file(b"a"), end=bytes(512)),
    "a newline behind the end": tar.tar(tar.file(b"a"), end=tar.END + b"\n"),
    "garbage far behind the end": tar.tar(tar.file(b"a"), end=tar.END + bytes(3 << 20) + b"x"),
    "two tars one behind the other": tar.tar(tar.file(b"a")) + tar.tar(tar.file(b"b")),
    "the index of eStargz": tar.tar(tar.file(b"a")) + tar.tar(tar.file(b"stargz.index.json", b"{}")),
    "an index of eStargz with a size that is none": tar.tar(tar.file(b"a"))
    + tar.tar(tar.header(b"stargz.index.json", size=b"99999999999\0")),
}


@pytest.mark.parametrize("case", COVERED)
def test_a_tar_that_a_digest_covers_ends_where_gnu_tar_ends_it(read: Read, case: str) -> None:
    data = COVERED[case]
    assert names(read(data, is_covered=True)) == listed_by_gnu_tar(data) == [b"a"]
    for terminated in (False, True):
        with pytest.raises(Untrusted, match=r"behind the end|lone zero block"):
            read(data, terminated=terminated)


@pytest.mark.parametrize("kind", [b"2", b"3", b"4", b"6"])
def test_a_size_of_what_has_no_content_by_definition_is_passed_over(read: Read, kind: bytes) -> None:
    # GNU tar skips as many bytes, and the members in them: Go's archive/tar, bsdtar and Python do not, nor does POSIX.
    data = tar.tar(tar.header(b"x", kind, 700, link=b"y"), tar.file(b"a"), tar.file(b"b"), tar.file(b"c"))
    with tarfile.open(fileobj=io.BytesIO(data)) as theirs:
        assert [name.decode() for name in names(read(data))] == theirs.getnames() == ["x", "a", "b", "c"]


def test_a_directory_without_a_name_is_the_root_and_nothing_else_is(read: Read) -> None:
    assert [member.kind for member in read(tar.tar(tar.header(b"", b"5")))] == [Kind.DIRECTORY]


def test_a_hard_link_may_bring_its_content_along(read: Read) -> None:
    data = tar.tar(tar.file(b"a", b"x"), tar.header(b"b", b"1", 600, link=b"a"), tar.padded(b"x" * 600), tar.file(b"c"))
    assert names(read(data)) == [b"a", b"b", b"c"]


def test_a_volume_label_is_no_member_and_a_dump_directory_is_a_directory(read: Read) -> None:
    data = tar.tar(tar.header(b"label", b"V"), tar.file(b"d/", b"Yfile\0\0", kind=b"D"), tar.file(b"a"))
    assert [(member.name, member.kind) for member in read(data)] == [(b"d/", Kind.DIRECTORY), (b"a", Kind.FILE)]


def test_sums_of_signed_bytes_are_taken_too(read: Read) -> None:
    block = tar.header(b"\xff\xfe")
    signed = sum(byte - 256 if byte > 127 else byte for byte in block[:148] + b" " * 8 + block[156:])
    assert names(read(tar.tar(block[:148] + f"{signed:06o}\0 ".encode() + block[156:]))) == [b"\xff\xfe"]


@pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K"])
def test_an_extension_header_above_one_mebibyte_is_refused_before_it_is_read(read: Read, kind: bytes) -> None:
    with pytest.raises(Untrusted, match="header_bytes is 1048576, and the archive needs 419430400"):
        read(tar.header(b"bomb", kind, 400 << 20))


def test_numbers_in_base_256_may_be_negative_where_that_has_a_meaning(read: Read) -> None:
    (member,) = read(tar.tar(tar.file(b"a", mtime=-(10**9))))
    assert member.mtime_ns == -(10**18)

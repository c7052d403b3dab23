"""ACLs as tar programs write them, and what is said of attributes that cannot be kept."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from tests.unit._image.tar.test_metadata import layer
from tests.unit._image.unpacked import Playground, needs_root, plan_of
from tests.unit.builders import images, tar

pytestmark = needs_root


def acl(*entries: tuple[int, int, int]) -> bytes:
    """The attribute of tag, rights and owner, as Linux has it."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


NONE = 0xFFFFFFFF
LISA = acl((1, 6, NONE), (2, 6, 1000), (4, 4, NONE), (16, 6, NONE), (32, 0, NONE))
NOT_KEPT = "ACL entries of users and groups without a number"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"user::rw-,user:1000:rw-,group::r--,mask::rw-,other::---", LISA),
        (b"user::rw-\nuser:1000:rw-\ngroup::r--\nmask::rw-\nother::---\n", LISA),  # GNU tar
        (b"user::rw-,user:lisa:rw-:1000,group::r--,mask::rw-,other::---", LISA),  # bsdtar, star
        (b"other::---, mask::rw-,user:lisa:rw-:1000 , user::rw-,group::r--\t#effective:r--", LISA),
        (b"u::rw,u:1000:rw,g::r,m:rw-,o:---", LISA),
        (
            b"user::rwx,group::r-x,group:wheel:r-x:10,group:9:rwx,mask::r-x,other::r--",
            acl((1, 7, NONE), (4, 5, NONE), (8, 7, 9), (8, 5, 10), (16, 5, NONE), (32, 4, NONE)),
        ),
    ],
)
def test_acls_in_text_become_what_linux_stores(playground: Playground, form: str, text: bytes, value: bytes) -> None:
    records = tar.pax((b"SCHILY.acl.access", text), (b"SCHILY.acl.default", text))
    members = [records, tar.directory(b"d", mode=0o770), tar.pax((b"SCHILY.acl.access", text)), tar.file(b"d/f")]
    done = playground.unpack(form, layer(*members))
    both = f"system.posix_acl_access={value.hex()},system.posix_acl_default={value.hex()}"
    assert (done["/d"][9], done["/d/f"][9]) == (both, both.partition(",")[0])
    assert (done.summary.dropped_xattrs, done.summary.warnings) == (0, [])


def test_an_acl_that_says_what_the_mode_says_is_no_attribute(playground: Playground, form: str) -> None:
    record = tar.pax((b"SCHILY.acl.access", b"user::rw-,group::r--,other::r--"), (b"SCHILY.acl.default", b""))
    done = playground.unpack(form, layer(record, tar.directory(b"f")))
    assert (done["/f"][9], done.summary.dropped_xattrs) == ("-", 0)


def test_the_group_gains_nothing_by_entries_that_cannot_be_kept(playground: Playground, form: str) -> None:
    text = b"user::rw-,user:lisa:rw-,user:4294967295:rwx,group::r--,group:x:rwx,mask::rw-,other::---"
    done = playground.unpack(form, layer(tar.pax((b"SCHILY.acl.access", text)), tar.file(b"f", mode=0o660)))
    kept = acl((1, 6, NONE), (4, 4, NONE), (16, 6, NONE), (32, 0, NONE))
    assert done["/f"][9] == f"system.posix_acl_access={kept.hex()}"
    assert done.summary.warnings == [f"3 attributes of files were not kept: {NOT_KEPT} (3)"]


@pytest.mark.parametrize(
    "text",
    [
        b"user::rw-",
        b"user::rw-,user:1:rw-,group::r--,other::---",  # named, and no mask
        b"user::rwq,group::r--,other::---",
        b"owner@:rw-,group::r--,other::---",
        b"user::rw-:1:2,group::r--,other::---",
        b"nonsense",
        b"user::,group::r--,other::---",
    ],
)
def test_a_text_that_is_no_acl_is_dropped_and_counted(playground: Playground, form: str, text: bytes) -> None:
    done = playground.unpack(form, layer(tar.pax((b"SCHILY.acl.access", text)), tar.file(b"f")))
    assert (done["/f"][9], done.summary.dropped_xattrs) == ("-", 1)
    assert done.summary.warnings == ["1 attributes of files were not kept: SCHILY.acl.access (1)"]


def test_what_is_dropped_is_named_with_counts_and_never_without_end(playground: Playground, form: str) -> None:
    records = [(b"SCHILY.acl.ace", b"owner@:r:"), (b"RHT.security.selinux", b"x"), (b"SCHILY.xattr.trusted.x", b"y")]
    members = [tar.pax(*records), tar.file(b"a"), tar.pax(*records[:1]), tar.file(b"b")]
    done = playground.unpack(form, layer(*members))
    assert done.summary.warnings == [
        "4 attributes of files were not kept: RHT.security.selinux (1), SCHILY.acl.ace (2), trusted.x (1)"
    ]
    many = layer(tar.pax(*((b"SCHILY.xattr.no.\n%d" % at, b"") for at in range(1000))), tar.file(b"c"))
    work = playground.root.parent.parent / "spool"
    work.mkdir(exist_ok=True)
    assert plan_of(work, images.docker_archive(many)).entries == 1


@pytest.mark.parametrize("program", ["tar", "bsdtar"])
def test_acls_as_tar_programs_write_them_are_kept(playground: Playground, tmp_path: Path, program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"the program {program} is not installed")
    # A number without a name here: GNU tar writes names where there are some.
    numbered = acl((1, 6, NONE), (2, 6, 54321), (4, 4, NONE), (16, 6, NONE), (32, 0, NONE))
    made = tmp_path / "spool"
    made.mkdir()
    (made / "f").write_bytes(b"f")
    (made / "d").mkdir()
    os.setxattr(made / "f", "system.posix_acl_access", numbered)
    os.setxattr(made / "d", "system.posix_acl_access", numbered)
    os.setxattr(made / "d", "system.posix_acl_default", numbered)
    command = [program, "--format=pax", "--acls", "--numeric-owner", "-cf", "-", "-C", str(made), "f", "d"]
    done = playground.unpack("oci", [subprocess.run(command, check=True, capture_output=True).stdout])
    both = f"system.posix_acl_access={numbered.hex()},system.posix_acl_default={numbered.hex()}"
    assert (done["/f"][9], done["/d"][9]) == (both.partition(",")[0], both)
    assert done.summary.warnings == []

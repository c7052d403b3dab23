"""Owners, modes, times, attributes and special files: kept exactly, or counted, or refused."""

from __future__ import annotations

import base64
import os
import struct

import pytest

from module_utils._errors import Untrusted
from module_utils._image.merge.plan import DeviceNodes
from tests.unit._image.unpacked import Playground, Unpacked, needs_root, plan_of
from tests.unit.builders import images, tar

pytestmark = needs_root

CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)  # cap_net_bind_service, effective
ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", *entry)
    for entry in ((1, 6, 0xFFFFFFFF), (2, 4, 1000), (4, 4, 0xFFFFFFFF), (16, 4, 0xFFFFFFFF), (32, 4, 0xFFFFFFFF))
)


def layer(*members: bytes) -> list[bytes]:
    """One layer."""
    return [tar.tar(*members)]


def with_xattr(playground: Playground, form: str, name: bytes, value: bytes, member: bytes = b"") -> Unpacked:
    """A file (or ``member``) with one extended attribute, unpacked."""
    record = tar.pax((b"SCHILY.xattr." + name, value))
    return playground.unpack(form, layer(record, member or tar.file(b"f", b"x")))


@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o1777, 0o6711, 0o7777, 0o000, 0o444])
@pytest.mark.parametrize("owner", [0, 1000])
def test_modes_survive_setuid_and_all(playground: Playground, form: str, mode: int, owner: int) -> None:
    members = [tar.file(b"f", b"data", mode=mode, uid=owner, gid=owner), tar.directory(b"d", mode=mode, uid=owner)]
    done = playground.unpack(form, layer(*members, tar.file(b"d/inside", b"x")))
    assert done["/f"][2:5] == (f"{mode:04o}", str(owner), str(owner))
    assert done["/d"][2:4] == (f"{mode:04o}", str(owner))


def test_times_keep_their_nanoseconds_also_those_of_directories_and_links(playground: Playground, form: str) -> None:
    when = tar.pax((b"mtime", b"1234567890.123456789"))
    members = [when, tar.directory(b"d"), when, tar.file(b"d/f", b"x"), when, tar.symlink(b"d/l", b"f")]
    done = playground.unpack(form, layer(*members, when, tar.fifo(b"d/p"), when, tar.directory(b".")))
    assert {row[7] for row in done.rows.values()} == {"1234567890123456789"}


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        (b"0", 0),
        (b"-1.5", -1_500_000_000),
        (b"1.9999999999", 1_999_999_999),
        (b"-1.0000000001", -1_000_000_001),
        (b"1.", 10**9),
    ],
)
def test_odd_times_are_what_gnu_tar_makes_of_them(
    playground: Playground, form: str, text: bytes, nanoseconds: int
) -> None:
    done = playground.unpack(form, layer(tar.pax((b"mtime", text)), tar.file(b"f")))
    assert done["/f"][7] == str(nanoseconds)


@pytest.mark.parametrize("mtime", [2**62, -(2**62), -(2**31) - 1, 2**34])
def test_times_that_ext4_cannot_store_are_clamped_and_counted(playground: Playground, form: str, mtime: int) -> None:
    plan = plan_of(playground.root.parents[1], images.docker_archive(layer(tar.file(b"f", mtime=mtime))))
    assert plan.leaves.inodes[0].mtime_ns // 10**9 == (2**34 - 2**31 - 1 if mtime > 0 else -(2**31))
    done = playground.unpack(form, layer(tar.file(b"f", mtime=mtime)))
    assert done.summary.clamped_times == 1
    assert -(2**31) <= int(done["/f"][7]) / 10**9 < 2**34


@pytest.mark.parametrize("text", [b"NaN", b"inf", b"1e9", b"", b"0x10", b"1_0", b" 1", b"9" * 30])
def test_a_time_that_is_none_is_refused(playground: Playground, form: str, text: bytes) -> None:
    with pytest.raises(Untrusted, match="time"):
        playground.unpack(form, layer(tar.pax((b"mtime", text)), tar.file(b"f")))


@pytest.mark.parametrize("owner", [2**31, 2**32 - 2])
def test_large_owners_are_kept(playground: Playground, form: str, owner: int) -> None:
    assert playground.unpack(form, layer(tar.file(b"f", uid=owner, gid=owner)))["/f"][3:5] == (str(owner),) * 2


@pytest.mark.parametrize("owner", [-1, 2**32 - 1, 2**32, 2**40])
@pytest.mark.parametrize("field", ["uid", "gid"])
def test_owners_that_linux_cannot_store_are_refused(playground: Playground, form: str, owner: int, field: str) -> None:
    uid, gid = (owner, 0) if field == "uid" else (0, owner)
    with pytest.raises(Untrusted, match="cannot store"):
        playground.unpack(form, layer(tar.file(b"f", uid=uid, gid=gid)))


@pytest.mark.parametrize("text", [b"-1", b"4294967296", b"1e3", b"root", b""])
def test_owners_in_pax_are_held_to_the_same(playground: Playground, form: str, text: bytes) -> None:
    with pytest.raises(Untrusted):
        playground.unpack(form, layer(tar.pax((b"uid", text)), tar.file(b"f")))


def test_a_directory_without_rights_gets_its_files_and_then_its_mode_and_time(
    playground: Playground, form: str
) -> None:
    members = [tar.directory(b"d", mode=0, mtime=77), tar.directory(b"d/e", mode=0, mtime=78), tar.file(b"d/e/f")]
    done = playground.unpack(form, layer(*members))
    assert done["/d"][2] == done["/d/e"][2] == "0000"
    assert (done["/d"][7], done["/d/e"][7]) == ("77000000000", "78000000000")


def test_missing_parents_are_made_for_root(playground: Playground, form: str) -> None:
    done = playground.unpack(form, layer(tar.file(b"a/b/c", uid=5, mode=0o600)))
    assert [done[path][1:5] for path in ("/a", "/a/b")] == [("d", "0755", "0", "0")] * 2


def test_the_root_takes_the_attributes_of_its_entry(playground: Playground, form: str) -> None:
    done = playground.unpack(form, layer(tar.directory(b"./", mode=0o711, uid=3, mtime=9)))
    assert done["/"][2:4] == ("0711", "3")
    assert done["/"][7] == "9000000000"


def test_attributes_of_users_capabilities_and_acls_are_kept(playground: Playground, form: str) -> None:
    attributes = (
        (b"user.note", b"\x00\xff\n"),
        (b"security.capability", CAPABILITY),
        (b"system.posix_acl_access", ACL),
    )
    records = tar.pax(*((b"SCHILY.xattr." + name, value) for name, value in attributes))
    done = playground.unpack(form, layer(records, tar.file(b"f", b"x", uid=7, mode=0o644)))
    assert done["/f"][9] == ",".join(f"{name.decode()}={value.hex()}" for name, value in sorted(attributes))
    assert done.summary.dropped_xattrs == 0


def test_attributes_as_bsdtar_writes_them_are_kept(playground: Playground, form: str) -> None:
    raw = b"\x00binary\xff"
    record = tar.pax((b"LIBARCHIVE.xattr.user.with%20space", base64.b64encode(raw).rstrip(b"=")))
    assert playground.unpack(form, layer(record, tar.file(b"f")))["/f"][9] == "user.with space=" + raw.hex()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"trusted.overlay.opaque", b"y"),
        (b"trusted.other", b"y"),
        (b"security.selinux", b"system_u:object_r:etc_t:s0"),
        (b"security.capability", b"short"),
        (b"security.capability", struct.pack("<III", 0x01000000, 1, 0)),
        (b"system.posix_acl_access", b"\x02\0\0\0junk"),
        (b"system.posix_acl_access", ACL[:-8]),
        (b"system.posix_acl_default", ACL),
        (b"user.", b"no name"),
        (b"user." + b"n" * 255, b"long name"),
        (b"user.big", b"v" * 65536),
        (b"nonsense", b"x"),
    ],
)
def test_other_attributes_are_dropped_and_counted(playground: Playground, form: str, name: bytes, value: bytes) -> None:
    done = with_xattr(playground, form, name, value)
    assert done["/f"][9] == "-"
    assert done.summary.dropped_xattrs == 1


@pytest.mark.parametrize("member", [tar.symlink(b"f", b"canary"), tar.fifo(b"f"), tar.device(b"f", b"3", 1, 3)])
def test_attributes_are_never_set_through_links_or_on_special_files(
    playground: Playground, form: str, member: bytes
) -> None:
    done = with_xattr(playground, form, b"user.note", b"x", member)
    assert done["/f"][9] == "-"
    assert done.summary.dropped_xattrs == 1


DEVICES = (
    tar.device(b"null", b"3", 1, 3, mode=0o666),
    tar.device(b"sda", b"4", 8, 0, mode=0o660, gid=6),
    tar.device(b"ptmx", b"3", 5, 2),
    tar.fifo(b"pipe", mode=0o640),
)


def test_devices_and_fifos_are_made_and_counted(playground: Playground, form: str) -> None:
    done = playground.unpack(form, layer(*DEVICES))
    assert done.kinds() == {"/null": "c", "/sda": "b", "/ptmx": "c", "/pipe": "p"}
    assert (done["/null"][6], done["/sda"][6], done["/sda"][2]) == ("1:3", "8:0", "0660")
    assert done.summary.devices == 3


def test_devices_can_be_skipped_and_are_counted(playground: Playground, form: str) -> None:
    done = playground.unpack(form, layer(*DEVICES), device_nodes=DeviceNodes.SKIP)
    assert done.kinds() == {"/pipe": "p"}
    assert done.summary.skipped_devices == 3


def test_devices_can_be_refused(playground: Playground, form: str) -> None:
    with pytest.raises(Untrusted, match="device_nodes is refuse"):
        playground.unpack(form, layer(*DEVICES), device_nodes=DeviceNodes.REFUSE)


@pytest.mark.parametrize(("major", "minor"), [(2**32, 0), (-1, 0), (0, -1), (4096, 0), (0, 2**20)])
def test_device_numbers_that_linux_cannot_have_are_refused(
    playground: Playground, form: str, major: int, minor: int
) -> None:
    with pytest.raises(Untrusted, match="cannot have"):
        playground.unpack(form, layer(tar.device(b"d", b"3", major, minor)))


def test_special_files_are_never_opened(playground: Playground, form: str) -> None:
    """Opening this FIFO would wait for a reader for ever, and opening this device would fail."""
    members = [tar.fifo(b"p", mode=0o000, uid=3), tar.device(b"d", b"4", 4095, 1048575, mode=0o4777, uid=3)]
    done = playground.unpack(form, layer(*members))
    assert (done["/p"][2], done["/d"][2], done["/d"][3]) == ("0000", "4777", "3")


def test_the_umask_changes_nothing(playground: Playground, form: str) -> None:
    old = os.umask(0o077)
    try:
        done = playground.unpack(form, layer(tar.file(b"f", mode=0o666), tar.directory(b"d", mode=0o777)))
    finally:
        os.umask(old)
    assert (done["/f"][2], done["/d"][2]) == ("0666", "0777")

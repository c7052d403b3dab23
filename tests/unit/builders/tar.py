"""Tars made in memory, member by member, with every field within reach: honest ones and others.

Invariant: the checksum is right unless a test gives another one, so that a test fails for the reason it is about.
"""

from __future__ import annotations

from typing import Any

BLOCK = 512
POSIX = b"ustar\x0000"
GNU = b"ustar  \0"
V7 = bytes(8)
END = bytes(2 * BLOCK)


def octal(value: int, width: int) -> bytes:
    """``value`` as a field of ``width`` bytes."""
    return f"{value:0{width - 1}o}".encode() + b"\0"


def base256(value: int, width: int) -> bytes:
    """``value`` as GNU tar writes what octal digits cannot hold, negative numbers too."""
    marker = 0x80 << 8 * (width - 1)
    return ((value & (marker * 2 - 1)) | marker).to_bytes(width, "big")


def _field(value: int | bytes, width: int) -> bytes:
    if isinstance(value, bytes):
        return value.ljust(width, b"\0")
    return octal(value, width) if 0 <= value < 8 ** (width - 1) else base256(value, width)


def header(
    name: bytes,
    kind: bytes = b"0",
    size: int | bytes = 0,
    *,
    mode: int | bytes = 0o644,
    uid: int | bytes = 0,
    gid: int | bytes = 0,
    mtime: int | bytes = 1_600_000_000,
    link: bytes = b"",
    magic: bytes = POSIX,
    major: int | bytes = 0,
    minor: int | bytes = 0,
    prefix: bytes = b"",
    tail: bytes = b"",
    checksum: bytes | None = None,
) -> bytes:
    """One header of 512 bytes; ``tail`` replaces what stands behind the device numbers."""
    assert len(name) <= 100, "a name of more than 100 bytes needs long_name() or pax()"
    front = b"".join(
        (name.ljust(100, b"\0"), _field(mode, 8), _field(uid, 8), _field(gid, 8), _field(size, 12), _field(mtime, 12))
    )
    back = kind + link.ljust(100, b"\0") + magic + bytes(64) + _field(major, 8) + _field(minor, 8)
    back += (tail or prefix).ljust(167, b"\0")
    total = sum(front) + 8 * 32 + sum(back)
    return front + (checksum or f"{total:06o}\0 ".encode()) + back


def padded(data: bytes) -> bytes:
    """``data`` filled up to whole blocks."""
    return data + bytes(-len(data) % BLOCK)


def file(name: bytes, data: bytes = b"", **fields: Any) -> bytes:
    """A regular file."""
    return header(name, fields.pop("kind", b"0"), fields.pop("size", len(data)), **fields) + padded(data)


def directory(name: bytes, **fields: Any) -> bytes:
    """A directory."""
    return header(name, b"5", mode=fields.pop("mode", 0o755), **fields)


def symlink(name: bytes, target: bytes, **fields: Any) -> bytes:
    """A symbolic link."""
    return header(name, b"2", mode=0o777, link=target, **fields)


def hard_link(name: bytes, target: bytes, **fields: Any) -> bytes:
    """A hard link."""
    return header(name, b"1", link=target, **fields)


def device(name: bytes, kind: bytes, major: int | bytes, minor: int | bytes, **fields: Any) -> bytes:
    """A character (3) or block (4) device."""
    return header(name, kind, major=major, minor=minor, **fields)


def fifo(name: bytes, **fields: Any) -> bytes:
    """A FIFO."""
    return header(name, b"6", **fields)


def record(key: bytes, value: bytes) -> bytes:
    """One PAX record, its own length included."""
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest) + 1
    while len(str(length)) + len(rest) != length:
        length = len(str(length)) + len(rest)
    return str(length).encode() + rest


def pax(*records: tuple[bytes, bytes], kind: bytes = b"x") -> bytes:
    """An extended header (g: a global one) for the members behind it."""
    return raw_pax(b"".join(record(key, value) for key, value in records), kind)


def raw_pax(data: bytes, kind: bytes = b"x") -> bytes:
    """An extended header that holds ``data``."""
    return header(b"././@PaxHeader", kind, len(data)) + padded(data)


def long_name(name: bytes, kind: bytes = b"L") -> bytes:
    """A GNU header with the long name (K: link target) of the member behind it."""
    return header(b"././@LongLink", kind, len(name) + 1, magic=GNU) + padded(name + b"\0")


def tar(*members: bytes, end: bytes = END) -> bytes:
    """A whole archive."""
    return b"".join(members) + end

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Extended attributes: which of an archive's are kept.

Invariant: what is kept is on the list (user.*, file capabilities, ACLs), well formed, and fits what ext4 with blocks of 4 KiB can
store for one inode; so setting it cannot fail for a reason that the archive chose. The rest is dropped, and counted.
Sources: capabilities(7), linux/capability.h, linux/posix_acl_xattr.h, ext4 "Extended Attributes".
"""

from __future__ import annotations

import base64
import binascii
import re
import struct
from typing import NamedTuple

from . import posix_acl
from .member import Kind
from .pax import Records

Xattrs = tuple[tuple[bytes, bytes], ...]

_QUOTED = re.compile(rb"%([0-9A-Fa-f]{2})")
_SCHILY = b"SCHILY.xattr."
_LIBARCHIVE = b"LIBARCHIVE.xattr."
_ACL_TEXTS = {b"SCHILY.acl.access": posix_acl.ACCESS, b"SCHILY.acl.default": posix_acl.DEFAULT}
_OTHER_FORMS = (
    b"SCHILY.acl.",
    b"LIBARCHIVE.acl.",
    b"RHT.security.",
    b"SUN.",
)  # NFSv4 ACLs, SELinux contexts, others' ACLs
_NAMED_ENTRIES = b"ACL entries of users and groups without a number"
_CAPABILITY = b"security.capability"

_BLOCK_BYTES = 4096 - 32 - 4  # an ext4 xattr block without its header and the null entry at its end
_ENTRY_BYTES = 16
_MAX_NAME_BYTES = 255
_CAPABILITY_BYTES = {0x02000000: 20, 0x03000000: 24}  # VFS_CAP_REVISION_2 and _3; Linux no longer takes 1
_CAPABILITY_REVISION = 0xFF000000


class Selection(NamedTuple):
    """The attributes to set, by name, and the names of what was dropped."""

    kept: Xattrs
    dropped: tuple[bytes, ...]


def select(records: Records, kind: Kind) -> Selection:
    """What to keep of the attributes and ACLs in a member's PAX records."""
    found: dict[bytes, bytes] = {}
    texts: dict[bytes, bytes] = {}
    dropped: list[bytes] = []
    for key, value in records:
        if key.startswith(_SCHILY):
            found[key[len(_SCHILY) :]] = value
        elif key.startswith(_LIBARCHIVE):
            name, decoded = _unquoted(key[len(_LIBARCHIVE) :]), _base64(value)
            if decoded is None:
                dropped.append(name)
            else:  # bsdtar writes both forms of one attribute; the raw one is exact
                found.setdefault(name, decoded)
        elif key in _ACL_TEXTS:
            texts[key] = value
        elif key.startswith(_OTHER_FORMS):
            dropped.append(key)
    for key, value in texts.items():
        dropped += _add_acl(found, key, value)
    return _fitting(found, kind, dropped) if found else Selection((), tuple(dropped))


def _add_acl(found: dict[bytes, bytes], key: bytes, text: bytes) -> list[bytes]:
    """Convert one ACL, unless the member has the same as an attribute; returns the names of what could not be kept."""
    acl = posix_acl.from_text(text) if text.strip() else posix_acl.Converted(b"", 0)
    if _ACL_TEXTS[key] in found:
        return []
    if acl is None:
        return [key]
    if acl.value:
        found[_ACL_TEXTS[key]] = acl.value
    return [_NAMED_ENTRIES] * acl.left_out


def _unquoted(name: bytes) -> bytes:
    return _QUOTED.sub(lambda match: bytes([int(match[1], 16)]), name)


def _base64(value: bytes) -> bytes | None:
    try:
        return base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


def _fitting(found: dict[bytes, bytes], kind: Kind, dropped: list[bytes]) -> Selection:
    kept: list[tuple[bytes, bytes]] = []
    room = _BLOCK_BYTES
    for name in sorted(found):
        cost = _ENTRY_BYTES + (len(name) + 3 & ~3) + (len(found[name]) + 3 & ~3)
        if cost <= room and _is_allowed(name, found[name], kind):
            kept.append((name, found[name]))
            room -= cost
        else:
            dropped.append(name)
    return Selection(tuple(kept), tuple(dropped))


def _is_allowed(name: bytes, value: bytes, kind: Kind) -> bool:
    # Linux takes none of these on links, devices and FIFOs.
    if kind not in (Kind.FILE, Kind.DIRECTORY) or len(name) > _MAX_NAME_BYTES or b"\0" in name:
        return False
    if name == _CAPABILITY:
        return kind is Kind.FILE and _is_capability(value)
    if name in (posix_acl.ACCESS, posix_acl.DEFAULT):
        return posix_acl.is_valid(value) and (name == posix_acl.ACCESS or kind is Kind.DIRECTORY)
    return name.startswith(b"user.") and len(name) > len(b"user.")


def _is_capability(value: bytes) -> bool:
    if len(value) < 4:
        return False
    (magic,) = struct.unpack_from("<I", value)
    return _CAPABILITY_BYTES.get(magic & _CAPABILITY_REVISION) == len(value)

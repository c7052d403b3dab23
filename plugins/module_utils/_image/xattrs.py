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

from .member import Kind
from .pax import Records

Xattrs = tuple[tuple[bytes, bytes], ...]

_QUOTED = re.compile(rb"%([0-9A-Fa-f]{2})")
_SCHILY = b"SCHILY.xattr."
_LIBARCHIVE = b"LIBARCHIVE.xattr."
_SCHILY_ACL = b"SCHILY.acl."
_CAPABILITY = b"security.capability"
_ACCESS_ACL = b"system.posix_acl_access"
_DEFAULT_ACL = b"system.posix_acl_default"

_BLOCK_BYTES = 4096 - 32 - 4  # an ext4 xattr block without its header and the null entry at its end
_ENTRY_BYTES = 16
_MAX_NAME_BYTES = 255
_CAPABILITY_BYTES = {0x02000000: 20, 0x03000000: 24}  # VFS_CAP_REVISION_2 and _3; Linux no longer takes 1
_CAPABILITY_REVISION = 0xFF000000

_ACL_VERSION = 2
_ACL_USER_OBJ, _ACL_USER, _ACL_GROUP_OBJ, _ACL_GROUP, _ACL_MASK, _ACL_OTHER = 1, 2, 4, 8, 16, 32


class Selection(NamedTuple):
    """The attributes to set, by name, and how many were dropped."""

    kept: Xattrs
    dropped: int


def select(records: Records, kind: Kind) -> Selection:
    """What to keep of the attributes in a member's PAX records."""
    found: dict[bytes, bytes] = {}
    dropped = 0
    for key, value in records:
        if key.startswith(_SCHILY):
            found[key[len(_SCHILY) :]] = value
        elif key.startswith(_LIBARCHIVE):
            decoded = _base64(value)
            if decoded is None:
                dropped += 1
            else:  # bsdtar writes both forms of one attribute; the raw one is exact
                found.setdefault(_unquoted(key[len(_LIBARCHIVE) :]), decoded)
        elif key.startswith(_SCHILY_ACL):
            dropped += 1
    return _fitting(found, kind, dropped) if found else Selection((), dropped)


def _unquoted(name: bytes) -> bytes:
    return _QUOTED.sub(lambda match: bytes([int(match[1], 16)]), name)


def _base64(value: bytes) -> bytes | None:
    try:
        return base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


def _fitting(found: dict[bytes, bytes], kind: Kind, dropped: int) -> Selection:
    kept: list[tuple[bytes, bytes]] = []
    room = _BLOCK_BYTES
    for name in sorted(found):
        cost = _ENTRY_BYTES + (len(name) + 3 & ~3) + (len(found[name]) + 3 & ~3)
        if cost <= room and _is_allowed(name, found[name], kind):
            kept.append((name, found[name]))
            room -= cost
        else:
            dropped += 1
    return Selection(tuple(kept), dropped)


def _is_allowed(name: bytes, value: bytes, kind: Kind) -> bool:
    # Linux takes none of these on links, devices and FIFOs.
    if kind not in (Kind.FILE, Kind.DIRECTORY) or len(name) > _MAX_NAME_BYTES or b"\0" in name:
        return False
    if name == _CAPABILITY:
        return kind is Kind.FILE and _is_capability(value)
    if name in (_ACCESS_ACL, _DEFAULT_ACL):
        return _is_acl(value) and (name == _ACCESS_ACL or kind is Kind.DIRECTORY)
    return name.startswith(b"user.") and len(name) > len(b"user.")


def _is_capability(value: bytes) -> bool:
    if len(value) < 4:
        return False
    (magic,) = struct.unpack_from("<I", value)
    return _CAPABILITY_BYTES.get(magic & _CAPABILITY_REVISION) == len(value)


def _is_acl(value: bytes) -> bool:
    """Whether the kernel's posix_acl_valid() would take it: the tags in order, each of the single ones once."""
    if len(value) < 4 or len(value) % 8 != 4 or struct.unpack_from("<I", value)[0] != _ACL_VERSION:
        return False
    entries = list(struct.iter_unpack("<HHI", value[4:]))
    tags = [tag for tag, _permissions, _owner in entries]
    if any(permissions > 7 for _tag, permissions, _owner in entries) or tags != sorted(tags):
        return False
    if any(tags.count(tag) != 1 for tag in (_ACL_USER_OBJ, _ACL_GROUP_OBJ, _ACL_OTHER)) or tags.count(_ACL_MASK) > 1:
        return False
    named = [(tag, owner) for tag, _permissions, owner in entries if tag in (_ACL_USER, _ACL_GROUP)]
    known = {_ACL_USER_OBJ, _ACL_USER, _ACL_GROUP_OBJ, _ACL_GROUP, _ACL_MASK, _ACL_OTHER}
    if set(tags) - known or (named and _ACL_MASK not in tags):
        return False
    return all(owner != 0xFFFFFFFF for _tag, owner in named)

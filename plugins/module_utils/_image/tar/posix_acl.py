# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""POSIX ACLs: from the text that tar programs write to the attribute that Linux stores.

Invariant: what comes out is what the kernel's posix_acl_valid() takes. An entry for a user or group without a number is left out, never
guessed: names mean something in the image's own passwd file only; the mask stays, so no user gains a right by that.
Sources: acl(5), linux/posix_acl_xattr.h; star, "SCHILY.acl.access"; the texts of bsdtar and of GNU tar --acls.
"""

from __future__ import annotations

import functools
import re
import struct
from typing import NamedTuple

ACCESS = b"system.posix_acl_access"
DEFAULT = b"system.posix_acl_default"

_VERSION = 2
_USER_OBJ, _USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 1, 2, 4, 8, 16, 32
_SINGLE = (_USER_OBJ, _GROUP_OBJ, _OTHER)
_NO_ID = 0xFFFFFFFF
_TAGS = {
    **dict.fromkeys((b"user", b"u"), (_USER_OBJ, _USER)),
    **dict.fromkeys((b"group", b"g"), (_GROUP_OBJ, _GROUP)),
    **dict.fromkeys((b"mask", b"m"), (_MASK, _MASK)),
    **dict.fromkeys((b"other", b"o"), (_OTHER, _OTHER)),
}
_RIGHTS = re.compile(rb"[rR-]?[wW-]?[xX-]?")
_COMMENT = re.compile(rb"#[^\n,]*")
_NUMBER = re.compile(rb"[0-9]{1,10}")


class Converted(NamedTuple):
    """The attribute's value, empty when the mode says all of it; and how many entries were left out."""

    value: bytes
    left_out: int


@functools.lru_cache(maxsize=256)  # an image has a handful of them, on thousands of files
def from_text(text: bytes) -> Converted | None:
    """The ACL in ``text``, entries separated by commas or newlines; None when it is no ACL.

    An entry is ``tag:qualifier:rwx``, behind which bsdtar and star put the number of the user or group that the qualifier names.
    """
    entries: dict[tuple[int, int], int] = {}
    left_out = 0
    for raw in re.split(rb"[,\n]", _COMMENT.sub(b"", text)):
        entry = raw.strip(b" \t\r\0")
        if not entry:
            continue
        parsed = _entry([field.strip(b" \t") for field in entry.split(b":")])
        if parsed is None:
            return None
        tag, owner, rights = parsed
        if tag in (_USER, _GROUP) and owner == _NO_ID:
            left_out += 1
        else:
            entries[tag, owner] = rights
    tags = {tag for tag, _owner in entries}
    if not tags.issuperset(_SINGLE):
        return None
    if not left_out and tags == set(_SINGLE):
        return Converted(b"", 0)
    if _MASK not in tags and tags & {_USER, _GROUP}:
        return None
    rows = sorted((tag, owner, rights) for (tag, owner), rights in entries.items())
    packed = b"".join(struct.pack("<HHI", tag, rights, owner) for tag, owner, rights in rows)
    return Converted(struct.pack("<I", _VERSION) + packed, left_out)


def _entry(fields: list[bytes]) -> tuple[int, int, int] | None:
    """Tag, owner and rights; the owner of a named entry without a number is ``_NO_ID``, as it is of all others."""
    if fields[0] in (b"mask", b"m", b"other", b"o") and len(fields) == 2:  # as Solaris writes them
        fields = [fields[0], b"", fields[1]]
    if fields[0] not in _TAGS or len(fields) not in (3, 4) or not _RIGHTS.fullmatch(fields[2]) or not fields[2]:
        return None
    of_owner, named = _TAGS[fields[0]]
    tag = named if fields[1] or fields[3:] not in ([], [b""]) else of_owner
    rights = sum(bit for letter, bit in ((b"r", 4), (b"w", 2), (b"x", 1)) if letter in fields[2].lower())
    return tag, _owner(tag, fields), rights


def _owner(tag: int, fields: list[bytes]) -> int:
    if tag in (_USER, _GROUP):
        for field in (*fields[3:], fields[1]):
            if _NUMBER.fullmatch(field) and int(field) < _NO_ID:
                return int(field)
    return _NO_ID


def is_valid(value: bytes) -> bool:
    """Whether posix_acl_valid() would take the attribute ``value``: the tags in order, each of the single ones once."""
    if len(value) < 4 or len(value) % 8 != 4 or struct.unpack_from("<I", value)[0] != _VERSION:
        return False
    entries = list(struct.iter_unpack("<HHI", value[4:]))
    tags = [tag for tag, _rights, _owner in entries]
    if any(rights > 7 for _tag, rights, _owner in entries) or tags != sorted(tags):
        return False
    if any(tags.count(tag) != 1 for tag in _SINGLE) or tags.count(_MASK) > 1:
        return False
    named = [owner for tag, _rights, owner in entries if tag in (_USER, _GROUP)]
    if set(tags) - {*_SINGLE, _USER, _GROUP, _MASK} or (named and _MASK not in tags):
        return False
    return _NO_ID not in named

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parse and validate the names in an image.

Invariant: what comes out is a tuple of components none of which is empty, ``.``, ``..``, longer than 255 bytes or holds a NUL or
a slash; the root is the empty tuple. Names are bytes: no encoding is assumed.
"""

from __future__ import annotations

from .limits import Limits
from .refusal import malformed

Path = tuple[bytes, ...]

_SPECIAL = (b".", b"..")
MAX_COMPONENT_BYTES = 255  # NAME_MAX of every Linux file system
MAX_LINK_BYTES = 4095  # PATH_MAX less its NUL: symlink(2) fails with ENAMETOOLONG above


def components(raw: bytes, limits: Limits) -> Path:
    """The components of a member's name, or of a hard link's target; raises ``Untrusted``.

    Leading slashes and ``./`` are dropped: a name is relative to the image's root whatever it looks like.
    """
    if not raw:
        raise malformed("a member without a name")
    if len(raw) > limits.path_bytes:
        limits.exceeded("path_bytes", len(raw), raw)
    if b"\0" in raw:
        raise malformed("its name holds a NUL byte", raw)
    parts = raw.split(b"/")
    if b"" in parts or b"." in parts:
        parts = [part for part in parts if part not in (b"", b".")]
    if b".." in parts:
        raise malformed("its name has a `..` component", raw)
    if len(raw) > MAX_COMPONENT_BYTES and max(map(len, parts), default=0) > MAX_COMPONENT_BYTES:
        raise malformed(f"a component of its name is longer than {MAX_COMPONENT_BYTES} bytes", raw)
    return tuple(parts)


def member_name(raw: bytes, *, is_directory: bool) -> bytes:
    """The name of a member; a directory without one is the root, as GNU tar has it."""
    return raw or (b"." if is_directory else raw)


def sibling(raw: bytes, parent: bytes, limits: Limits) -> bytes | None:
    """The last component of ``raw`` when ``parent`` is all that stands before it, without looking at ``parent`` again.

    ``parent`` is the beginning of a name that went through ``components``. None when it is something else, or when the last
    component is not the simple case: then ``components`` decides.
    """
    start, _slash, name = raw.rpartition(b"/")
    if start != parent or not name or len(name) > MAX_COMPONENT_BYTES or len(raw) > limits.path_bytes:
        return None
    return None if name in _SPECIAL or b"\0" in name else name


def check_link_target(target: bytes, member: bytes) -> None:
    """Refuse a symbolic link's target that symlink(2) could not store as it is."""
    if not target:
        raise malformed("a symbolic link without a target", member)
    if b"\0" in target:
        raise malformed("its target holds a NUL byte", member)
    if len(target) > MAX_LINK_BYTES:
        raise malformed(f"its target is {len(target)} bytes long; Linux allows {MAX_LINK_BYTES}", member)

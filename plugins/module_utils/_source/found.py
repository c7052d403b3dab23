# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a key names now: one object, by HEAD, or the objects of a family, by a list.

Invariant: looking costs one request (a list one for each thousand objects), and ``etag`` changes whenever any object of the key does.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

from .._errors import BadInput
from .._names import ObjectKey, exact_size_text, printable
from .objects import ObjectInfo

if TYPE_CHECKING:
    from .source import Source


class Found(NamedTuple):
    """What was announced of a key; of a family, what the list says: size and ETag of each object, in natural order."""

    key: ObjectKey
    objects: tuple[ObjectInfo, ...]

    @property
    def size_bytes(self) -> int:
        """Of all objects together."""
        return sum(one.size_bytes for one in self.objects)

    @property
    def etag(self) -> str:
        """The object's ETag. A family has none of its own: a digest over key, size and ETag of each object stands for it."""
        if not self.key.is_family:
            return self.objects[0].etag
        lines = "".join(f"{one.etag} {one.size_bytes} {one.key}\n" for one in self.objects)
        return f'"family-{hashlib.sha256(lines.encode()).hexdigest()}"'

    def has_tag(self, tag: str) -> bool:
        """Whether ``tag``, recorded earlier, is that of what was found."""
        return tag == self.etag if self.key.is_family else self.objects[0].has_tag(tag)

    @property
    def version_id(self) -> str:
        """The object's version; a list has none."""
        return "" if self.key.is_family else self.objects[0].version_id


def look(bucket: Source, key: ObjectKey) -> Found:
    """What is behind ``key`` now."""
    return Found(key, bucket.list_family(key) if key.is_family else (bucket.head(key),))


def require_size(found: Found, max_bytes: int) -> None:
    """Refuse what is larger than the operator allows, before a byte of it is asked for."""
    if found.size_bytes > max_bytes:
        raise BadInput(
            f"{printable(found.key.value)} has {exact_size_text(found.size_bytes)}; max_size allows {exact_size_text(max_bytes)}",
            hint="raise max_size if this image is meant to be so large",
            size_bytes=found.size_bytes,
            max_bytes=max_bytes,
        )

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a download needs of the place that its bytes come from: a bucket, a web server, or a file.

Invariant: bytes are read only of the very object that was announced, whatever the place; what identifies it is kept here.
"""

from __future__ import annotations

import abc
from typing import Protocol

from .._names import ObjectKey
from .body import Body
from .objects import ObjectInfo
from .options import S3Options


class Source(Protocol):
    """Every method raises a ``FlydError``; none retries. ``options`` say how the network is used, and where checksum files are."""

    options: S3Options

    def __enter__(self) -> Source: ...

    def __exit__(self, *_: object) -> None: ...

    def head(self, key: ObjectKey) -> ObjectInfo:
        """What is there now."""

    def open(self, info: ObjectInfo, first_byte: int = 0, last_byte: int | None = None) -> Body:
        """The bytes ``first_byte`` to ``last_byte`` (counted from 0, both included) of that very object."""

    def settle_tags(self, asked: ObjectInfo) -> bool:
        """After the object ``asked`` seemed to be replaced: whether it was not, and other requests can show it."""

    def list_family(self, prefix: ObjectKey) -> tuple[ObjectInfo, ...]:
        """The objects under ``prefix``, in natural order."""

    def read_small(self, key: ObjectKey, limit_bytes: int) -> bytes:
        """The whole of a small object beside the one that is fetched."""

    def title(self, key: ObjectKey) -> str:
        """What a checksum file calls the object."""


class Tags(abc.ABC):
    """What was learned of a server's ETags since the first question."""

    def __init__(self) -> None:
        self.tags_pass = False  # they do not last from one question to the next
        self.is_unconditional = False  # its own ETag is no condition that the server takes

    @abc.abstractmethod
    def head(self, key: ObjectKey) -> ObjectInfo:
        """What is there now, for ``settle_tags``."""

    def settle_tags(self, asked: ObjectInfo) -> bool:
        """After the object ``asked`` seemed to be replaced: whether it was not, and other requests can show it.

        An ETag that is no condition although it is still the object's is not made one any more. One that does not last from a question to the
        next, or to the bytes, gives its place to the time of the last change.
        """
        if self.tags_pass:
            return False
        now = self.head(ObjectKey(asked.key))
        lasts = now.etag == asked.etag
        if now._replace(etag="", time_tag="") != asked._replace(etag="", time_tag="") or (
            not lasts and self.head(ObjectKey(asked.key)).etag == now.etag
        ):
            return False
        self.tags_pass = self.is_unconditional or not lasts
        self.is_unconditional = not self.tags_pass
        return True

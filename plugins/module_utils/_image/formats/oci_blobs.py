# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Descriptors, and the blobs that they point to.

Invariant: a blob is used only when its size is the one its descriptor says, a document only when its digest is too.
Source: OCI image-spec v1.1, "Content Descriptors".
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

from ..._errors import FlydError, Untrusted
from ..._names import Digest
from .. import documents
from ..digests import check_bytes, parse_digest
from ..documents import Fields
from ..extent import Extent
from ..refusal import malformed
from .archive import Archive


class NotWhole(Exception):
    """The OCI side of an archive cannot be used as it is; ``reason`` is the error where nothing else can be used either."""

    def __init__(self, reason: FlydError) -> None:
        super().__init__(reason.msg)
        self.reason = reason


@contextlib.contextmanager
def not_whole() -> Iterator[None]:
    """Turn what is ``Untrusted`` inside into ``NotWhole``."""
    try:
        yield
    except Untrusted as error:
        raise NotWhole(error) from None


class Descriptor(NamedTuple):
    """A blob's digest and its size in bytes."""

    digest: Digest
    size_bytes: int

    @classmethod
    def parse(cls, fields: Fields, what: str) -> Descriptor:
        """The descriptor in ``fields``, part of the document ``what``; raises ``Untrusted``."""
        size = fields.number("size")
        if size is None or size < 0:
            raise malformed("a descriptor has no size, or a negative one", what)
        return cls(parse_digest(fields.needed_text("digest"), what), size)

    @property
    def path(self) -> str:
        """The blob's name in the archive."""
        return f"blobs/{self.digest.algorithm}/{self.digest.hex}"


def stored_blob(archive: Archive, descriptor: Descriptor, what: str) -> Extent:
    """Where the blob is; raises ``NotWhole`` when the archive lacks it, ``Untrusted`` when it has another size."""
    if not archive.has(descriptor.path):
        raise NotWhole(
            malformed(
                f"{what} is not in the archive",
                descriptor.path,
                hint="save the image again with all of its layers (`skopeo copy`); nothing is ever fetched from a registry",
            )
        )
    extent = archive.file(descriptor.path)
    if extent.size != descriptor.size_bytes:
        raise malformed(
            f"{what} is {extent.size} bytes long and not {descriptor.size_bytes} bytes, as it must be", descriptor.path
        )
    return extent


def read_blob(archive: Archive, descriptor: Descriptor, what: str) -> bytes:
    """The content of a JSON blob, its digest checked."""
    data = documents.read_document(stored_blob(archive, descriptor, what), what, archive.limits)
    check_bytes(descriptor.digest, data, what)
    return data


def read_manifest(archive: Archive, descriptor: Descriptor) -> Fields:
    """The manifest or index that ``descriptor`` points to; raises ``NotWhole`` when the archive lacks it."""
    what = f"the manifest {descriptor.digest}"
    return Fields(documents.parse(read_blob(archive, descriptor, what), what), what)

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take parts of a download from files of this host, before the rest is requested.

    where is it the same? (headers of the object, read by ranges) -> copied into the part file -> hashed there -> counts when its digest is right

Invariant: bytes of another file count only when they, read back from the part file, have the digest that the object claims for them. Whether the object
is right in this is shown by the digest of the whole, which is computed as always. Any doubt means that the bytes are received.
"""

from __future__ import annotations

import contextlib
import enum
import functools
import hashlib
import os
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from ..._errors import FlydError
from ..._names import Digest
from ..download.partfile import PartFile, Received
from ..download.retry_policy import DownloadOptions, Patience
from ..download.run_concurrently import together
from ..download.segments import Span, merged, without
from ..source import Source
from .paged import NotWorthIt, Paged

_COPY_BYTES = 16 << 20
_BUFFER_BYTES = 1 << 20
_AT_ONCE = 2


class NotReused(str, enum.Enum):
    """Why not everything that may be taken from other files was."""

    SMALL_OBJECT = "small_object"
    NO_COPIES = "no_copies"
    NOTHING_IN_COMMON = "nothing_in_common"
    NOT_UNDERSTOOD = "not_understood"
    WALK_TOO_LONG = "walk_too_long"
    WALK_FAILED = "walk_failed"
    COPY_DIFFERS = "copy_differs"
    WRONG_DIGEST = "wrong_digest"
    NO_RANGES = "no_ranges"
    RESUMED = "resumed"


class Seed(NamedTuple):
    """The bytes ``first_byte`` to ``end_byte`` of the object are those from ``offset`` on in the file, when they have ``sha256`` (hex)."""

    first_byte: int
    end_byte: int
    fd: int
    offset: int
    sha256: str
    is_of_another_key: bool


class Seeds(NamedTuple):
    """What may be taken, in order and without overlaps, and why it is not more; None when nothing is missing."""

    found: tuple[Seed, ...]
    because: NotReused | None


class Copies(Protocol):
    """The files of this host that parts of an object may be taken from."""

    def seeds(self, elsewhere: Paged, expected: Digest | None) -> contextlib.AbstractContextManager[Seeds]:
        """What of the object ``elsewhere`` the files have; they are open in the context.

        Without ``expected``, the digest of the whole, nothing of another key: the digest of a layer is no secret, and naming it in an image
        would be enough to have the layer put into that image.
        """


@dataclass(frozen=True)
class Reused:
    """What was taken: ``requests`` were made to find out, and ``because`` tells why it is not more."""

    bytes_reused: int = 0
    requests: int = 0
    because: NotReused | None = None


def reuse(
    copies: Copies,
    bucket: Source,
    part: PartFile,
    expected: Digest | None,
    patience: Patience,
    options: DownloadOptions,
) -> Reused:
    """Put into ``part``, which is empty, what ``copies`` have; ``part.received`` then tells what is good of it.

    Raises ``ObjectChanged``, ``RangesRefused``, and what ends the download anyway; any other error means less to take.
    """
    paged = Paged(bucket, part, patience, options)
    planted: list[Span] = []
    refused: list[Span] = []
    promise = ""
    because: NotReused | None = None
    try:
        with copies.seeds(paged, expected) as seeds:
            because = seeds.because
            works = [functools.partial(_is_planted, part, seed, patience) for seed in seeds.found]
            good = together(works, at_once=_AT_ONCE, give_up=patience.give_up) if works else []
            for seed, is_good in zip(seeds.found, good):
                (planted if is_good else refused).append((seed.first_byte, seed.end_byte))
            if any(seed.is_of_another_key for seed in seeds.found):
                promise = str(expected)
    except NotWorthIt:
        because = NotReused.WALK_TOO_LONG
    except (FlydError, OSError):
        patience.check_time()
        because = NotReused.WALK_FAILED
    paged.check()
    if refused:
        because = NotReused.COPY_DIFFERS
    spans = merged([*without(paged.spans, refused), *planted])
    part.received = Received(spans=tuple(spans), promise=promise)
    if planted:
        part.save(part.received)
    reused_bytes = sum(end - first for first, end in without(planted, paged.spans))  # the rest has come already
    return Reused(reused_bytes, paged.requests, because)


def _is_planted(part: PartFile, seed: Seed, patience: Patience) -> bool:
    """Copy the seed to its place; whether it has its digest there."""
    try:
        _copy(part, seed, patience)
        return _sha256_of(part, seed, patience) == seed.sha256
    except (OSError, EOFError, FlydError):
        patience.check_time()  # the download's own end is not the seed's
        return False


def _copy(part: PartFile, seed: Seed, patience: Patience) -> None:
    at, offset = seed.first_byte, seed.offset
    while at < seed.end_byte:
        patience.check_time()
        copied = _copy_some(seed.fd, offset, part.fd, at, min(_COPY_BYTES, seed.end_byte - at))
        if not copied:
            raise EOFError
        at, offset = at + copied, offset + copied


def _copy_some(source_fd: int, offset: int, fd: int, at: int, count: int) -> int:
    """copy_file_range(2), which shares the blocks where the file system can; else read and write."""
    with contextlib.suppress(OSError, AttributeError):  # AttributeError: a C library without it
        return os.copy_file_range(source_fd, fd, count, offset, at)
    chunk = os.pread(source_fd, min(count, _BUFFER_BYTES), offset)
    return os.pwrite(fd, chunk, at)


def _sha256_of(part: PartFile, seed: Seed, patience: Patience) -> str:
    hashed, at = hashlib.sha256(), seed.first_byte
    buffer = memoryview(bytearray(_BUFFER_BYTES))
    while at < seed.end_byte:
        patience.check_time()
        count = part.read_at(buffer[: min(_BUFFER_BYTES, seed.end_byte - at)], at)
        if not count:
            raise EOFError
        hashed.update(buffer[:count])
        at += count
    return hashed.hexdigest()

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From an object of S3 to a file whose digest is right.

    HEAD -> part file reserved -> what other files of this host have is copied (reuse)
                                   `-> the other ranges written in place by several workers
                                        `-> all hashed in order behind them, from the file itself
         -> digest right, fsync -> publish (rename)

Invariant: the digest is that of the bytes in the file, in order, and a file that has not the expected one is removed. Nothing
here has the archive's final name; ``publish`` gives it.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from typing import NamedTuple, NoReturn

from ..._errors import FlydError, Untrusted
from ..._names import Digest, printable
from ..objects import ObjectInfo, is_stated
from ..reuse.seeding import Copies, NotReused, Reused, reuse
from ..s3_errors import RangesRefused
from ..source import Source
from .flusher import Flusher
from .hasher import Follower, Progress, ResumeMismatch
from .partfile import PartFile, Received, discard, open_part, publish
from .receiver import Receiver
from .retry_policy import DownloadOptions, Patience
from .segments import Ledger

__all__ = ["DownloadOptions", "Downloaded", "discard", "download", "publish"]


@dataclass(frozen=True)
class Downloaded:
    """What was downloaded. ``attempts`` is 1 plus the requests that were repeated; ``resumed_bytes`` were here from an earlier run.

    ``reused`` were taken from other files of this host.
    """

    sha256: str
    size_bytes: int
    etag: str
    seconds: float
    attempts: int
    waited_seconds: float
    resumed_bytes: int
    reused: Reused


class _Came(NamedTuple):
    """All bytes are here: their digests (hex by algorithm), and how many of them did not come."""

    digests: dict[str, str]
    resumed_bytes: int
    reused: Reused


@dataclass(frozen=True)
class _Job:
    bucket: Source
    info: ObjectInfo
    part_path: str
    expected: Digest | None
    options: DownloadOptions
    on_progress: Progress | None
    copies: Copies | None


def download(
    bucket: Source,
    info: ObjectInfo,
    part_path: str,
    *,
    expected: Digest | None,
    patience: Patience,
    options: DownloadOptions,
    on_progress: Progress | None = None,
    copies: Copies | None = None,
) -> Downloaded:
    """Download ``info`` into ``part_path``, whose directory exists and is ours alone, and fsync it.

    What an earlier run received of the same object is used, else what ``copies`` have of it; ``patience`` may be shared with other
    downloads. Raises ``Untrusted`` (wrong digest twice, or more bytes than announced), ``ObjectChanged`` (begin again with a new HEAD),
    ``NoSpace`` and ``Transient``.
    The part file is left behind only after a ``retryable`` error or a kill, for the next run to resume.
    """
    begun, repeated, waited_seconds = time.monotonic(), patience.repeated, patience.waited_seconds
    job = _Job(bucket, info, part_path, expected, options, on_progress, copies)
    came = _verified(job, patience)
    return Downloaded(
        came.digests["sha256"],
        info.size_bytes,
        info.etag,
        time.monotonic() - begun,
        1 + patience.repeated - repeated,
        patience.waited_seconds - waited_seconds,
        came.resumed_bytes,
        came.reused,
    )


def _verified(job: _Job, patience: Patience) -> _Came:
    """What came, once its digest is right; a wrong one is downloaded once more, from the first byte, and all of it."""
    came = _complete(job, patience, resume=True)
    if job.expected is not None and not _is_right(job, job.expected, came.digests):
        discard(job.part_path)
        patience.begin_again()
        reused = replace(came.reused, bytes_reused=0, because=NotReused.WRONG_DIGEST) if job.copies else came.reused
        came = _complete(job, patience, resume=False)._replace(reused=reused)
        if not _is_right(job, job.expected, came.digests):
            _refuse_wrong(job, job.expected, came.digests[job.expected.algorithm])
    return came


def _is_right(job: _Job, expected: Digest, found: dict[str, str]) -> bool:
    """Whether the bytes are those that are expected; what the server itself states of them may be a digest of their digest."""
    if found[expected.algorithm] == expected.hex:
        return True
    return expected.hex == job.info.sha256 and is_stated(expected.hex, found["sha256"])


def _refuse_wrong(job: _Job, expected: Digest, found: str) -> NoReturn:
    discard(job.part_path)
    raise Untrusted(
        f"{printable(job.info.key)} has {expected.algorithm}:{found}, but must have {expected}; it was downloaded twice",
        hint="the object is not the one that the checksum belongs to, or it is damaged where it is stored: ask its publisher",
        expected=str(expected),
        found=f"{expected.algorithm}:{found}",
        key=printable(job.info.key),
    )


def _complete(job: _Job, patience: Patience, *, resume: bool) -> _Came:
    """All bytes: by ranges when the server can, and without those of an earlier run when they are not what they were.

    Without an exact tag and without a digest nothing would tell that ranges are of several versions: then they come of one answer.
    """
    if job.expected is None and not job.info.is_exact:
        return _in_one_stream(job, patience)
    try:
        return _one_pass(job, patience, resume=resume, ranged=True)
    except ResumeMismatch:
        return _complete(job, patience, resume=False)
    except RangesRefused:
        return _in_one_stream(job, patience)


def _in_one_stream(job: _Job, patience: Patience) -> _Came:
    """All bytes in one stream, which begins again after each break."""
    failures, first_failure = 0, time.monotonic()
    while True:
        try:
            return _one_pass(job, patience, resume=False, ranged=False)
        except FlydError as error:  # noqa: PERF203 - a loop of whole downloads
            failures += 1
            patience.bear(error, failures, first_failure, threading.Event())


def _one_pass(job: _Job, patience: Patience, *, resume: bool, ranged: bool) -> _Came:
    size_bytes = job.info.size_bytes
    promise = str(job.expected or "")
    with open_part(job.part_path, job.info, resume=resume, promise=promise) as part:
        earlier, reused = part.received, _reused(job, part, patience, resume=resume, ranged=ranged)
        here = part.received
        segment_bytes = job.options.segment_bytes if ranged else max(1, size_bytes)
        ledger = Ledger(size_bytes, segment_bytes, [(0, here.hashed_bytes), *here.spans])
        resumed_bytes = ledger.received_bytes() if here is earlier else 0
        follower = Follower(part, ledger, job.expected, job.options, job.on_progress)
        receiver = Receiver(job.bucket, part, ledger, patience, job.options, resumable=ranged)
        flusher = Flusher(part, ledger)
        try:
            with flusher, receiver:
                follower.follow(receiver, patience)
        finally:
            follower.checkpoint()
        flusher.sync()
        return _Came(follower.digests(), resumed_bytes, reused)


def _reused(job: _Job, part: PartFile, patience: Patience, *, resume: bool, ranged: bool) -> Reused:
    """Take what other files have, in the first pass, unless an earlier run has left something."""
    if job.copies is None or not ranged:
        return Reused(because=NotReused.NO_RANGES if job.copies is not None else None)
    if not resume or part.received != Received():
        return Reused(because=NotReused.RESUMED)
    return reuse(job.copies, job.bucket, part, job.expected, patience, job.options)

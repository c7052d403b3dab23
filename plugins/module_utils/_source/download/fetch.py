# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetch what a key names, from the first request to verified part files; restart once when it changes meanwhile.

    ask (what is there, what it must hash to) -> download, all objects side by side -> digest of the whole

Invariant: digests and bytes belong to one generation of the key: when an object is replaced during the download, everything is requested
again. Nothing here has a final name; the caller renames the parts.
"""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass, replace
from typing import Callable

from ..._errors import Busy
from ..._host.retry import Retry
from ..._names import Digest
from ..digests.checksum import Expected, Trust
from ..digests.family import OtherFamily, family_sha256, refuse_other_family, weakest
from ..found import Found
from ..objects import ObjectInfo
from ..reuse.seeding import Copies, Reused
from ..s3_errors import ObjectChanged
from ..source import Source
from .download import Downloaded, download
from .hasher import Progress
from .partfile import discard, forget_unless_resumable, reserve
from .rate import Rate
from .resolve import Asked, Known, Nothing, Wanted, ask
from .retry_policy import DownloadOptions, Patience
from .run_concurrently import Sum, together

__all__ = ["Arrived", "Asked", "Fetched", "Known", "Wanted", "ask", "fetch"]

PartPath = Callable[[int], str]  # where the bytes of the object at that position arrive


@dataclass(frozen=True)
class Fetched:
    """One object as it was announced, what was expected of it, and what came, into ``part_path``; that is empty when nothing had to."""

    info: ObjectInfo
    expected: Expected
    downloaded: Downloaded
    part_path: str


@dataclass(frozen=True)
class Arrived:
    """All that a key names; ``sha256`` is the object's digest or the family's."""

    found: Found
    objects: tuple[Fetched, ...]
    sha256: str
    trust: Trust
    seconds: float
    attempts: int  # 1 and the requests for bytes that were repeated; 0 when nothing had to come

    @property
    def received_bytes(self) -> int:
        """What came over the line now."""
        return sum(one.downloaded.size_bytes - one.downloaded.resumed_bytes for one in self.objects) - self.bytes_reused

    @property
    def resumed_bytes(self) -> int:
        """What was here before."""
        return sum(one.downloaded.resumed_bytes for one in self.objects)

    @property
    def bytes_reused(self) -> int:
        """What was taken from other files of this host."""
        return sum(one.downloaded.reused.bytes_reused for one in self.objects)

    @property
    def walk_requests(self) -> int:
        """How many requests it took to find out what they have."""
        return sum(one.downloaded.reused.requests for one in self.objects)

    @property
    def not_reused_because(self) -> str | None:
        """Why not everything that may be taken was; of a family, that is not looked for."""
        because = self.objects[0].downloaded.reused.because
        return because and because.value


def fetch(
    bucket: Source,
    wanted: Wanted,
    part_path: PartPath,
    *,
    retry: Retry,
    options: DownloadOptions | None = None,
    known: Known | None = None,
    asked: Asked | None = None,
    on_progress: Progress | None = None,
    copies: Copies | None = None,
) -> Arrived:
    """Fetch ``wanted`` into part files; ``asked`` is the result of a recent ``ask``. Errors are those of ``ask`` and ``download``.

    Of an archive, what ``copies`` have is not requested.
    """
    how = options or DownloadOptions()
    job = _Job(
        bucket,
        wanted,
        part_path,
        how,
        known or Nothing(),
        on_progress,
        Patience(retry, how.deadline_seconds, how.streams, Rate(how.max_bytes_per_second)),
        None if wanted.key.is_family else copies,
    )
    begun_again = False
    while True:
        if asked is None:
            asked = ask(bucket, wanted, job.known, retry)
        try:
            return job.run(asked)
        except ObjectChanged:
            if not _may_begin_again(bucket, asked, retry) and begun_again:
                raise
        asked, begun_again = None, True


def _may_begin_again(bucket: Source, asked: Asked, retry: Retry) -> bool:
    """Whether the object only seemed to be replaced, so that asking otherwise helps; of a family, that is not looked into."""
    info = asked.infos[-1]
    return not asked.found.key.is_family and retry.call(lambda: bucket.settle_tags(info))


@dataclass(frozen=True)
class _Job:
    bucket: Source
    wanted: Wanted
    part_path: PartPath
    options: DownloadOptions
    known: Known
    on_progress: Progress | None
    patience: Patience
    copies: Copies | None

    def run(self, asked: Asked) -> Arrived:
        begun, retry = time.monotonic(), self.patience.retry
        try:
            objects = self._download(asked)
        except (
            OtherFamily
        ):  # a byte may have been wrong on its way, now or in an earlier run: once more, from the first one
            self.patience.begin_again()
            self._discard(asked)
            restarted = replace(self, known=Nothing())
            objects = restarted._download(ask(self.bucket, self.wanted, restarted.known, retry, asked.found))
        return _arrived(asked.found, objects, time.monotonic() - begun, self.patience.repeated)

    def _download(self, asked: Asked) -> tuple[Fetched, ...]:
        """All objects, of which the whole is what it must be; else, and after any error, no part is left that is of no use."""
        progress = Sum(asked.found.size_bytes, self.on_progress)
        self.patience.begin()
        try:
            if len(asked.infos) > 1:
                self._reserve_all(asked)
            works = [
                functools.partial(self._one, number, info, expected, progress.of(number))
                for number, (info, expected) in enumerate(zip(asked.infos, asked.expected))
            ]
            objects = together(works, at_once=self.options.streams, give_up=self.patience.give_up)
            refuse_other_family(
                asked.found.key, asked.whole, [(one.info.key, one.downloaded.sha256) for one in objects]
            )
        except BaseException as error:
            self._tidy(asked, error)
            raise
        return tuple(objects)

    def _tidy(self, asked: Asked, error: BaseException) -> None:
        """What one object alone leaves behind ``download`` sees to. A part that another process has open is that one's."""
        if len(asked.infos) > 1 and not isinstance(error, Busy):
            for number, info in enumerate(asked.infos):
                forget_unless_resumable(self.part_path(number), info, error)

    def _reserve_all(self, asked: Asked) -> None:
        for number, (info, expected) in enumerate(zip(asked.infos, asked.expected)):
            if not self._is_here(expected.digest, info):
                reserve(self.part_path(number), info)

    def _one(self, number: int, info: ObjectInfo, expected: Expected, progress: Progress) -> Fetched:
        part_path = self.part_path(number)
        if expected.digest is not None and self._is_here(expected.digest, info):
            discard(part_path)
            progress(info.size_bytes, info.size_bytes)
            here = Downloaded(expected.digest.hex, info.size_bytes, info.etag, 0.0, 0, 0.0, info.size_bytes, Reused())
            return Fetched(info, expected, here, "")
        came = download(
            self.bucket,
            info,
            part_path,
            expected=expected.digest,
            patience=self.patience,
            options=self.options,
            on_progress=progress,
            copies=self.copies,
        )
        return Fetched(info, expected, came, part_path)

    def _is_here(self, digest: Digest | None, info: ObjectInfo) -> bool:
        return digest is not None and digest.algorithm == "sha256" and self.known.has(digest, info)

    def _discard(self, asked: Asked) -> None:
        for number in range(len(asked.infos)):
            discard(self.part_path(number))


def _arrived(found: Found, objects: tuple[Fetched, ...], seconds: float, repeated: int) -> Arrived:
    digests = [(one.info.key, one.downloaded.sha256) for one in objects]
    return Arrived(
        found,
        objects,
        family_sha256(found.key, digests) if found.key.is_family else digests[0][1],
        weakest(one.expected.trust for one in objects),
        seconds,
        1 + repeated if any(one.part_path for one in objects) else repeated,
    )

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""new → fetched: the archive, or the layers of a family, are on disk under their digests, and are what was asked for.

Invariant: a row says ``fetched`` only after all its bytes were verified and published, which is ``fetching``'s work; here is what a run
with nothing to do needs, and no more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .._errors import BadInput
from .._host.process import Identity
from .._names import Digest, ObjectKey
from .._source.found import Found
from .._source.light import light_head
from .._source.options import S3Options
from .._source.patience import DownloadOptions
from .._source.trust import ChecksumPolicy, Trust, is_pinned
from .advance import Arrow
from .archives import on_disk
from .fetched import fetched_facts
from .host import Host
from .outcome import Facts
from .records import Image, State

if TYPE_CHECKING:
    from .._source.asking import Wanted
    from .fetching import Fetching


class FetchOptions(NamedTuple):
    """What flyd_fetch was asked for; ``checksum`` is a digest or names a sidecar, ``max_bytes`` bounds all objects together."""

    key: ObjectKey
    s3: S3Options
    checksum: str
    policy: ChecksumPolicy
    max_bytes: int
    download: DownloadOptions = DownloadOptions()

    @property
    def wanted(self) -> Wanted:
        """The same for the engine."""
        from .._source.asking import Wanted

        return Wanted(self.key, self.checksum, self.policy, self.max_bytes)


class Fetch(Arrow):
    """The arrow of flyd_fetch."""

    name = "fetch"
    start = State.NEW
    end = State.FETCHED

    def __init__(self, options: FetchOptions) -> None:
        self._options = options
        self._pinned = _pinned(options.checksum)
        self._work: Fetching | None = None
        self._found: Found | None = None

    def holds(self, host: Host, image: Image) -> Facts | None:
        """Whether what is recorded is what is asked for: without a question to S3 when its digest is pinned, else by one request."""
        if not (image.base_ulid or on_disk(host, image)) or _was_cut_off(host, image):
            return None
        if self._pinned is not None:
            fits = self._pinned.hex == image.sha256
            return {**fetched_facts(host, image), "trust": Trust.PINNED.value} if fits else None
        if self._trusts_less(image):
            return None
        return fetched_facts(host, image) if is_of(self._options, image, self._look(host)) else None

    def predict(self, host: Host, image: Image) -> tuple[Facts, Facts]:
        """What would be downloaded. S3 is asked for all but the bytes, so what it would refuse is found in check mode too."""
        return self._working().predict(host, image)

    def perform(self, host: Host, image: Image, log: Facts) -> tuple[Image, Facts]:
        """Download, verify, publish, record; a changed object becomes a new generation and the old one is retired."""
        return self._working().perform(host, image, log)

    def _look(self, host: Host) -> Found:
        """What is behind the key now. An archive is asked for without boto3 first: a run with nothing to do needs no more."""
        if self._found is None:
            info = None if self._options.key.is_family else light_head(self._options.s3, self._options.key)
            self._found = self._working().look(host) if info is None else Found(self._options.key, (info,))
        return self._found

    def _working(self) -> Fetching:
        # Late: what talks to S3 takes longer to import than everything else together.
        from .fetching import Fetching

        if self._work is None:
            self._work = Fetching(self._options, self._pinned, self._found)
        return self._work

    def _trusts_less(self, image: Image) -> bool:
        """Whether more is asked for now than those who have vouched for the image."""
        if self._options.checksum.strip():
            return image.trust not in (Trust.SIDECAR.value, Trust.PINNED.value)
        return self._options.policy is ChecksumPolicy.REQUIRE and image.trust == Trust.FIRST_USE.value


def is_of(options: FetchOptions, image: Image, found: Found) -> bool:
    """Whether ``image`` was made of this very version of the key's objects."""
    recorded = (image.bucket, image.etag, image.size_bytes, image.version_id)
    return recorded == (options.s3.bucket, found.etag, found.size_bytes, found.version_id)


def _was_cut_off(host: Host, image: Image) -> bool:
    """Whether an earlier run for this key left parts that only a run for this key removes."""
    return any(
        not Identity(one.boot_id, one.pid, one.started).is_alive() for one in host.store.downloads(image.object_key)
    )


def _pinned(checksum: str) -> Digest | None:
    """The digest that ``checksum`` is, or None when it is empty or names a sidecar."""
    if not is_pinned(checksum):
        return None
    digest = Digest.parse(checksum, what="checksum")
    if digest.algorithm != "sha256":
        raise BadInput(f"checksum is a {digest.algorithm} digest", hint="archives are known by SHA-256: give sha256:…")
    return digest

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""new → fetched: the archive, or the layers of a family, are on disk under their digests, and are what was asked for.

Invariant: a row says ``fetched`` only after all its bytes were verified and published, which is ``fetch_work``'s work; here is what a run
with nothing to do needs, and no more.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ..._errors import BadInput
from ..._names import Digest
from ..._source.digests.trust import Trust, Voucher, is_pinned, voucher
from ..._source.found import Found
from ..._source.s3.head_request import light_head
from ..diff import image_view
from ..image.advance import Arrow
from ..image.placement import require_in_pool
from ..image.seals import Condition, Seals, hashed
from ..outcome import Facts
from ..run import Run
from ..store.records import Image, State
from .fetched import fetched_facts, infos_of, warnings_of_present, was_interrupted
from .options import FetchOptions, OnChange, is_of
from .revive import find_revival, is_here, worst
from .vouching import by_file, by_record, columns_of, is_recorded, recorded_voucher, strongest, vouched

if TYPE_CHECKING:
    from .fetch_work import Fetching
    from .revive import Revival


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
        self._voucher: Voucher | None = None
        self._seals = Seals()
        self._conditions: dict[str, Condition] = {}
        self._touched: Found | None = None  # a file that looks other than it did, and has the same bytes

    def admit(self, host: Run, image: Image) -> None:
        """Refuse another pool than the one that the image lies in, when one is named, and a family that is to come from one file."""
        if host.settings.names_pool:
            revival = self._revival(host, image)
            meant = image if revival is None else revival.generation
            require_in_pool(host, meant, host.settings.pool.value)
        if self._options.place.name and self._options.key.is_family:
            from ..._source.host_file import no_family

            raise no_family(self._options.key)
        if image.state is State.NEW:
            self._await_file(host, image)

    def holds(self, host: Run, image: Image) -> Facts | None:
        """Whether what is recorded is what is asked for: without a question when its digest is pinned, else by one request.

        One more reads the checksum file that is named.
        """
        self._conditions = {digest: self._seals.condition(host, digest) for digest in image.digests}
        self._voucher = None
        if is_here(image, self._conditions) and not was_interrupted(host, image):
            self._voucher = self._vouches(host, image)
        if self._voucher is not None:
            return self._facts(host, image, self._voucher)
        self._await_file(host, image)
        return None

    def _await_file(self, host: Run, image: Image) -> None:
        """Raise ``AwaitsFile``, or what is refused without a byte, when bytes are needed that the controller has not sent."""
        place = self._options.place
        if place.is_awaited and self._revival(host, image) is not None:
            return
        is_damaged = self._conditions.get(place.sha256) is Condition.DAMAGED
        if (
            place.is_awaited
            and not host.dry_run
            and (is_damaged or not os.path.exists(host.archive_path(place.sha256)))
        ):
            from ..._source.host_file import awaiting

            self._working().ask(host, image)
            raise awaiting(place)

    def note(self, host: Run, image: Image) -> None:
        """Record who vouches, when that is more than was known, and how archives look that were hashed again."""
        best = strongest(image, self._voucher or recorded_voucher(image))
        verified = [digest for digest, one in self._conditions.items() if one is Condition.VERIFIED]
        seen = {"etag": self._touched.etag} if self._touched is not None else {}
        if best != recorded_voucher(image) or verified or seen:
            with host.store.transaction():
                self._seals.record(host, verified)
                host.store.change(image, **columns_of(best), **seen)

    def view(self, host: Run, image: Image) -> Facts:
        """What a diff shows of ``image``: an archive that is not what it was is none."""
        view = image_view(host, image)
        damaged = [host.archive_path(one) for one, it in self._conditions.items() if it is Condition.DAMAGED]
        return {**view, "archives": [path for path in view["archives"] if path not in damaged]}

    def _revival(self, host: Run, image: Image) -> Revival | None:
        """Rollback to the generation whose digest is pinned, without a question, when it is here; else None."""
        return find_revival(host, self._options, self._pinned, image.object_key, self._seals)

    def _vouches(self, host: Run, image: Image) -> Voucher | None:
        """Who vouches for the bytes on this host; None when they are not, or may not be, those that are asked for."""
        if self._pinned is not None:
            now = voucher(Trust.PINNED, self._options.checksum, "", str(self._pinned))
            return now if self._pinned.hex == image.sha256 else None
        if self._options.on_change is OnChange.IGNORE and image.bucket == self._options.source_name:
            return self._vouches_unasked(host, image)
        found = self._look(host)
        if not is_of(self._options, image, found) and not self._has_same_bytes(image, found):
            return None
        return vouched(host, self._options, image, found)

    def _has_same_bytes(self, image: Image, found: Found) -> bool:
        """Whether a file of this host that was touched, copied or renamed has the bytes that were fetched: it is read to find out."""
        path = self._options.place.path
        if (
            not path
            or self._options.place.is_sent
            or image.size_bytes != found.size_bytes
            or image.bucket != self._options.source_name
        ):
            return False
        if hashed(path, "sha256") != image.sha256:
            return False
        self._touched = found
        return True

    def _vouches_unasked(self, host: Run, image: Image) -> Voucher | None:
        """The same without a question to S3 about the object. A checksum file that has not vouched yet is read."""
        if not self._options.checksum.strip():
            return by_record(self._options, image)
        if is_recorded(self._options, image):
            return recorded_voucher(image)
        return by_file(host, self._options, image, infos_of(image))

    def _facts(self, host: Run, image: Image, now: Voucher) -> Facts:
        return {
            **fetched_facts(host, image),
            "trust": now.trust.value,
            "vouched_by": now.name or None,
            "archive": self._condition,
            "warnings": warnings_of_present(self._options, image, was_asked=self._found is not None),
        }

    def predict(self, host: Run, image: Image) -> tuple[Facts, Facts]:
        """What would be downloaded, or revived. S3 is asked for all but the bytes, so what it would refuse is found in check mode too."""
        revival = self._revival(host, image)
        if revival is not None:
            return revival.predict(host, image)
        changes, facts = self._working().predict(host, image)
        return changes, {**facts, "archive": self._condition}

    def perform(self, host: Run, image: Image, log: Facts) -> tuple[Image, Facts]:
        """Download, verify, publish, record; a changed object becomes a new generation and the old one is retired.

        A retired generation whose digest is pinned becomes the current one again without a download.
        """
        revival, condition = self._revival(host, image), self._condition
        if revival is not None:
            self._conditions = {}
            return revival.perform(host, image, log)
        after, facts = self._working().perform(host, image, log)
        self._conditions = {}
        return after, {**facts, "archive": condition}

    @property
    def _condition(self) -> str | None:
        """The worst of the image's archives; None when it was never fetched."""
        return worst(self._conditions)

    def _look(self, host: Run) -> Found:
        """What is behind the key now. An archive is asked for without boto3 first: a run with nothing to do needs no more."""
        if self._found is None:
            is_elsewhere = self._options.key.is_family or bool(self._options.place.name)
            info = None if is_elsewhere else light_head(self._options.s3, self._options.key)
            self._found = self._working().look(host) if info is None else Found(self._options.key, (info,))
        return self._found

    def _working(self) -> Fetching:
        # Late: what talks to S3 takes longer to import than everything else together.
        from .fetch_work import Fetching

        if self._work is None:
            self._work = Fetching(self._options, self._pinned, self._found)
        return self._work


def _pinned(checksum: str) -> Digest | None:
    """The digest that ``checksum`` is, or None when it is empty or names a sidecar."""
    if not is_pinned(checksum):
        return None
    digest = Digest.parse(checksum, what="checksum")
    if digest.algorithm != "sha256":
        raise BadInput(
            f"checksum is a {digest.algorithm} digest",
            hint="give checksum: sha256:…, as archives are known by their SHA-256",
        )
    return digest

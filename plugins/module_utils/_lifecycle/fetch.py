# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""new → fetched: the archive, or the layers of a family, are on disk under their digests, and are what was asked for.

Invariant: a row says ``fetched`` only after all its bytes were verified and published. When what is behind a key has changed, a new
generation takes the row, and the old one keeps its base and snapshots.
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass, field

from .._errors import BadInput, MissingLibrary, NoSpace
from .._host.files import free_bytes
from .._host.process import Identity
from .._host.retry import Retry
from .._names import Digest, ObjectKey, new_ulid
from .._source.checksum import ChecksumPolicy, Trust, is_pinned
from .._source.download import DownloadOptions
from .._source.fetch import Asked, Wanted, ask
from .._source.found import Found, look
from .._source.s3 import Bucket, S3Options
from .advance import Arrow
from .archives import missing, on_disk, require_there, sweep
from .fetched import fetched_facts, members_of
from .host import Host
from .outcome import Facts
from .receipt import OnHost, Receipt, receive, reserved_for
from .records import Image, State
from .store import utc_now
from .views import UNKNOWN, fetched, image_view

_DISK_RESERVE_BYTES = 64 << 20  # for the store and the log


@dataclass(frozen=True)
class FetchOptions:
    """What flyd_fetch was asked for; ``checksum`` is a digest or names a sidecar, ``max_bytes`` bounds all objects together."""

    key: ObjectKey
    s3: S3Options
    checksum: str
    policy: ChecksumPolicy
    max_bytes: int
    download: DownloadOptions = field(default_factory=DownloadOptions)

    @property
    def wanted(self) -> Wanted:
        """The same for the engine."""
        return Wanted(self.key, self.checksum, self.policy, self.max_bytes)


class Fetch(Arrow):
    """The arrow of flyd_fetch."""

    name = "fetch"
    start = State.NEW
    end = State.FETCHED

    def __init__(self, options: FetchOptions) -> None:
        self._options = options
        self._pinned = _pinned(options.checksum)
        self._bucket = Bucket(options.s3)
        self._found: Found | None = None
        self._retry: Retry | None = None

    def holds(self, host: Host, image: Image) -> Facts | None:
        """Whether what is recorded is what is asked for: without a question to S3 when its digest is pinned, else by one request."""
        if not (image.base_ulid or on_disk(host, image)) or _was_cut_off(host, image):
            return None
        if self._pinned is not None:
            fits = self._pinned.hex == image.sha256
            return {**fetched_facts(host, image), "trust": Trust.PINNED.value} if fits else None
        if self._trusts_less(image):
            return None
        return fetched_facts(host, image) if self._is_of(image, self._look(host)) else None

    def predict(self, host: Host, image: Image) -> tuple[Facts, Facts]:
        """What would be downloaded. S3 is asked for all but the bytes, so what it would refuse is found in check mode too.

        On a host that ``prepare`` was only simulated on there is no boto3: then the prediction does without S3.
        """
        known = {"sha256": self._pinned.hex if self._pinned else UNKNOWN, "etag": UNKNOWN, "trust": UNKNOWN}
        size_bytes: int | None = None
        is_same, digests = False, [known["sha256"]]
        try:
            asked = self._ask(host, image)
            known = {"sha256": asked.sha256 or UNKNOWN, "etag": asked.found.etag, "trust": asked.trust.value}
            size_bytes, is_same = asked.found.size_bytes, self._is_of(image, asked.found)
            digests = [one.sha256 or UNKNOWN for one in asked.expected]
        except MissingLibrary:
            if host.settings.starts_over:
                raise
        told = {name: None if value == UNKNOWN else value for name, value in known.items()}
        archives = [host.archive_path(one) for one in digests if one not in _sealed_without_archive(host, image)]
        changes = fetched(image_view(host, image), archives, **known)
        is_new = bool(image.id) and not is_same and known["sha256"] != image.sha256
        return changes, {
            **fetched_facts(host, image),
            **told,
            "size": size_bytes,
            "path": None,
            "new_generation": is_new,
        }

    def perform(self, host: Host, image: Image, log: Facts) -> tuple[Image, Facts]:
        """Download, verify, publish, record; a changed object becomes a new generation and the old one is retired."""
        known, retry = OnHost(host, self._options.s3.bucket, image), self._patience(host)
        asked = self._ask(host, image)
        with self._bucket:
            got = receive(host, self._bucket, self._options.wanted, asked, known, retry, self._options.download)
        after = self._record(host, image, got)
        sweep(host)
        told = {
            "bytes_received": got.arrived.received_bytes,
            "bytes_resumed": got.arrived.resumed_bytes,
            "seconds": round(got.arrived.seconds, 3),
            "attempts": got.arrived.attempts,
            "waited_seconds": round(retry.waited_seconds, 3),
            "new_generation": bool(image.id) and after.id != image.id,
        }
        log.update({**told, "attempt": max(1, got.arrived.attempts), "bytes": after.size_bytes, "trust": after.trust})
        return after, {**fetched_facts(host, after), **told}

    def _ask(self, host: Host, image: Image) -> Asked:
        known = OnHost(host, self._options.s3.bucket, image)
        asked = ask(self._bucket, self._options.wanted, known, self._patience(host), self._found)
        self._require_room(host, asked)
        return asked

    def _record(self, host: Host, image: Image, got: Receipt) -> Image:
        arrived = got.arrived
        after = dataclasses.replace(
            _generation(image, arrived.sha256),
            bucket=self._options.s3.bucket,
            size_bytes=arrived.found.size_bytes,
            etag=arrived.found.etag,
            version_id=arrived.found.version_id,
            trust=arrived.trust.value,
            members=members_of(arrived),
            updated_at=utc_now(),
        )
        with host.store.transaction():
            require_there(host, after)
            if image.id and after.id != image.id:
                host.store.retire(image)
            host.store.put(after)
            host.store.drop(got.operation)
        return after

    def _is_of(self, image: Image, found: Found) -> bool:
        """Whether ``image`` was made of this very version of the key's objects."""
        recorded = (image.bucket, image.etag, image.size_bytes, image.version_id)
        return recorded == (self._options.s3.bucket, found.etag, found.size_bytes, found.version_id)

    def _trusts_less(self, image: Image) -> bool:
        """Whether more is asked for now than those who have vouched for the image."""
        if self._options.checksum.strip():
            return image.trust not in (Trust.SIDECAR.value, Trust.PINNED.value)
        return self._options.policy is ChecksumPolicy.REQUIRE and image.trust == Trust.FIRST_USE.value

    def _look(self, host: Host) -> Found:
        if self._found is None:
            self._found = self._patience(host).call(lambda: look(self._bucket, self._options.key))
        return self._found

    def _patience(self, host: Host) -> Retry:
        if self._retry is None:
            self._retry = host.settings.retry()
        return self._retry

    def _require_room(self, host: Host, asked: Asked) -> None:
        to_come = sum(
            info.size_bytes
            for info, expected in zip(asked.infos, asked.expected)
            if expected.digest is None or not os.path.exists(host.archive_path(expected.digest.hex))
        )
        free, reserved = free_bytes(host.settings.state_dir), reserved_for(host, asked.found.key.value)
        if to_come and to_come + _DISK_RESERVE_BYTES > free + reserved:
            raise NoSpace(
                f"{asked.found.key} needs {to_come} bytes; {host.settings.state_dir} has {free} free",
                hint="make room on the file system of state_dir, or put state_dir on a larger one",
                needed_bytes=to_come,
                free_bytes=free,
            )


def _was_cut_off(host: Host, image: Image) -> bool:
    """Whether an earlier run for this key left parts that only a run for this key removes."""
    return any(
        not Identity(one.boot_id, one.pid, one.started).is_alive() for one in host.store.downloads(image.object_key)
    )


def _sealed_without_archive(host: Host, image: Image) -> list[str]:
    """The digests whose bytes need not come although they are not on disk: a base was made of them."""
    return missing(host, image.digests) if image.base_ulid else []


def _at_least_fetched(image: Image) -> State:
    return max(image.state, State.FETCHED, key=lambda state: state.rank)


def _pinned(checksum: str) -> Digest | None:
    """The digest that ``checksum`` is, or None when it is empty or names a sidecar."""
    if not is_pinned(checksum):
        return None
    digest = Digest.parse(checksum, what="checksum")
    if digest.algorithm != "sha256":
        raise BadInput(f"checksum is a {digest.algorithm} digest", hint="archives are known by SHA-256: give sha256:…")
    return digest


def _generation(image: Image, sha256: str) -> Image:
    """``image`` itself when its content is the same, else a new generation of its key."""
    if image.id and image.sha256 == sha256:
        return dataclasses.replace(image, state=_at_least_fetched(image))
    return Image(
        id=str(new_ulid()), object_key=image.object_key, sha256=sha256, state=State.FETCHED, created_at=utc_now()
    )

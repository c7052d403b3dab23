# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The work of flyd_fetch: ask S3, download, verify, publish, record.

Invariant: a row says ``fetched`` only after all its bytes were verified and published. When what is behind a key has changed, a new
generation takes the row, and the old one keeps its base and snapshots.
"""

from __future__ import annotations

import os

from .._errors import MissingLibrary, NoSpace
from .._host.files import free_bytes
from .._host.retry import Retry
from .._names import Digest, new_ulid
from .._source.fetch import Asked, ask
from .._source.found import Found, look
from .._source.s3 import Bucket
from .archives import missing, require_there, sweep
from .fetch import FetchOptions, is_of
from .fetched import fetched_facts, members_of
from .host import Host
from .outcome import Facts
from .receipt import OnHost, Receipt, receive, reserved_for
from .records import Image, State
from .store import utc_now
from .views import UNKNOWN, fetched, image_view

_DISK_RESERVE_BYTES = 64 << 20  # for the store and the log


class Fetching:
    """One run's work for one key. What S3 has told is asked for once; ``found`` is what it has told already."""

    def __init__(self, options: FetchOptions, pinned: Digest | None, found: Found | None = None) -> None:
        self._options = options
        self._pinned = pinned
        self._bucket = Bucket(options.s3)
        self._found = found
        self._retry: Retry | None = None

    def look(self, host: Host) -> Found:
        """What is behind the key now."""
        if self._found is None:
            self._found = self._patience(host).call(lambda: look(self._bucket, self._options.key))
        return self._found

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
            size_bytes, is_same = asked.found.size_bytes, is_of(self._options, image, asked.found)
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
        asked, retry = self._ask(host, image), self._patience(host)
        known = OnHost(host, self._options.s3.bucket, image, asked.sha256)
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
        log.update({**told, "attempts": max(1, got.arrived.attempts), "bytes": after.size_bytes, "trust": after.trust})
        return after, {**fetched_facts(host, after), **told}

    def _ask(self, host: Host, image: Image) -> Asked:
        known = OnHost(host, self._options.s3.bucket, image)
        asked = ask(self._bucket, self._options.wanted, known, self._patience(host), self._found)
        self._require_room(host, asked)
        return asked

    def _record(self, host: Host, image: Image, got: Receipt) -> Image:
        arrived = got.arrived
        after = _generation(image, arrived.sha256)._replace(
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


def _sealed_without_archive(host: Host, image: Image) -> list[str]:
    """The digests whose bytes need not come although they are not on disk: a base was made of them."""
    return missing(host, image.digests) if image.base_ulid else []


def _at_least_fetched(image: Image) -> State:
    return max(image.state, State.FETCHED, key=lambda state: state.rank)


def _generation(image: Image, sha256: str) -> Image:
    """``image`` itself when its content is the same, else a new generation of its key."""
    if image.id and image.sha256 == sha256:
        return image._replace(state=_at_least_fetched(image))
    return Image(
        id=str(new_ulid()), object_key=image.object_key, sha256=sha256, state=State.FETCHED, created_at=utc_now()
    )

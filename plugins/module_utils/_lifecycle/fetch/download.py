# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The download itself: from what was asked to verified archives under their digests.

Invariant: a file in state_dir/archives bears the name of the SHA-256 that was computed while its bytes arrived; it got that name by
rename after fsync. Part files belong to an open intent of the same key, which resumes them; an object key never becomes a file name.
"""

from __future__ import annotations

import glob
import json
import os
from typing import NamedTuple

from ..._host.files.durable import file_errors, remove_file
from ..._host.processes.crash import crash_point
from ..._host.processes.process import own_identity
from ..._names import Digest
from ..._source.download.download import DownloadOptions, publish
from ..._source.download.fetch import Arrived, Asked, Wanted, fetch
from ..._source.download.partfile import reserved_bytes
from ..._source.objects import ObjectInfo, digest_in
from ..._source.reuse.seeding import Copies
from ..._source.source import Source
from ..image.archives import is_intact
from ..run import Run
from ..store.records import Image, Operation, OperationKind
from .progress import SUFFIX, Progress


class Receipt(NamedTuple):
    """What is on disk and verified, by the intent ``operation``."""

    arrived: Arrived
    operation: Operation
    verified: tuple[str, ...]  # the archives whose bytes this run has hashed


class OnHost:
    """What this host knows of a key's objects, and what of their bytes it has; ``copies`` has parts of them."""

    def __init__(
        self, host: Run, bucket: str, image: Image, asked_sha256: str = "", copies: Copies | None = None
    ) -> None:
        self._host = host
        self.copies = copies
        self.verified: set[str] = set()
        generations = host.store.generations(image.object_key)
        # A base stands in for its archives only while the whole is the same: another generation needs each layer itself.
        self._sealed = {
            digest for one in generations if one.base_ulid and one.sha256 == asked_sha256 for digest in one.digests
        }
        self._recorded: dict[tuple[object, ...], str] = {
            (one["object_key"], one["etag"], one["size_bytes"], one["version_id"]): str(one["sha256"])
            for generation in generations
            if generation.bucket == bucket
            for one in _objects(generation)
        }

    def sha256_of(self, info: ObjectInfo) -> str:
        """The digest of an earlier download of this very object, by any generation of the key."""
        return self._recorded.get(_version_of(info), "") or digest_in(info.etag) if info.etag else ""

    def has(self, digest: Digest, info: ObjectInfo) -> bool:
        """Whether these bytes need not come: a sealed base was made of them, or they are in the archives, unharmed."""
        if self._was_replaced(digest, info):
            return False
        path = self._host.archive_path(digest.hex)
        if digest.hex in self._sealed and not os.path.lexists(path):
            return True
        if not is_intact(path, info.size_bytes, digest.hex):
            return False
        self.verified.add(digest.hex)
        return True

    def _was_replaced(self, digest: Digest, info: ObjectInfo) -> bool:
        """Whether the digest is known to be that of another version of the object: only its bytes can tell that they are the same."""
        known = {
            version for version, sha256 in self._recorded.items() if (version[0], sha256) == (info.key, digest.hex)
        }
        return bool(known) and _version_of(info) not in known and info.sha256 != digest.hex


def _version_of(info: ObjectInfo) -> tuple[object, ...]:
    return info.key, info.etag, info.size_bytes, info.version_id


def _objects(image: Image) -> list[dict[str, object]]:
    alone = {
        "object_key": image.object_key,
        "etag": image.etag,
        "size_bytes": image.size_bytes,
        "version_id": image.version_id,
        "sha256": image.sha256,
    }
    members: list[dict[str, object]] = json.loads(image.members)
    return members or [alone]


def receive(
    host: Run, bucket: Source, wanted: Wanted, asked: Asked, known: OnHost, options: DownloadOptions
) -> Receipt:
    """Bring to disk what ``asked`` tells, going on from what an earlier run of the same key received.

    What is there already under an expected digest is hashed again instead of downloaded, and what other archives have is copied. After an
    error that may pass, the intent and its part files stay for the next run; after any other, nothing does.
    """
    operation = _intent(host, wanted.key.value)
    crash_point("fetch:planned")
    host.directory("archives")
    try:
        with file_errors("downloading the archive"):
            arrived = fetch(
                bucket,
                wanted,
                lambda number: _path(host, operation, f".{number}.part"),
                retry=host.retry,
                options=options,
                known=known,
                asked=asked,
                on_progress=Progress(host.log, wanted.key.value, _path(host, operation, SUFFIX)),
                copies=known.copies,
            )
            crash_point("fetch:downloaded")
            for one in arrived.objects:
                if one.part_path:
                    publish(one.part_path, host.archive_path(one.downloaded.sha256))
                    known.verified.add(one.downloaded.sha256)
            crash_point("fetch:published")
    except Exception:
        if not _files(host, operation, "*.part"):
            _forget(host, operation)
        raise
    _remove_files(host, operation)
    return Receipt(arrived, operation, tuple(sorted(known.verified)))


def reserved_for(host: Run, key: str) -> int:
    """The bytes that the parts of an earlier run of ``key`` take of the disk already."""
    return sum(reserved_bytes(path) for one in host.store.downloads(key) for path in _files(host, one, "*.part"))


def forget_parts(host: Run, key: str) -> None:
    """Drop the intents of downloads of ``key`` that no run resumes, and their part files."""
    for operation in host.store.downloads(key):
        _forget(host, operation)


def _path(host: Run, operation: Operation, suffix: str) -> str:
    return os.path.join(host.directory("spool"), operation.ulid + suffix)


def _files(host: Run, operation: Operation, pattern: str) -> list[str]:
    return sorted(glob.glob(f"{glob.escape(host.settings.path('spool', operation.ulid))}.{pattern}"))


def _remove_files(host: Run, operation: Operation) -> None:
    for path in _files(host, operation, "*"):
        remove_file(path)


def _forget(host: Run, operation: Operation) -> None:
    _remove_files(host, operation)
    with host.store.transaction():
        host.store.drop(operation)


def _intent(host: Run, key: str) -> Operation:
    """The intent of an earlier run of this key, made ours, or a new one. The key's lock says that no other run has it."""
    found = host.store.downloads(key)
    if not found:
        operation = host.begin(OperationKind.FETCH, key)
    else:
        me = own_identity()
        operation = found[0]._replace(boot_id=me.boot_id, pid=me.pid, started=me.started)
    with host.store.transaction():
        host.store.put(operation)
    return operation

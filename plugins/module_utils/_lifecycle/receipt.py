# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The download itself: from an expectation to a verified archive under its digest.

Invariant: a file in state_dir/archives bears the name of the SHA-256 that was computed while its bytes arrived; it got that name by
rename after fsync. A part file belongs to an open intent of the same key, which goes on with it; an object key never becomes a file name.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from dataclasses import dataclass

from .._host.crash import crash_point
from .._host.files import file_errors
from .._host.process import own_identity
from .._names import ObjectKey
from .._source.checksum import Expected
from .._source.download import discard, download, publish
from .._source.s3 import Bucket, ObjectInfo
from .host import Host
from .records import Operation, OperationKind

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Receipt:
    """An archive that is on disk and verified, by the intent ``operation``; ``received_bytes`` came over the line now."""

    sha256: str
    operation: Operation
    received_bytes: int
    attempts: int
    waited_seconds: float


def receive(
    host: Host, bucket: Bucket, info: ObjectInfo, key: ObjectKey, expected: Expected, max_bytes: int
) -> Receipt:
    """Bring the archive to disk, going on from what an earlier run of the same key received.

    An archive that is there already under the expected digest is hashed again instead of downloaded. After an error that may pass,
    the intent and its part file stay for the next run; after any other, nothing does.
    """
    operation = _intent(host, key)
    crash_point("fetch:planned")
    host.directory("archives")
    part = part_path(host, operation)
    if expected.digest is not None and _is_here(
        host.archive_path(expected.digest.hex), info.size_bytes, expected.digest.hex
    ):
        discard(part)
        return Receipt(expected.digest.hex, operation, 0, 0, 0.0)
    try:
        with file_errors("downloading the archive"):
            got = download(
                bucket, info, part, expected=expected.digest, max_bytes=max_bytes, retry=host.settings.retry()
            )
            crash_point("fetch:downloaded")
            publish(part, host.archive_path(got.sha256))
            crash_point("fetch:published")
    except Exception:
        if not os.path.exists(part):
            with host.store.transaction():
                host.store.drop(operation)
        raise
    return Receipt(got.sha256, operation, got.size_bytes - got.resumed_bytes, got.attempts, got.waited_seconds)


def part_path(host: Host, operation: Operation) -> str:
    """The file that the intent's bytes arrive in."""
    return os.path.join(host.directory("spool"), f"{operation.ulid}.part")


def forget_parts(host: Host, key: str) -> None:
    """Drop the intents of downloads of ``key`` that nobody goes on with, and their part files."""
    for operation in host.store.downloads(key):
        discard(part_path(host, operation))
        with host.store.transaction():
            host.store.drop(operation)


def _intent(host: Host, key: ObjectKey) -> Operation:
    """The intent of an earlier run of this key, made ours, or a new one. The key's lock says that no other run has it."""
    found = host.store.downloads(str(key))
    if not found:
        operation = host.begin(OperationKind.FETCH, str(key))
    else:
        me = own_identity()
        operation = dataclasses.replace(found[0], boot_id=me.boot_id, pid=me.pid, started=me.started)
    with host.store.transaction():
        host.store.put(operation)
    return operation


def _is_here(path: str, size_bytes: int, sha256: str) -> bool:
    if not os.path.isfile(path) or os.path.getsize(path) != size_bytes:
        return False
    digest = hashlib.sha256()
    with file_errors("reading the archive"), open(path, "rb", buffering=0) as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest() == sha256

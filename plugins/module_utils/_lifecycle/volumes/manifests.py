# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The manifests of bases: state_dir/manifests, a file a base under its ULID, with its digest in the base's row.

Invariant: a file is on disk before a row names it, and is gone before the row of its volume is. One that no volume has (the database is an
older copy) is swept. A row without a file, or with another one, is
no error: nothing is made of that base then.
"""

from __future__ import annotations

import hashlib
import os

from ..._host.files.durable import file_errors, remove_file, sync_directory
from ..run import Run
from ..store.records import Volume

DIRECTORY = "manifests"
_MAX_BYTES = 256 << 20
_PART_BYTES = 1 << 20


def keep_manifest(host: Run, base: Volume, fd: int) -> str:
    """Bring what is in the file ``fd`` to disk as the manifest of ``base``; returns its SHA-256, empty for none to keep."""
    if not 0 < os.fstat(fd).st_size <= _MAX_BYTES:
        return ""
    path = os.path.join(host.directory(DIRECTORY), base.ulid)
    hasher, at = hashlib.sha256(), 0
    with file_errors("writing the manifest"), open(path, "xb", opener=_private) as file:
        while part := os.pread(fd, _PART_BYTES, at):
            hasher.update(part)
            file.write(part)
            at += len(part)
        file.flush()
        os.fsync(file.fileno())
        sync_directory(os.path.dirname(path))
    return hasher.hexdigest()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def open_manifest(host: Run, base_ulid: str, sha256: str) -> int:
    """The descriptor of the manifest of a base, -1 when it is not there, or not what was written."""
    try:
        fd = os.open(host.settings.path(DIRECTORY, base_ulid), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return -1
    hasher, at = hashlib.sha256(), 0
    try:
        while part := os.pread(fd, _PART_BYTES, at):
            hasher.update(part)
            at += len(part)
    except OSError:
        at = -1
    if at > 0 and hasher.hexdigest() == sha256:
        return fd
    os.close(fd)
    return -1


def remove_manifest(host: Run, volume: Volume) -> None:
    """Remove the manifest of a volume that goes, if it has one."""
    if volume.kind != "snap":
        with file_errors("removing the manifest"):
            remove_file(host.settings.path(DIRECTORY, volume.ulid))


def sweep_manifests(host: Run) -> None:
    """Remove the manifests of volumes that the store does not know; nothing in a dry run."""
    if host.dry_run:
        return
    try:
        there = os.listdir(host.settings.path(DIRECTORY))
    except FileNotFoundError:
        return
    # Read behind the list: a volume has its row before it has a manifest.
    known = {ulid for (ulid,) in host.store.rows("SELECT ulid FROM volumes")}
    for name in sorted({*there} - known):
        with file_errors("removing the manifest"):
            remove_file(host.settings.path(DIRECTORY, name))

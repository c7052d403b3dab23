# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The trees and bytes of sealed bases, for tools/invariants.py."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from machine_state import Host, live_volumes, run
from tree import rows_of_directory

_ZEROS = bytes(1 << 16)


def bases(host: Host) -> Iterator[tuple[str, dict[str, Any]]]:
    """Object key and volume of each sealed base; of an earlier generation, the key with the generation's id behind it."""
    sql = "SELECT object_key, id, base_ulid, {0} AS old FROM {1}"
    images = [*host.rows(sql.format(0, "images")), *host.rows(sql.format(1, "retired_images"))]
    for image in images:
        for volume in live_volumes(host):
            if volume["ulid"] == image["base_ulid"]:
                yield image["object_key"] + (f"@{image['id']}" if image["old"] else ""), volume


def tree_digests(host: Host, devices: dict[str, str]) -> dict[str, str]:
    """The digest of each base's tree, by object key."""
    digests = {}
    for key, volume in bases(host):
        with tempfile.TemporaryDirectory() as directory:
            run("mount", "-o", "ro,noload,nodev,nosuid,noexec", devices[volume["ulid"]], directory)
            try:
                rows = rows_of_directory(Path(directory), exact=True)
            finally:
                run("umount", directory)
        digests[key] = hashlib.sha256("\n".join("\t".join(row) for row in rows.values()).encode()).hexdigest()
    return digests


def sealed(host: Host, devices: dict[str, str], remembered: Path) -> Iterator[str]:
    """The bytes of each base are what they were; new ones are remembered."""
    before: dict[str, str] = json.loads(remembered.read_text()) if remembered.exists() else {}
    for _key, volume in bases(host):
        digest = digest_of(devices[volume["ulid"]])
        if before.setdefault(volume["ulid"], digest) != digest:
            yield f"the sealed base {volume['ulid']} has changed"
    remember(before, remembered)


def digest_of(device: str) -> str:
    """Of where on the device there is something else than zeros, and what: most of a new volume is zeros, which take long to hash."""
    digest, at = hashlib.sha256(), 0
    with open(device, "rb", buffering=0) as file:
        while chunk := file.read(len(_ZEROS)):
            if chunk != _ZEROS:
                digest.update(b"%d:" % at)
                digest.update(chunk)
            at += len(chunk)
    return digest.hexdigest()


def remember(digests: dict[str, str], path: Path) -> None:
    """Bring them to disk, whole or not at all: the machine's power may be cut next."""
    part = path.with_name(f"{path.name}.part")
    with part.open("w") as file:
        json.dump(digests, file)
        file.flush()
        os.fsync(file.fileno())
    os.rename(part, path)
    directory = os.open(path.parent, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)

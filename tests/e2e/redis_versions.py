# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Versions of the lab's redis image: the same with one layer more, one of which has a server that ends at once.

python -m tests.e2e.redis_versions ARCHIVE NUMBER [--broken] > VERSION
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import sys
import tarfile
from pathlib import Path

from tests.unit.builders import tar

BROKEN_SERVER = b"#!/bin/sh\necho this version does not work >&2\nexit 1\n"


def version(archive: Path, number: int, *, is_broken: bool = False) -> bytes:
    """The docker archive ``archive`` with a layer that has the file /version, and when ``is_broken`` a server that ends at once."""
    members = [tar.file(b"version", b"%d\n" % number)]
    if is_broken:
        members.append(tar.file(b"usr/bin/redis-server", BROKEN_SERVER, mode=0o755))
    return with_layer(archive, tar.tar(*members))


def with_layer(archive: Path, layer: bytes) -> bytes:
    """The docker archive with ``layer`` on top, under names that no other file of it has."""
    digest = hashlib.sha256(layer).hexdigest()
    buffer = io.BytesIO()
    with tarfile.open(archive) as old, tarfile.open(fileobj=buffer, mode="w") as new:
        manifest = json.loads(_read(old, "manifest.json"))
        config = json.loads(_read(old, manifest[0]["Config"]))
        config["rootfs"]["diff_ids"].append(f"sha256:{digest}")
        left_out = {"manifest.json", manifest[0]["Config"], "repositories"}
        manifest[0]["Config"] = f"{digest}.json"
        manifest[0]["Layers"].append(f"{digest}.tar")
        for member in old:
            if member.name not in left_out:
                new.addfile(member, old.extractfile(member) if member.isreg() else None)
        _add(new, f"{digest}.tar", layer)
        _add(new, f"{digest}.json", json.dumps(config).encode())
        _add(new, "manifest.json", json.dumps(manifest).encode())
    return buffer.getvalue()


def _read(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    assert file is not None, name
    return file.read()


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def main() -> None:
    """Write a version to standard output."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("archive", type=Path)
    parser.add_argument("number", type=int)
    parser.add_argument("--broken", action="store_true", help="its server ends at once")
    given = parser.parse_args()
    sys.stdout.buffer.write(version(given.archive, given.number, is_broken=given.broken))


if __name__ == "__main__":
    main()

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was fetched, as the store records it and as flyd_fetch returns it."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from ..._host.processes.process import Identity
from ..._names import exact_size_text, printable
from ..._source.digests.trust import Trust
from ..._source.objects import ObjectInfo
from ..diff import image_facts
from ..outcome import Facts
from ..run import Run
from ..store.records import Image

if TYPE_CHECKING:
    from ..._source.download.fetch import Arrived
    from .options import FetchOptions


def fetched_facts(host: Run, image: Image) -> Facts:
    """What flyd_fetch returns of ``image`` when nothing had to come."""
    path = host.archive_path(image.sha256)
    return {
        **image_facts(image),
        "size": image.size_bytes or None,
        "etag": image.etag or None,
        "version_id": image.version_id or None,
        "path": path if image.sha256 and os.path.exists(path) else None,
        "objects": [{**one, "path": host.archive_path(one["sha256"])} for one in objects_of(image)],
        "archive": None,
        "received_bytes": 0,
        "resumed_bytes": 0,
        "bytes_reused": 0,
        "walk_requests": 0,
        "seconds": 0.0,
        "attempts": 0,
        "waited_seconds": 0.0,
        "new_generation": False,
        "revived": False,
        "replaced": None,
    }


def warnings_of_present(options: FetchOptions, image: Image, *, was_asked: bool) -> list[str]:
    """The same of a run that finds ``image`` on the host: what counts only for a download is not looked at, and says otherwise."""
    found = warnings_of(options, was_asked=was_asked)
    if image.size_bytes > options.max_bytes:
        found.append(
            f"max_size: {exact_size_text(options.max_bytes)} is less than the {exact_size_text(image.size_bytes)} that were fetched before; it "
            "counts only for a download"
        )
    return found


def warnings_of(options: FetchOptions, *, was_asked: bool, replaced: Facts | None = None, trust: str = "") -> list[str]:
    """What an operator should know of a run that succeeds: what came over a line that anybody on it can read or change."""
    found: list[str] = []
    is_pinned = options.checksum.strip().lower().startswith("sha256:")
    if options.place.url.lower().startswith("http://") and not is_pinned:
        found.append(
            f"{options.place.name} is read without TLS: who can write to the line can replace the archive (use an https:// URL, or give its digest)"
        )
    if (
        was_asked
        and not options.place.name
        and options.s3.endpoint_url.startswith("http://")
        and not options.s3.anonymous
    ):
        found.append(
            f"requests to {options.s3.endpoint} are signed and sent without TLS: who can read the line sees the access key, a session token "
            "and the object, and who can write to it can replace the object (use an https:// endpoint_url)"
        )
    if options.checksum.strip().lower().startswith("http://"):
        found.append(
            "the checksum file came without TLS: who can write to the line decides what it says (use an https:// URL, or give the digest)"
        )
    if replaced and trust == Trust.FIRST_USE.value:
        found.append(
            f"{printable(options.key.value)} was replaced, and no checksum vouches for the new content: sha256:{replaced['old_sha256']} "
            f"became {_digest(replaced['new_sha256'])} (give checksum, or set on_change: refuse)"
        )
    return found


def _digest(sha256: str | None) -> str:
    return f"sha256:{sha256}" if sha256 else "one that is known after the download"


def members_of(arrived: Arrived) -> str:
    """The objects of a family as the store remembers them: JSON, lowest layer first; none for an archive."""
    if not arrived.found.key.is_family:
        return "[]"
    return json.dumps(
        [
            {
                "object_key": one.info.key,
                "sha256": one.downloaded.sha256,
                "size_bytes": one.info.size_bytes,
                "etag": one.info.etag,
                "version_id": one.info.version_id,
                "trust": one.expected.trust.value,
            }
            for one in arrived.objects
        ]
    )


def objects_of(image: Image) -> list[Facts]:
    """The objects of a family as results show them, lowest layer first; none for an archive."""
    members: list[Facts] = json.loads(image.members)
    return [{_NAMES.get(name, name): value for name, value in one.items()} for one in members]


_NAMES = {"object_key": "key", "size_bytes": "size"}  # of columns of the store, in results


def infos_of(image: Image) -> tuple[ObjectInfo, ...]:
    """The objects of ``image`` as they were when it was fetched."""
    members = json.loads(image.members)
    if not members:
        return (ObjectInfo(image.object_key, image.size_bytes, image.etag, image.version_id),)
    return tuple(ObjectInfo(one["object_key"], one["size_bytes"], one["etag"], one["version_id"]) for one in members)


def was_interrupted(host: Run, image: Image) -> bool:
    """Whether an earlier run for this key left parts that only a run for this key removes."""
    return any(
        not Identity(one.boot_id, one.pid, one.started).is_alive() for one in host.store.downloads(image.object_key)
    )

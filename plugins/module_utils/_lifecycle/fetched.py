# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was fetched, as the store remembers it and as flyd_fetch tells it."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from .host import Host
from .outcome import Facts
from .records import Image

if TYPE_CHECKING:
    from .._source.fetch import Arrived


def fetched_facts(host: Host, image: Image) -> Facts:
    """What flyd_fetch returns of ``image`` when nothing had to come."""
    members = json.loads(image.members)
    path = host.archive_path(image.sha256)
    return {
        "image_id": image.id or None,
        "sha256": image.sha256 or None,
        "size": image.size_bytes or None,
        "etag": image.etag or None,
        "version_id": image.version_id or None,
        "path": path if image.sha256 and os.path.exists(path) else None,
        "objects": [{**one, "path": host.archive_path(one["sha256"])} for one in members],
        "trust": image.trust or None,
        "bytes_received": 0,
        "bytes_resumed": 0,
        "seconds": 0.0,
        "attempts": 0,
        "waited_seconds": 0.0,
        "new_generation": False,
    }


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

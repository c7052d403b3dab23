# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of flyd_fetch, parsed."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, NamedTuple

from ..._names import ObjectKey
from ..._source.digests.trust import ChecksumPolicy
from ..._source.download.retry_policy import DownloadOptions
from ..._source.found import Found
from ..._source.objects import is_stated
from ..._source.options import S3Options
from ..._source.place import Place
from ..store.records import Image

if TYPE_CHECKING:
    from ..._source.download.resolve import Wanted


class OnChange(str, enum.Enum):
    """What to do when the object behind a key that was fetched is another one now, and no digest is pinned.

    ``ignore`` does not ask whether it is.
    """

    FOLLOW = "follow"
    REFUSE = "refuse"
    IGNORE = "ignore"


class Reuse(str, enum.Enum):
    """Whether what archives of this host have of the object is taken from them."""

    AUTO = "auto"
    NEVER = "never"


class FetchOptions(NamedTuple):
    """What flyd_fetch was asked for; ``checksum`` is a digest or names a sidecar, ``max_bytes`` bounds all objects together."""

    key: ObjectKey
    s3: S3Options
    checksum: str
    policy: ChecksumPolicy
    max_bytes: int
    download: DownloadOptions = DownloadOptions()
    on_change: OnChange = OnChange.FOLLOW
    pool_bytes: int = 0  # in check mode, the size of the pool that an earlier task would have made
    place: Place = Place()
    reuse: Reuse = Reuse.AUTO

    @property
    def source_name(self) -> str:
        """What is recorded as the source of the bytes: the bucket, or the place that takes its place."""
        return self.place.name or self.s3.bucket

    @property
    def max_bytes_per_second(self) -> int:
        """The limit of what comes over the network; 0 is none."""
        return self.download.max_bytes_per_second if self.place.is_requested else 0

    @property
    def wanted(self) -> Wanted:
        """The same for the engine."""
        from ..._source.download.resolve import Wanted

        return Wanted(self.key, self.checksum, self.policy, self.max_bytes)


def is_of(options: FetchOptions, image: Image, found: Found) -> bool:
    """Whether ``image`` was made of this very version of the key's objects."""
    recorded = (image.bucket, image.size_bytes, image.version_id)
    is_same = recorded == (options.source_name, found.size_bytes, found.version_id) and found.has_tag(image.etag)
    # A list reports no digests, and a family's own is none of an object's.
    return is_same and (
        found.key.is_family or not found.objects[0].sha256 or is_stated(found.objects[0].sha256, image.sha256)
    )

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Open the source that a ``Place`` names: a bucket, a web server, or a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .place import Place

if TYPE_CHECKING:
    from .options import S3Options
    from .source import Source


def open_source(options: S3Options, place: Place) -> Source:
    """What the bytes come from."""
    # Late: a run with nothing to do needs one of them at most.
    if place.url:
        from .web.web_object import WebObject

        return WebObject(options, place)
    if place.name:
        from .host_file import HostFile

        return HostFile(options, place)
    from .s3.bucket import Bucket

    return Bucket(options)

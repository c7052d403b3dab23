# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much the layers of an image take, from a few small pieces of an archive that is still elsewhere.

Invariant: what cannot be understood gives None: this is a forecast, and ``flyd_unpack`` judges the archive itself. Nothing of it is recorded.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..._errors import FlydError
from ..compression.sniffing import Compression, sniff
from ..tar.header import BLOCK
from .members import Pieces, Place, Read, TooMuch, clean, members

_MAX_DEPTH = 4  # of lists of manifests


def least_layers_bytes(read: Read, size_bytes: int) -> int | None:
    """The stored bytes of all layers of the smallest image in an archive of ``size_bytes``; None when that cannot be reported.

    Of an archive that is compressed as a whole it is the archive's own size: no layer is smaller than what it was compressed to.
    """
    pieces = Pieces(read, size_bytes)
    try:
        if sniff(pieces.read(0, BLOCK)) is not Compression.NONE:
            return size_bytes
        found = members(pieces)
        images = [sum(found[name].size for name in layers) for layers in _images(pieces, found)]
    except (TooMuch, FlydError, ValueError, TypeError, KeyError, AttributeError, IndexError):
        return None
    return min(images, default=None)


def _images(pieces: Pieces, found: dict[str, Place]) -> Iterable[list[str]]:
    """The names of the layers of each image that the archive lists, each layer once."""
    if "manifest.json" in found:
        listed = pieces.document(found["manifest.json"])
        return [sorted({clean(str(layer)) for layer in image["Layers"]}) for image in listed]
    if "index.json" in found:
        return _oci_images(pieces, found, pieces.document(found["index.json"]), _MAX_DEPTH)
    return []


def _oci_images(pieces: Pieces, found: dict[str, Place], document: Any, depth: int) -> list[list[str]]:
    if "layers" in document:
        return [sorted({_blob(layer) for layer in document["layers"]})]
    if depth <= 0:
        raise TooMuch
    images: list[list[str]] = []
    for entry in document["manifests"]:
        place = found.get(_blob(entry))
        if place is not None:  # of other platforms, blobs may be left out
            images += _oci_images(pieces, found, pieces.document(place), depth - 1)
    return images


def _blob(descriptor: Any) -> str:
    algorithm, _colon, value = str(descriptor["digest"]).partition(":")
    return f"blobs/{algorithm}/{value}"

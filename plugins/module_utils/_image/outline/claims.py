# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which parts of an archive claim to have which SHA-256: its layers, by the names and the configurations in it.

Invariant: a claim is unverified. The caller compares the bytes with the digest before it uses them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from ..._errors import FlydError
from ..compression.sniffing import Compression, sniff
from ..tar.header import BLOCK
from .members import Pieces, Place, Read, TooMuch, clean, members

_LEAST_BYTES = 64 << 10  # what is smaller is not worth a request less
_NAMED = re.compile(r"(?:.*/)?(?:sha256:)?([0-9a-f]{64})(?:\.tar)?(?:\.gz|\.gzip|\.zst)?")
_DIFF_ID = re.compile(r"sha256:([0-9a-f]{64})")


class Claim(NamedTuple):
    """The bytes from ``offset`` on are said to have ``sha256``, in hex."""

    offset: int
    size_bytes: int
    sha256: str


def claims(read: Read, size_bytes: int) -> tuple[Claim, ...] | None:
    """What an archive of ``size_bytes`` claims of its layers, of all images in it, in order; None when it cannot be understood.

    A layer is known by its name where that is a digest (OCI, docker 25 and later, skopeo, go-containerregistry), else by the diff_id in the
    configuration, which is the digest of a layer that is not compressed.
    """
    pieces = Pieces(read, size_bytes)
    try:
        if sniff(pieces.read(0, BLOCK)) is not Compression.NONE:
            return None
        found = {name: place for name, place in members(pieces).items() if _is_whole(place, size_bytes)}
        named = {place: match[1] for name, place in found.items() if (match := _NAMED.fullmatch(name))}
        listed = dict(_listed(pieces, found, named))
    except (TooMuch, FlydError, ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError):
        return None
    here = {**listed, **named}
    return tuple(Claim(place.offset, place.size, here[place]) for place in sorted(here) if place.size >= _LEAST_BYTES)


def _is_whole(place: Place, size_bytes: int) -> bool:
    return place.offset + place.size <= size_bytes


def _listed(pieces: Pieces, found: dict[str, Place], named: dict[Place, str]) -> Iterator[tuple[Place, str]]:
    """The layers that only the list of a docker archive names, by their diff_ids; the list is read only when there may be any."""
    large = {place for place in found.values() if place.size >= _LEAST_BYTES and place not in named}
    if not large or "manifest.json" not in found:
        return
    for image in pieces.document(found["manifest.json"], ahead=False):
        layers = [found.get(clean(str(layer))) for layer in image["Layers"]]
        if large.isdisjoint(layers):
            continue
        diff_ids = pieces.document(found[clean(str(image["Config"]))], ahead=False)["rootfs"]["diff_ids"]
        for place, sha256 in _pairs(layers, diff_ids):
            if place in large and sniff(pieces.read(place.offset, BLOCK, ahead=False)) is Compression.NONE:
                yield place, sha256


def _pairs(layers: list[Place | None], diff_ids: Any) -> Iterable[tuple[Place, str]]:
    if len(layers) != len(diff_ids):
        raise ValueError(len(diff_ids))
    matches = [_DIFF_ID.fullmatch(str(one)) for one in diff_ids]
    return [(place, match[1]) for place, match in zip(layers, matches) if place is not None and match is not None]

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A layer without the content of its files: enough to merge it again, as long as that content is needed nowhere.

Invariant: what is read from an index is what stood at the same place in the layer. A place that it does not hold is ``UnfitOrigin``, and
never read as something else.
"""

from __future__ import annotations

import zlib
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from ..extent import Extent
from ..tar.header import padded

MAX_REST_BYTES = 64 << 20
_LEAST_LAYER_BYTES = 64 << 10
_LEAST_SHARE = 4  # the layer is so many times as large as its index, or is read sooner than the index
_LEVEL = 1
_WINDOW_BYTES = 32 << 10
_SMALL_WINDOW_BYTES = 4 << 10


class UnfitOrigin(Exception):
    """Nothing can be made of this base; the message says why, in a word."""


class Contents:
    """Where the contents of files stand in a layer, in the order of the layer; each range ends with its padding."""

    def __init__(self) -> None:
        self.begins = array("Q")
        self.ends = array("Q")

    def add(self, data: int, stored_bytes: int) -> None:
        """Append the content that stands from byte ``data`` on."""
        self.begins.append(data)
        self.ends.append(data + padded(stored_bytes))

    @property
    def total_bytes(self) -> int:
        """The bytes of all ranges."""
        return sum(self.ends) - sum(self.begins)


class LayerIndex(NamedTuple):
    """A layer of ``size`` bytes without ``contents``; ``packed`` is the rest of it, by zlib."""

    size: int
    contents: Contents
    packed: bytes

    def rest_bytes(self) -> int:
        """How many bytes ``packed`` must hold; raises ``ValueError`` for ranges that are out of order or out of the layer."""
        begins, ends = self.contents.begins, self.contents.ends
        at = 0
        for begin, end in zip(begins, ends):
            if not at < begin < end <= self.size:
                raise ValueError("ranges out of order")
            at = end
        rest_bytes = self.size - self.contents.total_bytes
        if len(begins) != len(ends) or rest_bytes > MAX_REST_BYTES:
            raise ValueError("ranges without an end, or too few of them")
        return rest_bytes


def index_of(layer: Extent, contents: Contents) -> LayerIndex | None:
    """The index of the layer in ``layer``; None for one that is not worth it."""
    rest_bytes = layer.size - contents.total_bytes
    if (
        layer.size < _LEAST_LAYER_BYTES
        or rest_bytes * _LEAST_SHARE > layer.size
        or rest_bytes > MAX_REST_BYTES
        or (contents.ends and contents.ends[-1] > layer.size)  # the padding of the last one may be missing
    ):
        return None
    packer = zlib.compressobj(_LEVEL)
    packed = [packer.compress(piece) for piece in _rest(layer, contents)]
    return LayerIndex(layer.size, contents, b"".join((*packed, packer.flush())))


def _runs(size: int, contents: Contents) -> Iterator[tuple[int, int]]:
    """What stands between the contents: begin and end."""
    return zip((0, *contents.ends), (*contents.begins, size))


def _rest(layer: Extent, contents: Contents) -> Iterator[bytes]:
    """The bytes between the contents. Headers of small files stand close together, so they are read many at a time."""
    window, begun = b"", 0
    for at, end in _runs(layer.size, contents):
        while at < end:
            if at >= begun + len(window):
                is_near = at < begun + len(window) + _WINDOW_BYTES
                window, begun = layer.read(at, _WINDOW_BYTES if is_near else _SMALL_WINDOW_BYTES), at
            piece = window[at - begun : end - begun]
            yield piece
            at += len(piece)


class IndexedLayer:
    """Reads a layer from its index, as an ``Extent`` would from the layer; a read ends where a content begins."""

    def __init__(self, index: LayerIndex) -> None:
        self.size = index.size
        self._begins, self._lengths = array("Q"), array("Q")
        self._places = array("Q")  # where in _rest each run begins
        self._rest = _unpacked(index)
        place = 0
        for at, end in _runs(index.size, index.contents):
            self._begins.append(at)
            self._lengths.append(end - at)
            self._places.append(place)
            place += end - at

    def read(self, at: int, count: int) -> bytes:
        """The bytes from ``at`` on: ``count`` of them, or fewer when a content or the end of the layer stands before."""
        if at >= self.size:
            return b""
        run = bisect_right(self._begins, at) - 1
        inside = at - self._begins[run]
        left = self._lengths[run] - inside
        if left <= 0:
            raise UnfitOrigin("layer_index")
        place = self._places[run] + inside
        return self._rest[place : place + min(left, count)]


def _unpacked(index: LayerIndex) -> bytes:
    try:
        rest_bytes = index.rest_bytes()
        inflater = zlib.decompressobj()
        rest = inflater.decompress(index.packed, rest_bytes + 1)
    except (ValueError, zlib.error):
        raise UnfitOrigin("layer_index") from None
    if len(rest) != rest_bytes or not inflater.eof or inflater.unused_data:
        raise UnfitOrigin("layer_index")
    return rest

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From an open archive to the tars of an image's layers, uncompressed and ready to be read.

Invariant: every layer that comes out of here was verified on its way through the spool, or has a ``Check`` that will verify it, or is
known and not read at all.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ..._errors import BadInput
from ..._names import Digest
from ..compression.sniffing import Compression, sniff
from ..compression.spool import Compressed, Spool
from ..delta.layer_index import LayerIndex
from ..extent import Extent
from ..formats import archive, layouts
from ..formats.config import ImageConfig
from ..image import Image, Selector, StoredLayer
from ..limits import Deadline
from ..merge.entry_counter import EntryCounter
from ..options import Options
from ..platforms import Platform
from ..tar.header import BLOCK
from .recognise import check_is_tar
from .verify import Check

UNREAD_FD = -2  # of the extents of layers that are not read
_CHUNKED_HINT = (
    "the layer is zstd:chunked: skopeo 1.9 and tools of that age put another tar into those than the configuration names; "
    "save the image again with gzip or zstd (`skopeo copy --dest-compress-format=zstd`), or with a newer skopeo"
)


class LayerTar(NamedTuple):
    """An uncompressed layer; ``is_covered`` says whether a digest covers all of it.

    Layers of one ``identity`` have the same bytes; it is empty when nothing vouches for them. A layer that is ``known`` is not read: its
    ``extent`` names it, and is in no file.
    """

    name: str
    extent: Extent
    is_covered: bool
    identity: str = ""
    known: LayerIndex | None = None


class Prepared(NamedTuple):
    """An image whose layers can be read, lowest first, and what must still be verified; ``unread`` is where those stand that are not read."""

    layout: str
    config: ImageConfig
    tars: tuple[LayerTar, ...]
    checks: tuple[Check, ...]
    warnings: tuple[str, ...]
    unread: frozenset[Extent]


def whole_file(fd: int) -> Extent:
    """The regular file ``fd``; raises ``BadInput`` for anything else."""
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise BadInput(
            "the archive is not a regular file",
            hint="remove what lies in its place in state_dir, then run flyd_fetch again",
        )
    return Extent.whole(fd)


def check_of_archive(stored: Extent, expected_sha256: str) -> list[Check]:
    """The check of the archive as it is stored, if its digest is known."""
    if not expected_sha256:
        return []
    return [Check("the archive", stored, Digest.parse(f"sha256:{expected_sha256}", what="the archive's checksum"))]


def family(layers: Sequence[Extent], expected_sha256: Sequence[str] = ()) -> Image:
    """The image whose layers are ``layers``, lowest first: no document says anything about them.

    ``expected_sha256`` are the digests of the layers as stored, which the caller verifies.
    """
    digests = [*expected_sha256, *[""] * len(layers)]
    stored = [
        StoredLayer(f"layer {at}", extent, verified_sha256=digests[at - 1]) for at, extent in enumerate(layers, 1)
    ]
    return Image("family", ImageConfig(), tuple(stored))


class Preparation:
    """Finds and decompresses; ``spool`` keeps what it makes."""

    def __init__(self, options: Options, spool: Spool, deadline: Deadline) -> None:
        self.options = options
        self.spool = spool
        self.deadline = deadline
        self._census = EntryCounter(options.limits, deadline)
        self._checks: list[Check] = []
        self._done: dict[tuple[Extent, str], Extent] = {}

    def image(self, stored: Extent) -> Image:
        """The image in the archive ``stored``, which may be compressed as a whole."""
        platform = Platform.parse(self.options.platform) if self.options.platform else None
        # The members of the outer archive are not the image's: a low limit on those does not mean these.
        limits = self.options.limits._replace(entries=max(self.options.limits.entries, archive.MAX_MEMBERS))
        census = EntryCounter(limits, self.deadline)
        compression = sniff(stored.read(0, BLOCK))
        if compression is not Compression.NONE:
            stored = self.spool.decompress([Compressed(stored, "the archive")], census, is_archive=True)[0]
        else:
            check_is_tar(stored, "the archive")
            census.next_tar()
            census.look(stored)
        if compression is not Compression.NONE:
            check_is_tar(stored, "the archive, decompressed,", is_unpacked=True)
        index = archive.index(stored, limits, self.deadline)
        wanted = Selector(self.options.image_name, platform, self.options.platform_policy)
        return layouts.find_image(index, stored, wanted)

    def prepare(self, image: Image, known: Mapping[str, LayerIndex]) -> Prepared:
        """The layers' tars; compressed ones are decompressed, and verified with it. Those that are ``known`` by identity are not read."""
        if len(image.layers) > self.options.limits.layers:
            self.options.limits.exceeded("layers", len(image.layers))
        unread = {layer for layer in (*image.layers, *image.others) if _is_known(layer, known)}
        self._decompress_all([layer for layer in (*image.layers, *image.others) if layer not in unread])
        tars = []
        for number, layer in enumerate(image.layers):
            identity, index, extent = identity_of(layer), None, None
            if layer in unread:
                index = known[identity]
                extent = Extent(UNREAD_FD, number, index.size)
            tars.append(LayerTar(layer.name, extent or self._tar(layer), layer.diff_id is not None, identity, index))
        for layer in image.others:
            if layer not in unread:
                self._tar(layer)
        checks, self._checks = self._checks, []
        places = frozenset(layer.extent for layer in unread)
        return Prepared(image.layout, image.config, tuple(tars), tuple(checks), image.warnings, places)

    def _decompress_all(self, layers: Sequence[StoredLayer]) -> None:
        layers = [layer for layer in layers if _key(layer) not in self._done]
        packed = {_key(layer): layer for layer in layers if _compression(layer) is not Compression.NONE}
        streams = [
            Compressed(layer.extent, layer.name, layer.blob, layer.diff_id, _CHUNKED_HINT if layer.is_chunked else "")
            for layer in packed.values()
        ]
        unpacked = self.spool.decompress(streams, self._census) if streams else []
        for layer, tar in zip(packed.values(), unpacked):
            if tar.size:
                check_is_tar(tar, f"{_called(layer)}, decompressed,", is_unpacked=True)
        self._done.update(zip(packed, unpacked))

    def _tar(self, layer: StoredLayer) -> Extent:
        key = _key(layer)
        if key not in self._done:  # a layer may be listed twice
            self._done[key] = self._new_tar(layer)
        return self._done[key]

    def _new_tar(self, layer: StoredLayer) -> Extent:
        if layer.extent.size:  # a layer of no bytes is an empty one
            check_is_tar(layer.extent, _called(layer))
        self._census.next_tar()
        self._census.look(layer.extent)
        # The tar as it is stored is the tar itself: where both digests are known they are mostly the same.
        digests = {digest for digest in (layer.diff_id, layer.blob) if digest is not None}
        self._checks += [Check(layer.name, layer.extent, digest) for digest in digests]
        return layer.extent


def _called(layer: StoredLayer) -> str:
    """How a sentence names the layer: docker archives have paths for names."""
    return layer.name if layer.name.startswith("the ") else f"the layer {layer.name}"


def identity_of(layer: StoredLayer) -> str:
    """By the digest of the tar, else by that of what it was decompressed from; every one of them is verified."""
    if layer.diff_id is not None:
        return str(layer.diff_id)
    stored = f"sha256:{layer.verified_sha256}" if layer.verified_sha256 else str(layer.blob or "")
    is_packed = _compression(layer) is not Compression.NONE
    return f"stored {stored}" if stored and is_packed else stored


def _is_known(layer: StoredLayer, known: Mapping[str, LayerIndex]) -> bool:
    index = known.get(identity_of(layer)) if known else None
    return index is not None and (_compression(layer) is not Compression.NONE or layer.extent.size == index.size)


def _key(layer: StoredLayer) -> tuple[Extent, str]:
    return layer.extent, str(layer.diff_id)


def _compression(layer: StoredLayer) -> Compression:
    return sniff(layer.extent.read(0, BLOCK))

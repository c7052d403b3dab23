# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From an open archive to the tars of an image's layers, uncompressed and ready to be read.

Invariant: every layer that comes out of here was verified on its way through the spool, or has a ``Check`` that will verify it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from typing import NamedTuple

from .._errors import BadInput
from .._names import Digest
from . import archive, layouts
from .census import Census
from .config import ImageConfig
from .extent import Extent
from .image import Image, Selector, StoredLayer
from .limits import Deadline
from .options import Options
from .platforms import Platform
from .sniffing import Compression, sniff
from .spool import Spool
from .tar_header import BLOCK
from .verify import Check

# What is decompressed in this process. A program is started from a process without threads only.
_BY_LIBRARY = (Compression.GZIP, Compression.XZ, Compression.BZIP2)


class LayerTar(NamedTuple):
    """An uncompressed layer; ``is_covered`` says whether a digest covers all of it."""

    name: str
    extent: Extent
    is_covered: bool


class Prepared(NamedTuple):
    """An image whose layers can be read, lowest first, and what must still be verified."""

    layout: str
    config: ImageConfig
    tars: tuple[LayerTar, ...]
    checks: tuple[Check, ...]


def whole_file(fd: int) -> Extent:
    """The regular file ``fd``; raises ``BadInput`` for anything else."""
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise BadInput(
            "the archive is not a regular file", hint="give the path of a file; a pipe or a device cannot be read twice"
        )
    return Extent.whole(fd)


def check_of_archive(stored: Extent, expected_sha256: str) -> list[Check]:
    """The check of the archive as it is stored, if its digest is known."""
    if not expected_sha256:
        return []
    return [Check("the archive", stored, Digest.parse(f"sha256:{expected_sha256}", what="the archive's checksum"))]


def family(layers: Sequence[Extent]) -> Image:
    """The image whose layers are ``layers``, lowest first: no document says anything about them."""
    stored = [StoredLayer(f"layer {at}", extent) for at, extent in enumerate(layers, 1)]
    return Image("family", ImageConfig(), tuple(stored))


class Preparation:
    """Finds and decompresses; ``spool`` keeps what it makes."""

    def __init__(self, options: Options, spool: Spool, deadline: Deadline) -> None:
        self.options = options
        self.spool = spool
        self.deadline = deadline
        self._census = Census(options.limits)
        self._checks: list[Check] = []
        self._done: dict[tuple[Extent, str], Extent] = {}

    def image(self, stored: Extent) -> Image:
        """The image in the archive ``stored``, which may be compressed as a whole."""
        platform = Platform.parse(self.options.platform) if self.options.platform else None
        # The members of the outer archive are not the image's: a low limit on those does not mean these.
        limits = self.options.limits._replace(entries=max(self.options.limits.entries, archive.MAX_MEMBERS))
        census = Census(limits)
        compression = sniff(stored.read(0, BLOCK))
        if compression is not Compression.NONE:
            stored = self.spool.decompress(stored, compression, "the archive", census)
        else:
            census.next_tar()
            census.look(stored)
        index = archive.index(stored, limits, self.deadline)
        wanted = Selector(self.options.image_name, platform, self.options.platform_policy)
        return layouts.find_image(index, stored, wanted)

    def prepare(self, image: Image) -> Prepared:
        """The layers' tars; compressed ones are decompressed, and verified with it."""
        if len(image.layers) > self.options.limits.layers:
            self.options.limits.exceeded("layers", len(image.layers))
        self._decompress_all(image.layers)
        tars = [LayerTar(layer.name, self._tar(layer), layer.diff_id is not None) for layer in image.layers]
        return Prepared(image.layout, image.config, tuple(tars), tuple(self._checks))

    def _decompress_all(self, layers: Sequence[StoredLayer]) -> None:
        """Decompress side by side what libraries decompress, if there are several: they let go of the interpreter's lock."""
        packed = {_key(layer): layer for layer in layers if _compression(layer) in _BY_LIBRARY}
        if len(packed) < 2:
            return
        from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            running = {key: pool.submit(self._new_tar, layer) for key, layer in packed.items()}
            try:
                ended = wait(running.values(), return_when=FIRST_EXCEPTION).done
                self._done.update((key, future.result()) for key, future in running.items() if future in ended)
            except BaseException:
                self.spool.stop()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _tar(self, layer: StoredLayer) -> Extent:
        key = _key(layer)
        if key not in self._done:  # a layer may be listed twice
            self._done[key] = self._new_tar(layer)
        return self._done[key]

    def _new_tar(self, layer: StoredLayer) -> Extent:
        compression = _compression(layer)
        if compression is not Compression.NONE:
            return self.spool.decompress(
                layer.extent, compression, layer.name, self._census, stored=layer.blob, content=layer.diff_id
            )
        self._census.next_tar()
        self._census.look(layer.extent)
        # The tar as it is stored is the tar itself: where both digests are known they are mostly the same.
        digests = {digest for digest in (layer.diff_id, layer.blob) if digest is not None}
        self._checks += [Check(layer.name, layer.extent, digest) for digest in digests]
        return layer.extent


def _key(layer: StoredLayer) -> tuple[Extent, str]:
    return layer.extent, str(layer.diff_id)


def _compression(layer: StoredLayer) -> Compression:
    return sniff(layer.extent.read(0, BLOCK))

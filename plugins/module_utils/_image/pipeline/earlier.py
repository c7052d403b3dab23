# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the layers stand of which an earlier base was made: in the archive of its image, or in files of their own.

Invariant: nothing is decompressed, and whatever is wrong with an archive means that it has no layers; its base can do without.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..._errors import BadInput, Unsupported, Untrusted
from ..compression.sniffing import Compression, sniff
from ..extent import Extent
from ..image import Image
from ..tar.header import BLOCK
from .preparing import Preparation, family, identity_of


def plain_layers(preparation: Preparation, fds: Sequence[int], layer_sha256: Sequence[str]) -> dict[str, Extent]:
    """The layers in the archive ``fds[0]`` that are stored as tars, by identity.

    With ``layer_sha256``, which are digests of them as stored, each of ``fds`` is a layer itself.
    """
    if not fds:
        return {}
    try:
        image = _image(preparation, [Extent.whole(fd) for fd in fds], layer_sha256)
    except (Untrusted, BadInput, Unsupported, MemoryError, OSError):
        return {}
    stored = image.layers if image is not None else ()
    return {identity_of(layer): layer.extent for layer in stored if _is_plain(layer.extent)}


def _image(preparation: Preparation, stored: Sequence[Extent], layer_sha256: Sequence[str]) -> Image | None:
    if layer_sha256:
        return family(stored, layer_sha256)
    return preparation.image(stored[0]) if _is_plain(stored[0]) else None


def _is_plain(extent: Extent) -> bool:
    return sniff(extent.read(0, BLOCK)) is Compression.NONE

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An image as it was found in an archive: its configuration and where its layers are.

Invariant: the layers are as many as the configuration says, lowest first, and each is covered by a digest unless its format knows
none; nothing has been verified yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .._errors import BadInput, Untrusted
from .._names import Digest, printable
from .extent import Extent
from .formats.config import ImageConfig, ParsedConfig
from .platforms import Platform, PlatformPolicy
from .refusal import malformed

_SELECT = "set image_name to one of these names, or to a position in the archive's list, counted from 0"


class Selector(NamedTuple):
    """Which of an archive's images is wanted: ``name`` is a tag or a position, empty for the only one; ``platform`` None for this machine's."""

    name: str = ""
    platform: Platform | None = None
    policy: PlatformPolicy = PlatformPolicy.THIS_MACHINE


class StoredLayer(NamedTuple):
    """A layer in the archive, perhaps compressed: ``blob`` is the digest of it as it is stored, ``diff_id`` of the tar inside.

    ``is_chunked`` says that it is zstd:chunked, which some programs make of another tar than they name. ``verified_sha256`` is the digest of a
    layer that is a file of its own, which is verified as that file.
    """

    name: str
    extent: Extent
    diff_id: Digest | None = None
    blob: Digest | None = None
    is_chunked: bool = False
    verified_sha256: str = ""


class Image(NamedTuple):
    """What is to be unpacked; ``layout`` names the kind of archive for the result.

    ``document`` is the configuration as it stands in the archive. ``others`` are the layers that another list of the same archive names
    for this image: they are verified, and not unpacked. ``warnings`` are sentences for the operator.
    """

    layout: str
    config: ImageConfig
    layers: tuple[StoredLayer, ...]
    document: bytes = b""
    others: tuple[StoredLayer, ...] = ()
    warnings: tuple[str, ...] = ()


def count_layers(parsed: ParsedConfig, layers: Sequence[object], what: str) -> None:
    """Raise ``Untrusted`` unless there are as many layers as diff_ids."""
    if len(layers) != len(parsed.diff_ids):
        raise malformed(
            f"the image has {len(layers)} layers, and its configuration speaks of {len(parsed.diff_ids)}", what
        )


def several_images(there_are: Sequence[str]) -> Untrusted:
    """The error for an archive of several images when none was selected."""
    shown = _listed(there_are)
    return Untrusted(f"the archive has {len(there_are)} images and none was selected; there are: {shown}", hint=_SELECT)


def no_such_image(wanted: str, there_are: Sequence[str]) -> BadInput:
    """The error for an ``image_name`` that selects nothing, or more than one."""
    return BadInput(f"the archive has no image {printable(wanted)!r}; there are: {_listed(there_are)}", hint=_SELECT)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(printable(name) for name in names[:20]) or "none with a name"

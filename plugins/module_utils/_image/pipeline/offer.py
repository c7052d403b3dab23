# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which earlier base a tree is made of, decided by the caller once the reader knows the layers of the image.

Invariant: both sides pass names of layers and a descriptor; what the names are worth, the verification of the layers decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable, NamedTuple

MAX_IDENTITY = 256  # characters: the longest digest, with a word before it


class Layer(NamedTuple):
    """A layer of an image: its identity, empty when no digest covers it, and its size as it is stored."""

    identity: str
    size_bytes: int


class Offered(NamedTuple):
    """The open file with the manifest of a base; ``is_trusted`` when a layer that it has needs not be read to prove that the image has it.

    ``archive_fds`` are the archive that it was made of, none when that is not there, or with ``layer_sha256`` its layers, each of that digest.
    """

    manifest_fd: int
    is_trusted: bool
    archive_fds: tuple[int, ...] = ()
    layer_sha256: tuple[str, ...] = ()


Offer = Callable[[Sequence[Layer]], "Offered | None"]

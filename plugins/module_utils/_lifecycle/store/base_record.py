# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the store remembers of a base beside its volume: how another one can be made of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple


class BaseRecord(NamedTuple):
    """The base with the volume ``base_ulid``; the row goes with the volume's.

    ``origin_ulid`` is the base that it was made of, empty for none, which may be gone since; ``depth`` is how many bases stand before it.
    ``recipe`` names the kind of its file system, which was made for ``inodes``. ``volume_blocks`` are the blocks of 4096 bytes that its tree was
    counted to take. Its manifest lies in state_dir/manifests under the ULID.

    ``layers`` are the identities of its layers as JSON, lowest first; ``residue`` those of further ones whose bytes may lie in its free blocks,
    as the bases had them that it was made of. Each is empty when that was not recorded; the identity is empty of files that no digest covers.
    """

    base_ulid: str
    origin_ulid: str
    depth: int
    recipe: str
    inodes: int
    volume_blocks: int
    manifest_sha256: str
    layers: str = ""
    residue: str = ""

    @property
    def own_layers(self) -> tuple[str, ...]:
        """The identities of its layers, lowest first; none when they were not recorded."""
        return tuple(json.loads(self.layers)) if self.layers else ()

    @property
    def held(self) -> frozenset[str] | None:
        """The identities of all layers whose bytes may lie in it; None when that is not known."""
        if not self.layers or not self.residue:
            return None
        return frozenset((*self.own_layers, *json.loads(self.residue)))


def layers_text(layers: Sequence[str]) -> str:
    """What is recorded as ``layers``."""
    return json.dumps(list(layers))


def residue_text(layers: Sequence[str], origin: BaseRecord | None) -> str:
    """What is recorded as ``residue`` of a base of ``layers`` that is made of ``origin``."""
    held: frozenset[str] | None = frozenset() if origin is None else origin.held
    return "" if held is None else json.dumps(sorted(held.difference(layers)))

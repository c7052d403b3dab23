# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The generations of a key: one that is named by its digest, and one that was retired and is current again.

Invariant: a key has one current generation at most. Databases of earlier releases may have several generations with one digest.
"""

from __future__ import annotations

from .records import Image, RetiredImage
from .store import Store


def generation_of(store: Store, object_key: str, sha256: str) -> Image | None:
    """The generation with this digest: the current one, else the retired one that has come furthest, the newest of several."""
    if not sha256:
        return None
    current = store.find(Image, "object_key=? AND sha256=?", object_key, sha256)
    retired = store.all(RetiredImage, "object_key=? AND sha256=?", object_key, sha256)
    by_use = sorted(retired, key=lambda one: (bool(one.base_ulid), one.state.rank))
    return current or (by_use[-1] if by_use else None)


def make_current(store: Store, image: Image, instead_of: Image) -> None:
    """Inside a transaction: ``image``, new or retired until now, is the current generation, and ``instead_of`` is retired if it is another."""
    if instead_of.id and instead_of.id != image.id:
        store.retire(instead_of)
    store.drop(RetiredImage(*image))
    store.put(Image(*image))

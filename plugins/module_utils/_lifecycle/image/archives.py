# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files in state_dir/archives, named by their SHA-256: which rows reference them, and which are unreferenced.

Invariant: a file is removed in the transaction that has verified that no row needs it, and a row that names one is committed in the transaction
that has verified that it exists. So no row of another key with the same digest names a file that is gone.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable

from ..._errors import Transient
from ..._host.processes.process import Identity, own_identity
from ..run import Run
from ..store.records import Image, Operation, OperationKind, RetiredImage, State
from .seals import hashed, remove_archive

_SHA256 = re.compile(r"[0-9a-f]{64}")


def on_disk(host: Run, image: Image) -> bool:
    """Whether all that the image was fetched as is there; of an image that was never fetched, nothing is."""
    return bool(image.digests) and not missing(host, image.digests)


def missing(host: Run, digests: Iterable[str]) -> list[str]:
    """Those of ``digests`` that are not in the directory."""
    return [digest for digest in digests if not os.path.exists(host.archive_path(digest))]


def is_intact(path: str, size_bytes: int, sha256: str) -> bool:
    """Whether the file is there and still has its digest; it is read whole."""
    if not os.path.isfile(path) or os.path.getsize(path) != size_bytes:
        return False
    return hashed(path, "sha256") == sha256


def require_there(host: Run, image: Image) -> None:
    """For the transaction that commits ``image``: raise ``Transient`` when a run for another key has removed its archive meanwhile."""
    if not image.base_ulid and missing(host, image.digests):
        raise Transient(
            f"the archive of {image.object_key} was removed while it was being recorded",
            hint="run again: it is downloaded again",
        )


def unreferenced(host: Run, image: Image) -> list[str]:
    """The paths of the archives that the sealed ``image`` has no more use for, and no other generation either."""
    needed = {
        digest
        for other in (*host.store.all(Image), *host.store.all(RetiredImage))
        if other.id != image.id and (other.keep_archive or not other.base_ulid)
        for digest in other.digests
    }
    paths = [host.archive_path(digest) for digest in sorted(set(image.digests) - needed)]
    return [path for path in paths if os.path.exists(path)]


def drop_superfluous(host: Run, image: Image) -> list[str]:
    """Remove them, and remember that they are not to be kept."""
    with host.store.transaction():
        host.store.put(image._replace(keep_archive=False))
        paths = unreferenced(host, image)
        for path in paths:
            remove_archive(host, os.path.basename(path))
    return paths


def sweep(host: Run) -> None:
    """Remove archives that no generation names: what runs that were interrupted have left.

    While another process fetches nothing goes: it may have published what it has not recorded yet.
    """
    me = own_identity()
    with host.store.transaction():
        intents = host.store.all(Operation, "kind=?", OperationKind.FETCH.value)
        if any(_is_of_another(one, me) for one in intents):
            return
        known = {
            digest for image in (*host.store.all(Image), *host.store.all(RetiredImage)) for digest in image.digests
        }
        for name in _names(host):
            if _SHA256.fullmatch(name) and name not in known:
                remove_archive(host, name)


def _is_of_another(intent: Operation, me: Identity) -> bool:
    holder = Identity(intent.boot_id, intent.pid, intent.started)
    return holder != me and holder.is_alive()


def _names(host: Run) -> list[str]:
    with contextlib.suppress(FileNotFoundError):
        return sorted(os.listdir(host.settings.path("archives")))
    return []


def state_without_base(host: Run, image: Image) -> State:
    """How far ``image`` still has come without its base.

    An archive that was not kept is to be fetched again: the store never claims more than the disk holds.
    """
    is_current = not isinstance(image, RetiredImage)
    left = State.NEW if is_current and not on_disk(host, image) else State.FETCHED
    return min(image.state, left, key=lambda state: state.rank)

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The generation that an operator names by its SHA-256, current or retired.

Invariant: no other generation is ever used in its place: one that is unknown, or whose archive is gone, is refused.
"""

from __future__ import annotations

from ..._errors import OutOfOrder
from ..diff import assumed_generation, known_id
from ..run import Run
from ..store.generations import generation_of
from ..store.records import Image, RetiredImage
from .archives import missing


def named_generation(host: Run, key: str, sha256: str, *, is_assumed: bool) -> Image:
    """The generation of ``key`` with this digest; raises ``OutOfOrder`` that lists the known ones.

    In a dry run, one that an earlier, simulated step would have made: where ``is_assumed`` says so, or nothing of the key is known.
    """
    found, known = generation_of(host.store, key, sha256), host.store.generations(key)
    if found is not None:
        return found
    if host.dry_run and is_assumed:
        return assumed_generation(key, sha256)
    if host.dry_run and not known:
        return host.store.image_or_new(key)
    has = ", ".join(f"sha256:{one.sha256} ({_standing(one)})" for one in known) or "none at all"
    raise OutOfOrder(
        f"{key} has no generation sha256:{sha256} on this host; it has {has}",
        hint=f"run flyd_fetch with checksum: sha256:{sha256} first, or give sha256 as flyd_info lists it under images",
    )


def require_archive(host: Run, image: Image) -> None:
    """Raise ``OutOfOrder`` when the named generation is to be unpacked, and its archive is not here."""
    gone = missing(host, image.digests) if known_id(image) and not image.base_ulid else []
    if gone:
        raise OutOfOrder(
            f"the generation sha256:{image.sha256} of {image.object_key} has neither a base nor its archive any more; "
            f"{', '.join(map(host.archive_path, gone))} is gone",
            hint=f"run flyd_fetch with checksum: sha256:{image.sha256}: it fetches the archive again, while the source has it",
        )


def _standing(image: Image) -> str:
    return "retired" if isinstance(image, RetiredImage) else "current"

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Retired → removed: prune one generation, by the removals of flyd_fetch and flyd_unpack.

Invariant: whether the generation may be removed is checked again under the key's lock, as another run may have made it current, bound or
confirmed it meanwhile.
"""

from __future__ import annotations

from collections.abc import Collection

from ..._errors import OutOfOrder
from ..diff import forgotten, without_base
from ..image.remove import RemoveBase
from ..image.remove_image import RemoveArchive
from ..image.remove_volumes import snapshots_of
from ..outcome import Facts
from ..run import Run
from ..store.records import Image
from .choosing import Verdict, stays
from .options import PruneOptions


class Spared(OutOfOrder):
    """The generation is to stay after all."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.text, hint="nothing is to be done")
        self.verdict = verdict


class PruneGeneration(RemoveArchive):
    """The generation goes with its snapshots, its base, and the archives that no other one is made of."""

    name = "prune"

    def __init__(self, image: Image, options: PruneOptions, assumed_gone: Collection[str] = ()) -> None:
        super().__init__(
            image.object_key, force=True, sha256=image.sha256, image_id=image.id, assumed_gone=assumed_gone
        )
        self._image = image
        self._options = options

    def admit(self, host: Run, image: Image) -> None:
        """Raise ``Spared`` when it is to stay."""
        super().admit(host, image)
        _require_not_spared(host, self._image, self._options)

    def perform(self, host: Run, image: Image, log: Facts) -> tuple[Image, Facts]:
        """Remove it."""
        log["sha256"] = self._image.sha256
        return super().perform(host, image, log)

    def archives(self, host: Run) -> list[str]:
        """The files that go with it."""
        return self._archives(host)

    def changed_view(self, before: Facts) -> Facts:
        """What it changes of the view of its image."""
        return forgotten(before, [self._image.id])


class PruneVolumes(RemoveBase):
    """The generation loses its snapshots and its base; its archives stay."""

    name = "prune"

    def __init__(self, image: Image, options: PruneOptions) -> None:
        super().__init__(image.object_key, force=True, sha256=image.sha256, image_id=image.id)
        self._image = image
        self._options = options

    def admit(self, host: Run, image: Image) -> None:
        """Raise ``Spared`` when it is to stay."""
        super().admit(host, image)
        _require_not_spared(host, self._image, self._options)

    def perform(self, host: Run, image: Image, log: Facts) -> tuple[Image, Facts]:
        """Remove them."""
        log["sha256"] = self._image.sha256
        return super().perform(host, image, log)

    def archives(self, host: Run) -> list[str]:
        """None."""
        return []

    def changed_view(self, before: Facts) -> Facts:
        """What it changes of the view of its image."""
        return without_base(before, [self._image.id])

    def _found(self, host: Run) -> list[Image]:
        return [one for one in self._meant(host) if one.base_ulid or snapshots_of(host, [one])]


def _require_not_spared(host: Run, image: Image, options: PruneOptions) -> None:
    verdict = stays(host, image, options)
    if verdict is not None:
        raise Spared(verdict)

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fetched → unpacked: a sealed base volume holds the merged tree.

Invariant: ``unpacked`` is committed only by ``base_making``, whose work this is; here is what a run with nothing to do needs, and no more.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from .._host.crash import crash_point
from .._image.limits import Limits
from .._names import ObjectKey
from .._thin.device import SECTOR_BYTES
from .advance import Arrow
from .archives import drop_superfluous, superfluous
from .host import Host
from .outcome import Facts
from .records import Image, State, Volume, VolumeState
from .views import image_view, unpacked


class UnpackOptions(NamedTuple):
    """What flyd_unpack was asked for; ``size_bytes`` 0 means computed from the plan, an empty string whatever the reader of images makes of it."""

    key: ObjectKey
    size_bytes: int
    limits: Limits
    image_name: str = ""
    platform: str = ""
    device_nodes: str = "create"
    keep_archive: bool = True


class Unpack(Arrow):
    """The arrow of flyd_unpack."""

    name = "unpack"
    start = State.FETCHED
    end = State.UNPACKED

    def __init__(self, options: UnpackOptions) -> None:
        self._options = options

    def holds(self, host: Host, image: Image) -> Facts | None:
        """Whether the recorded base volume is live in a pool that the store knows, and no archive is left that is not to be kept."""
        base = _live_base(host, image)
        if base is None or (not self._options.keep_archive and superfluous(host, image)):
            return None
        return _facts(image, base)

    def predict(self, host: Host, image: Image) -> tuple[Facts, Facts]:
        """A base volume whose name and size only the real run knows; or only an archive that goes."""
        removed = [] if self._options.keep_archive else superfluous(host, image)
        kept = {"archives": [path for path in image_view(host, image)["archives"] if path not in removed]}
        base = _live_base(host, image)
        if base is not None:
            return kept, {**_facts(image, base), "removed": removed}
        from .pool_asked import refuse_sick  # late, as below

        refuse_sick(host)
        made = unpacked(host.settings.pool.value)
        return {**made, **kept}, {"image_id": image.id or None, "device": None, "removed": removed}

    def perform(self, host: Host, image: Image, log: Facts) -> tuple[Image, Facts]:
        """Plan the tree, make a volume that fits it, write, seal, record; then let the archive go, if it is not to be kept."""
        base = _live_base(host, image)
        after, facts = (image, _facts(image, base)) if base is not None else self._make(host, image, log)
        if not self._options.keep_archive:
            crash_point("unpack:recorded")
            facts["removed"] = drop_superfluous(host, after)
        return after, facts

    def _make(self, host: Host, image: Image, log: Facts) -> tuple[Image, Facts]:
        # Late: what reads images takes as long to import as everything else together, and a run with nothing to do needs none of it.
        from .base_making import make_base

        after, base, summary = make_base(host, image, self._options)
        log.update(
            bytes=summary["bytes"], entries=summary["entries"], layers=summary["layers"], device=base.device_name
        )
        return after, _facts(after, base)


def _live_base(host: Host, image: Image) -> Volume | None:
    return host.store.find(Volume, "ulid=? AND state=?", image.base_ulid, VolumeState.LIVE.value)


def _facts(image: Image, base: Volume) -> Facts:
    return {
        "image_id": image.id,
        "device": base.device_path,
        "base": base.device_name,
        "size": base.sectors * SECTOR_BYTES,
        "removed": [],
        "config": json.loads(image.config),
        **{name: value for name, value in json.loads(image.summary).items() if name != "seconds"},
    }

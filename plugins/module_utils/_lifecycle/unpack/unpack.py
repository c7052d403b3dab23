# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fetched → unpacked: a sealed base volume holds the merged tree.

Invariant: ``unpacked`` is committed only by ``make_base``, whose work this is; here is what a run with nothing to do needs, and no more.
"""

from __future__ import annotations

import json

from ..._host.processes.crash import crash_point
from ..._names import option_size
from ..._thin.dm.device import SECTOR_BYTES
from ..diff import image_facts, image_view, unpacked
from ..image.advance import Arrow
from ..image.archives import drop_superfluous, missing, unreferenced
from ..image.placement import require_in_pool
from ..outcome import Facts
from ..run import Run
from ..store.records import Image, PoolRecord, State, Volume, VolumeState
from .inject import read_files
from .made_with import differences
from .options import UnpackOptions

# What the result tells of the tree, from the summary of the writing.
_REPORTED = (
    "layout",
    "layers",
    "entries",
    "bytes",
    "logical_bytes",
    "inodes",
    "directories",
    "hard_links",
    "devices",
    "skipped_devices",
    "whiteouts",
    "left_out",
    "dropped_xattrs",
    "clamped_times",
    "missing_isolation",
    "free_size",
    "origin",
    "origin_key",
    "reused_bytes",
    "written_bytes",
    "unread_layers",
    "fresh_because",
)


class Unpack(Arrow):
    """The arrow of flyd_unpack."""

    name = "unpack"
    start = State.FETCHED
    end = State.UNPACKED
    makes_volume = True

    def __init__(self, options: UnpackOptions) -> None:
        self._options = options
        self.assumes_generation = "generation" in options.assume
        self.named_sha256 = options.sha256

    def admit(self, host: Run, image: Image) -> None:
        """Refuse another pool than the one that the image lies in, a named generation without an archive, and an invalid platform."""
        require_in_pool(host, image, host.settings.pool.value)
        if self._options.sha256 and not (host.dry_run and self.assumes_generation):
            from ..image.named import require_archive  # late: most runs name none

            require_archive(host, image)
        if self._options.inject:
            read_files(self._options.inject)  # what is wrong with them is refused before anything is made
        if self._options.platform:
            from ..._image.platforms import Platform  # late: most runs name none

            Platform.parse(self._options.platform)

    def holds(self, host: Run, image: Image) -> Facts | None:
        """Whether the recorded base volume is live in a pool that the store knows, and no archive is left that is not to be kept."""
        base = _live_base(host, image)
        if base is None or (self._options.lets_archive_go and unreferenced(host, image)):
            return None
        return self._existing(host, image, base)

    def _existing(self, host: Run, image: Image, base: Volume) -> Facts:
        """The facts of a base that is there, with a warning for each option that would make another one."""
        warnings = [*differences(host, image, base, self._options), *self._unused(image)]
        if self._options.keep_archive and missing(host, image.digests):
            warnings.append(
                "keep_archive is true, but the archive was removed once the base was sealed; flyd_fetch brings it again after "
                "flyd_unpack with state: absent"
            )
        return {**_facts(host, image, base), "warnings": warnings}

    def predict(self, host: Run, image: Image) -> tuple[Facts, Facts]:
        """A base volume whose name and size only the real run knows; or only an archive that goes."""
        removed = unreferenced(host, image) if self._options.lets_archive_go else []
        kept = {"archives": [path for path in image_view(host, image)["archives"] if path not in removed]}
        base = _live_base(host, image)
        if base is not None:
            return kept, {**self._existing(host, image, base), "removed": removed}
        from ..volumes.room import foresee_volume  # late, as below

        foresee_volume(host, pool_changes="pool" in self._options.assume)
        made = unpacked(host.settings.pool.value)
        facts = {**image_facts(image), "pool": host.settings.pool.value, "removed": removed}
        return {**made, **kept}, {**dict.fromkeys(("device", "base", "size", "injected", *_REPORTED)), **facts}

    def perform(self, host: Run, image: Image, log: Facts) -> tuple[Image, Facts]:
        """Plan the tree, make a volume that fits it, write, seal, record; then let the archive go, if it is not to be kept."""
        base = _live_base(host, image)
        after, facts = self._make(host, image, log) if base is None else (image, self._existing(host, image, base))
        if self._options.lets_archive_go:
            crash_point("unpack:recorded")
            facts["removed"] = drop_superfluous(host, after)
        return after, facts

    def _make(self, host: Run, image: Image, log: Facts) -> tuple[Image, Facts]:
        # Late: what reads images takes as long to import as everything else together, and a run with nothing to do needs none of it.
        from .make_base import make_base

        after, base, summary = make_base(host, image, self._options)
        shown = (
            "bytes",
            "entries",
            "layers",
            "origin",
            "origin_key",
            "reused_bytes",
            "written_bytes",
            "unread_layers",
            "fresh_because",
        )
        log.update({name: summary[name] for name in shown}, device=base.device_name)
        return after, {
            **_facts(host, after, base),
            "warnings": [*summary["warnings"], *_warnings(summary["missing_isolation"])],
        }

    def _unused(self, image: Image) -> list[str]:
        """A warning when the base was made with other free space than is asked for now."""
        summary, asked = json.loads(image.summary), self._options.free_bytes
        if not asked or summary.get("free_size", asked) == asked:
            return []
        made = f"free_size: {option_size(summary['free_size'])}" if summary["free_size"] else "a size of its own"
        return [
            f"free_size: {option_size(asked)} counts when the base is made, which was with {made}; "
            "set size on flyd_snapshot to give one snapshot more"
        ]


def _live_base(host: Run, image: Image) -> Volume | None:
    return host.store.find(Volume, "ulid=? AND state=?", image.base_ulid, VolumeState.LIVE.value)


def _warnings(missing_isolation: list[str]) -> list[str]:
    if not missing_isolation:
        return []
    names = ", ".join(missing_isolation)
    return [f"this host could not set the processes that handled the image apart in all ways; missing: {names}"]


def _facts(host: Run, image: Image, base: Volume) -> Facts:
    pool = host.store.find(PoolRecord, "id=?", base.pool_id)
    summary = json.loads(image.summary)
    return {
        **image_facts(image),
        "pool": pool and pool.name,
        "device": base.device_path,
        "injected": json.loads(image.made_with).get("inject", []),
        "base": base.device_name,
        "size": base.sectors * SECTOR_BYTES,
        "removed": [],
        **{name: summary.get(name) for name in _REPORTED},
    }

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The outcome of each removable generation: removed, not needed, busy, or failed; in a dry run, the predicted one.

Invariant: a generation that cannot be removed does not affect the others. A dry run makes the same checks in the same order, and counts instead
of removing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Union

from ..._errors import Busy, FlydError, ForeignDevice, MissingLibrary, doing
from ..._host.files.durable import from_os_error
from ..._host.processes.crash import crash_point
from ..._names import ObjectKey
from ..diff import image_view
from ..image.advance import advance
from ..image.remove_volumes import snapshots_of, volumes_of
from ..outcome import Facts
from ..run import Run
from ..store.records import PoolRecord, Volume
from ..volumes.hidden import remove_hidden, unneeded
from ..volumes.unmapping import require_removable
from ..volumes.volumes import used_bytes
from .choosing import Candidate, Choice, Reason, Verdict
from .generation import PruneGeneration, PruneVolumes, Spared
from .options import PruneOptions
from .room import file_bytes, freed_with, missing_bytes, shortage_text, would_free

_Arrow = Union[PruneGeneration, PruneVolumes]


class Removal:
    """A real run, and what has become of the candidates so far."""

    def __init__(self, host: Run, options: PruneOptions, choice: Choice) -> None:
        self.host = host
        self.options = options
        self.kept = list(choice.kept)
        self.skipped: list[Verdict] = []
        self.errors: list[tuple[Candidate, FlydError]] = []
        self.gone: list[Candidate] = []
        self.back_bytes: dict[str, int] = {}  # by the id of a pool, what has gone and its status does not show
        self._freed_bytes = 0

    def take(self, candidate: Candidate) -> None:
        """Let it go, unless it need not, is busy, or fails."""
        verdict = self._not_needed(candidate)
        if verdict is not None:
            self.kept.append(verdict)
            return
        count_removed = len(self.host.removed)
        try:
            self.go(candidate)
        except MissingLibrary:
            raise  # the module starts over
        except Spared as spared:
            self.kept.append(spared.verdict)
        except (FlydError, OSError) as error:
            self._left(candidate, error, is_begun=len(self.host.removed) > count_removed)

    def go(self, candidate: Candidate) -> None:
        """Remove it."""
        outcome = advance(self.host, ObjectKey(candidate.image.object_key), arrow_of(candidate, self.options))
        if outcome.changed:
            self.gone.append(candidate)
            self._freed_bytes += int(outcome.facts["freed_bytes"])
        crash_point("prune:removed")

    def take_hidden(self, pool: PoolRecord) -> None:
        """Let the hidden bases of ``pool``, which is up, go that no base needs any more."""
        found = unneeded(self.host, pool)
        before_bytes = used_bytes(self.host) if found else 0
        for volume in found:
            self._take_hidden(pool, volume)
        self._freed_bytes += max(0, before_bytes - used_bytes(self.host)) if found else 0

    def _take_hidden(self, pool: PoolRecord, volume: Volume) -> None:
        try:
            require_removable(self.host, [volume])
            remove_hidden(self.host, pool, volume)
        except FlydError as error:
            self.host.warnings.append(
                f"nothing needs {volume.device_name} any more, but it is still there: {error.msg}"
            )

    def facts(self) -> Facts:
        """What the module returns, also when it fails."""
        return {
            "removed": self.removed(),
            **self.bytes(),
            "kept": [one.record() for one in self.kept],
            "skipped": [one.record() for one in self.skipped],
            "errors": [_record(candidate, error) for candidate, error in self.errors],
        }

    def removed(self) -> list[str]:
        """The devices and files that have gone."""
        return list(dict.fromkeys(self.host.removed))

    def bytes(self) -> Facts:
        """How much that has freed."""
        return {"freed_bytes": self._freed_bytes, "would_free_bytes": None}

    def views(self, keys: Iterable[str]) -> Facts:
        """The images afterwards."""
        return {key: image_view(self.host, self.host.store.image_or_new(key)) for key in keys}

    def warnings(self, choice: Choice) -> list[str]:
        """The pools that still have less free than they should."""
        wanted = self.options.min_free
        if wanted is None:
            return []
        active = [pool for pool in choice.pools if self.host.dm.find(pool.uuid) is not None]
        lacks = [(pool, missing_bytes(self.host, pool, wanted) - self._back_in(pool.id)) for pool in active]
        return [shortage_text(pool, missing) for pool, missing in lacks if missing > 0]

    def _not_needed(self, candidate: Candidate) -> Verdict | None:
        wanted = self.options.min_free
        if wanted is None:
            return None
        pool = candidate.pool
        if pool is None:
            return Verdict(
                candidate.image, Reason.NOT_IN_POOL, "it takes no room of a pool, and min_free asks for that"
            )
        if missing_bytes(self.host, pool, wanted) > self._back_in(pool.id):
            return None
        return Verdict(candidate.image, Reason.ENOUGH_FREE, f"the pool '{pool.name}' has free what min_free asks for")

    def _back_in(self, pool_id: str) -> int:
        return self.back_bytes.get(pool_id, 0)

    def _left(self, candidate: Candidate, error: FlydError | OSError, *, is_begun: bool) -> None:
        known = from_os_error(error, "pruning") if isinstance(error, OSError) else error
        skipped = None if is_begun else _skipped(candidate, known)
        if skipped is None:
            self.errors.append((candidate, known))
            return
        self.skipped.append(skipped)
        if not self.host.dry_run:
            self.host.log.write("skipped", **skipped.record())


class Forecast(Removal):
    """A dry run."""

    def __init__(self, host: Run, options: PruneOptions, choice: Choice) -> None:
        super().__init__(host, options, choice)
        self._devices_and_files: list[str] = []
        self._file_bytes = 0
        self._pool_bytes = self._would_free(choice.candidates)

    def go(self, candidate: Candidate) -> None:
        """Count it as gone."""
        devices_and_files, archives = self._predicted(candidate)
        self._devices_and_files += devices_and_files
        self._file_bytes += file_bytes(archives)
        self.gone.append(candidate)
        if candidate.pool is not None and self._pool_bytes is not None:
            freed = self._pool_bytes[candidate.image.id]
            self.back_bytes[candidate.pool.id] = self._back_in(candidate.pool.id) + freed

    def take_hidden(self, pool: PoolRecord) -> None:
        """Count those as gone that no base would need any more."""
        found = unneeded(self.host, pool, {candidate.image.base_ulid for candidate in self.gone})
        self._devices_and_files += [volume.device_path for volume in found]
        if found and self._pool_bytes is not None:
            gone = [one.image for one in self.gone if one.pool is not None and one.pool.id == pool.id]
            ids = [volume.thin_id for volume in volumes_of(self.host, snapshots_of(self.host, gone), gone)]
            self.back_bytes[pool.id] = self._back_in(pool.id) + freed_with(pool, ids, [one.thin_id for one in found])

    def removed(self) -> list[str]:
        """The devices and files that would go."""
        return self._devices_and_files

    def bytes(self) -> Facts:
        """How much that would free."""
        is_known = self._pool_bytes is not None
        return {
            "freed_bytes": None,
            "would_free_bytes": self._file_bytes + sum(self.back_bytes.values()) if is_known else None,
        }

    def views(self, keys: Iterable[str]) -> Facts:
        """The images as they would be."""
        views = super().views(keys)
        for candidate in self.gone:
            key = candidate.image.object_key
            views[key] = {**views[key], **arrow_of(candidate, self.options).changed_view(views[key])}
        return views

    def _predicted(self, candidate: Candidate) -> tuple[list[str], list[str]]:
        """The devices and files that would go, and the files of these; raises what would stop it."""
        arrow = arrow_of(candidate, self.options, [one.image.id for one in self.gone])
        current = self.host.store.image_or_new(candidate.image.object_key)
        with doing(f"{arrow.name} of {candidate.image.object_key}"):
            arrow.admit(self.host, current)
            return arrow.predict(self.host, current)[1]["removed"], arrow.archives(self.host)

    def _would_free(self, candidates: list[Candidate]) -> dict[str, int] | None:
        try:
            return would_free(self.host, candidates)
        except FlydError as error:
            if self.options.min_free is not None:
                raise  # how many would go depends on it
            self.host.warnings.append(f"there is no estimate of what this would free: {error.msg}")
            return None


def arrow_of(candidate: Candidate, options: PruneOptions, assumed_gone: Iterable[str] = ()) -> _Arrow:
    """What removes it."""
    if options.archives:
        return PruneGeneration(candidate.image, options, frozenset(assumed_gone))
    return PruneVolumes(candidate.image, options)


def _skipped(candidate: Candidate, error: FlydError) -> Verdict | None:
    """For a device in use, or one that is not ours: no failure, as nothing was to be expected but to wait."""
    if isinstance(error, ForeignDevice):
        return Verdict(candidate.image, Reason.FOREIGN_DEVICE, error.msg)
    if isinstance(error, Busy) and "device" in error.details:
        return Verdict(candidate.image, Reason.IN_USE, error.msg)
    return None


def _record(candidate: Candidate, error: FlydError) -> Facts:
    image = candidate.image
    return {
        "key": image.object_key,
        "sha256": image.sha256,
        "error_kind": error.kind.value,
        "msg": str(error),
        "hint": error.hint,
    }

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Handle state=recovered of flyd_pool: rebuild the database, and activate the pools, snapshots and instances in it."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..outcome import Facts, Outcome
from ..params import ModuleParams
from ..run import Run, require_state_dir
from ..settings import Settings
from ..store.instance_record import Instance
from ..store.records import Image, PoolRecord, RetiredImage, Snapshot

if TYPE_CHECKING:
    from .rebuild import Rebuilt

NAME = "flyd.db"


class Recovery:
    """One run of it: ``opened`` before the host is, then ``work``."""

    def __init__(self) -> None:
        self._rebuilt: Rebuilt | None = None

    @contextlib.contextmanager
    def opened(self, settings: Settings, given: ModuleParams, *, dry_run: bool) -> Iterator[str]:
        """The database to open, made again when it is lost; in a dry run another file, so that nothing is written."""
        from .rebuild import rebuild, require_named  # late: for this state alone

        require_state_dir(settings)
        for what in ("data_file", "metadata_file", "data_device", "metadata_device"):
            require_named(settings, what, given.text(what))
        pool = given.text("name") or given.text("pool")
        data = given.text("data_device") or given.text("data_file")
        if not dry_run:
            self._rebuilt = rebuild(settings, data, settings.path(NAME), pool=pool, dry_run=False)
            yield settings.path(NAME)
            return
        with tempfile.TemporaryDirectory(prefix="flyd-") as directory:
            path = os.path.join(directory, NAME)
            self._rebuilt = rebuild(settings, data, path, pool=pool, dry_run=True)
            yield path if self._rebuilt else settings.path(NAME)

    def work(self, host: Run, name: str) -> Outcome:
        """Bring back the pools with their snapshots and instances; ``name`` is a pool that must be among them, empty for any."""
        from .rebuild import require_pool

        require_pool(host, name, "")
        from ..pool.restore import restore  # late, as above

        restored: list[str] = [] if host.dry_run else restore(host).facts["restored"]
        facts: Facts = {
            "source": self._rebuilt and self._rebuilt.source,
            "left_out": list(self._rebuilt.left_out) if self._rebuilt else [],
            "restored": restored,
            "recovered": self._counts(host) if self._rebuilt else None,
            "attempts": 1 + host.retry.repeated if restored else 0,
            "waited_seconds": round(host.retry.waited_seconds, 3),
        }
        before: Facts = {"database": None if self._rebuilt else host.settings.path(NAME)}
        after = {**before, "database": host.settings.path(NAME)}
        return Outcome(before, after, bool(self._rebuilt or restored), facts, tuple(host.settled))

    @staticmethod
    def _counts(host: Run) -> dict[str, int]:
        return {
            "pools": len(host.store.all(PoolRecord)),
            "generations": len(host.store.all(Image)) + len(host.store.all(RetiredImage)),
            "snapshots": len(host.store.all(Snapshot)),
            "instances": len(host.store.all(Instance)),
        }

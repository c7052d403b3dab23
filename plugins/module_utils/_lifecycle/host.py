# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every arrow works with: the state directory, the store, the programs, device-mapper, the log.

Invariant: with ``dry_run`` the store is read-only and nothing here writes.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from .._errors import BadInput, MissingLibrary
from .._host.command import Runner
from .._host.files import make_private_directory
from .._host.process import Identity, own_identity
from .._host.retry import Retry
from .._names import ShortName, new_ulid
from .._thin.dm import DeviceMapper
from .lock import held
from .records import Operation, OperationKind
from .store import Store, open_store, utc_now

if TYPE_CHECKING:
    from .log import Log


class Settings(NamedTuple):
    """The options that all modules share; times in seconds.

    ``starts_over``: a ``MissingLibrary`` makes the module start over in an interpreter that may have the package, so it is not to be
    done without.
    """

    state_dir: str
    pool: ShortName
    lock_timeout_seconds: float
    command_timeout_seconds: float
    retries: int
    retry_delay_seconds: float
    starts_over: bool = False

    def path(self, *parts: str) -> str:
        """A path below the state directory."""
        return os.path.join(os.path.normpath(self.state_dir), *parts)

    def retry(self) -> Retry:
        """How patiently transient faults are met."""
        return Retry(attempts=self.retries + 1, base_seconds=self.retry_delay_seconds)


class Host:
    """One run of a module on its host.

    ``settled`` tells what was mended of runs that were cut off, and what could not be; the latter is in ``left`` too.
    """

    def __init__(self, settings: Settings, store: Store, runner: Runner, dm: DeviceMapper, *, dry_run: bool) -> None:
        self.settings = settings
        self.store = store
        self.runner = runner
        self.dm = dm
        self.dry_run = dry_run
        self.settled: list[str] = []
        self.left: list[str] = []
        self._log: Log | None = None

    @property
    def log(self) -> Log:
        """The run's log; the run's ULID is born when it is first needed, so that a run with nothing to do needs none."""
        if self._log is None:
            from .log import Log

            self._log = Log(self._log_path, new_ulid())
        return self._log

    @property
    def _log_path(self) -> str:
        return self.settings.path("log", "flyd.jsonl")

    @property
    def log_of_failure(self) -> Log:
        """The run's log, for what must not fail itself: in an interpreter that has no package for ULIDs, its lines name no run."""
        try:
            return self.log
        except MissingLibrary:
            from .log import Log

            return Log(self._log_path, None)

    @property
    def has_mended(self) -> bool:
        """Whether something on the host is, or in a dry run would be, changed by settling."""
        return len(self.settled) > len(self.left)

    def lock(self, name: str) -> contextlib.AbstractContextManager[None]:
        """Hold the lock ``name``, or nothing at all in a dry run, which writes nothing."""
        if self.dry_run:
            return contextlib.nullcontext()
        return held(self.store, name, timeout_seconds=self.settings.lock_timeout_seconds)

    def directory(self, name: str) -> str:
        """The directory ``name`` of the state directory, made when missing, 0700."""
        path = self.settings.path(name)
        make_private_directory(path)
        return path

    def archive_path(self, sha256: str) -> str:
        """Where the archive of that digest lies, or would lie. An object key never becomes a file name."""
        return self.settings.path("archives", sha256)

    def begin(self, kind: OperationKind, subject: str, *, volume_ulid: str = "") -> Operation:
        """An intent of this process, to be put into the store before its effect."""
        me: Identity = own_identity()
        return Operation(str(new_ulid()), kind, subject, volume_ulid, me.boot_id, me.pid, me.started, utc_now())


@contextlib.contextmanager
def open_host(settings: Settings, *, dry_run: bool) -> Iterator[Host]:
    """The host with its store open; raises ``BadInput`` for a state directory that is none."""
    below_root = os.path.normpath(settings.state_dir).strip("/")  # normpath leaves // as it is
    if not os.path.isabs(settings.state_dir) or not below_root:
        raise BadInput(
            f"state_dir {settings.state_dir!r} is not an absolute path below /",
            hint="give a directory such as /var/lib/flyd",
        )
    store = open_store(settings.path("flyd.db"), writable=not dry_run, busy_seconds=settings.lock_timeout_seconds)
    try:
        runner = Runner(timeout_seconds=settings.command_timeout_seconds)
        yield Host(settings, store, runner, DeviceMapper(runner), dry_run=dry_run)
    finally:
        store.close()

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
from typing import TYPE_CHECKING

from .._errors import BadInput
from .._host.files.durable import make_private_directory
from .._host.processes.command import Runner
from .._host.processes.process import Identity, own_identity
from .._host.retry import Failed
from .._names import Ulid, new_run_id, new_ulid
from .._thin.dm.device_mapper import DeviceMapper
from .findings import FORGOTTEN, Finding, RecoveryKind
from .settings import Settings
from .store.lock import held
from .store.records import Operation, OperationKind
from .store.store import Store, open_store, utc_now

if TYPE_CHECKING:
    from .log.log import Log


class Run:
    """One run of a module on its host; ``run`` is its ULID, in its result and in its lines of the log.

    ``settled`` is what was recovered of interrupted runs, and what could not be. ``removed`` has the devices and files that this run has
    removed, or has recorded as going: it is true of a run that fails, too. ``retry`` is the run's, for requests and transitions alike;
    ``warnings`` is what an operator should know of a run that succeeds or fails.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        runner: Runner,
        dm: DeviceMapper,
        *,
        dry_run: bool,
        secrets: frozenset[str] = frozenset(),
        run: Ulid | None = None,
    ) -> None:
        self.settings = settings
        self.store = store
        self.runner = runner
        self.dm = dm
        self.dry_run = dry_run
        self.settled: list[Finding] = []
        self.removed: list[str] = []
        self.grown: list[dict[str, object]] = []  # the pools that have grown by themselves, or in a dry run would
        self.flipped: list[str] = []  # the instances that this run has changed, although it fails
        self.reported: dict[str, object] = {}  # what a run that fails returns beside its error
        self.warnings: list[str] = []
        self.subject: dict[str, str] = {}  # what is being moved, for the log
        self.given_up: set[str] = set()  # the intents of attempts that have failed
        self.failed_seconds = 0.0  # how long attempts took that have failed
        self._begun: set[str] = set()
        self.run = run or new_run_id()
        self._secrets = secrets
        self._log: Log | None = None
        self.dm.label = self._label
        self.retry = settings.retry()
        self.retry.on_retry = self._retrying

    @property
    def log(self) -> Log:
        """The run's log."""
        if self._log is None:
            from .log.log import Log

            path = self.settings.path("log", "flyd.jsonl")
            self._log = Log(
                path,
                self.run,
                self._secrets,
                attempts=lambda: 1 + self.retry.repeated,
                starts_over=self.settings.starts_over,
            )
        return self._log

    @property
    def has_mended(self) -> bool:
        """Whether something on the host is, or in a dry run would be, changed by a recovery."""
        return any(one.kind is not RecoveryKind.NOT_RECOVERED for one in self.settled)

    def report(self, kind: RecoveryKind, subject: str, text: str, **facts: str) -> None:
        """Add to ``settled``, and to the log with ``facts``, what was recovered; in a dry run, what would be."""
        self.settled.append(Finding(kind, subject, text))
        if not self.dry_run:
            fields = {"kind": kind.value, "subject": subject, "text": text, **facts}
            if kind is RecoveryKind.NOT_RECOVERED:
                self.log.write("left", **fields)
            elif kind in FORGOTTEN:
                self.log.write("lost", **fields)
            else:
                self.log.write("settled", **fields)

    def lock(self, name: str) -> contextlib.AbstractContextManager[None]:
        """Hold the lock ``name``, or nothing at all in a dry run, which writes nothing."""
        if self.dry_run:
            return contextlib.nullcontext()
        return held(self.store, name, timeout_seconds=self.settings.lock_timeout_seconds, describe=self._holder)

    def _label(self, device: str) -> str:
        from .log.labels import label  # late: for a message

        return label(self.store, device)

    def _holder(self, identity: Identity) -> str:
        from .report.lock_holders import holder  # late: few runs wait in vain

        return holder(self.store, self.settings, identity)

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
        # A pool grows without a package of the environment: the service that lets it outlives each of those.
        self._begun.add(ulid := str(new_run_id() if kind is OperationKind.GROW else new_ulid()))
        return Operation(ulid, kind, subject, volume_ulid, me.boot_id, me.pid, me.started, utc_now())

    def forget_failed_attempt(self) -> None:
        """Before the next attempt: what the failed one has left open is recovered as if its process were gone, and reported once."""
        self.given_up |= self._begun
        self._begun = set()
        done = [one for one in self.settled if one.kind is not RecoveryKind.NOT_RECOVERED]
        self.settled = [] if self.dry_run else done

    def _retrying(self, failed: Failed) -> None:
        """Log a failure that is retried; called in threads of a download, too."""
        error = failed.error
        if error.details.get("silent_seconds") and error.msg not in self.warnings:
            self.warnings.append(error.msg)
        if self.dry_run:
            return
        numbers = {
            "attempt": failed.number,
            "attempts": failed.attempts,
            "pause_seconds": round(failed.pause_seconds, 3),
        }
        reason = {"error_kind": error.kind.value, "error": str(error)}
        self.log.write("retry", what=failed.what, **self.subject, **numbers, **reason)


def require_state_dir(settings: Settings) -> None:
    """Raise ``BadInput`` for a state directory that cannot be one."""
    below_root = os.path.normpath(settings.state_dir).strip("/")  # normpath leaves // as it is
    if not os.path.isabs(settings.state_dir) or not below_root:
        raise BadInput(
            f"state_dir {settings.state_dir!r} is not an absolute path below /",
            hint="give state_dir a directory such as /var/lib/flyd",
        )


@contextlib.contextmanager
def open_host(
    settings: Settings,
    *,
    dry_run: bool,
    secrets: frozenset[str] = frozenset(),
    run: Ulid | None = None,
    database: str = "",
) -> Iterator[Run]:
    """The host with its store open, whose log never shows ``secrets``; ``database`` is another file than the state
    directory's. Raises ``BadInput`` for an invalid state directory."""
    require_state_dir(settings)
    path = database or settings.path("flyd.db")
    store = open_store(path, writable=not dry_run, busy_seconds=settings.lock_timeout_seconds)
    try:
        runner = Runner(timeout_seconds=settings.command_timeout_seconds)
        yield Run(settings, store, runner, DeviceMapper(runner), dry_run=dry_run, secrets=secrets, run=run)
    finally:
        store.close()

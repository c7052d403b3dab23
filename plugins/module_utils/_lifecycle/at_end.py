# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The last steps of a run that has changed something: publish the names of snapshots, and copy the database to the pools.

Invariant: nothing here makes a run fail, as the requested change is done by then; a step that fails is logged, and repeated by the next run
that changes something.
"""

from __future__ import annotations

from .run import Run

_MAPPING = (("dmsetup", "create"), ("dmsetup", "remove"))


def at_end(host: Run) -> None:
    """A run that has changed neither the database nor a device does nothing here."""
    if host.dry_run:
        return
    if host.store.has_changed or any(line.argv[:2] in _MAPPING for line in host.runner.ran):
        # Late: a run with nothing to do needs nothing of it.
        from .snapshot.names import publish_names
        from .unexpected import as_flyd_error

        try:
            publish_names(host)
        except Exception as caught:  # noqa: BLE001 - see above
            error = as_flyd_error(caught, [host])
            host.log.write("not published", error_kind=error.kind.value, error=str(error))
    if host.store.has_changed:
        from .backup.keep import keep_copies

        keep_copies(host)

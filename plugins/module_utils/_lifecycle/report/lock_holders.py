# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who holds a lock, for the message of a run that waited for it in vain: module, process, since when, and how far a download is.

Invariant: nothing here decides anything; what cannot be read is left out.
"""

from __future__ import annotations

from ..._host.processes.process import Identity, command_line, name_of, started_at
from ..._names import printable, size_text
from ..fetch.progress import progress_path, read
from ..settings import Settings
from ..store.records import Operation
from ..store.store import Store

_MODULES = "flyd_"


def holder(store: Store, settings: Settings, identity: Identity) -> str:
    """ "flyd_fetch (process 1614), which began at 2026-01-01T00:00:00Z and has received 12 MiB of 40 MiB of images/redis.tar"."""
    began = started_at(identity)
    facts = [f"began at {began}"] if began else []
    facts += _downloads(store, settings, identity)
    return f"{_who(identity.pid)}{', which ' + ' and '.join(facts) if facts else ''}"


def _who(pid: int) -> str:
    name = name_of(pid)
    if name.startswith(_MODULES):
        return f"{name} (process {pid})"
    words = printable(command_line(pid) or name, 120)
    return f"process {pid} (`{words}`)" if words else f"process {pid}"


def _downloads(store: Store, settings: Settings, identity: Identity) -> list[str]:
    found = []
    for operation in store.all(Operation, "kind='fetch' AND pid=? AND started=?", identity.pid, identity.started):
        shown = read(progress_path(settings, operation)) or {}
        received, total = shown.get("received_bytes"), shown.get("total_bytes")
        if isinstance(received, int) and isinstance(total, int):
            found.append(f"has received {size_text(received)} of {size_text(total)} of {printable(operation.subject)}")
    return found

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether an instance points at what is to be removed.

Invariant: no row of an instance names a snapshot as current that was removed by a run which looked here in the transaction of its intent.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..._errors import OutOfOrder
from ..run import Run
from ..store.instance_record import Instance


def require_unbound(host: Run, ulids: Iterable[str]) -> None:
    """Raise ``OutOfOrder`` when an instance points at one of these snapshots, or would go back to it. Writes nothing."""
    wanted = set(ulids)
    names = [one.name for one in host.store.all(Instance) if {one.current_ulid, one.target_ulid} & wanted]
    if names:
        raise OutOfOrder(
            f"in use by the instance{'s' if names[1:] else ''} {', '.join(names)}; nothing was removed",
            hint="bind the instance to another generation, or remove it (flyd_instance, state: absent; role deactivate: deactivate_instances) first",
            instances=", ".join(names),
        )

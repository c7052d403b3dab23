# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remove an instance: its name and its record. Its snapshots, with what guests wrote, stay until they are removed or pruned."""

from __future__ import annotations

from ..._errors import doing
from ..._host.processes.crash import crash_point
from ..attempts import attempted
from ..outcome import Facts, Outcome
from ..run import Run
from ..store.instance_record import Instance
from ..store.lock_names import instance_lock
from ..store.records import Operation, OperationKind
from ..volumes.recover import nothing_to_recover, recover
from ..volumes.uses import mark_used
from .choosing import recorded
from .link import path_of, withdraw
from .options import InstanceOptions
from .previous import stop_timer_of
from .views import instance_view


def remove_instance(host: Run, options: InstanceOptions) -> Outcome:
    """Remove the name and its row; unchanged when there is none."""
    name = options.name.value
    with doing(f"removal of the instance '{name}'"):
        return attempted(host, lambda: _attempt(host, options), transition="remove instance", instance=name)


def _attempt(host: Run, options: InstanceOptions) -> Outcome:
    if nothing_to_recover(host) and recorded(host, options) is None:
        return _nothing(host, options)
    with host.lock(instance_lock(options.name.value)):
        recover(host)
        instance = recorded(host, options)
        if instance is None:
            return _nothing(host, options)
        before, facts = instance_view(host, instance), {"removed": [path_of(instance.name)]}
        if not host.dry_run:
            with host.log.transition("remove instance", instance=instance.name):
                _remove(host, instance)
        return Outcome(before, instance_view(host, None), True, facts, tuple(host.settled))


def _remove(host: Run, instance: Instance) -> None:
    with host.store.transaction():  # a run that makes links again looks at the row in a transaction, too
        withdraw(host.dm.root, instance.name)
        crash_point("instance:withdrawn")
        for operation in host.store.all(Operation, "kind=? AND subject=?", OperationKind.BIND.value, instance.name):
            host.store.drop(operation)
        host.store.drop(instance)
        mark_used(host, instance.shown[1])
    host.removed.append(path_of(instance.name))
    stop_timer_of(host, instance)


def _nothing(host: Run, options: InstanceOptions) -> Outcome:
    view, names = instance_view(host, None), sorted(one.name for one in host.store.all(Instance))
    there = f"there are: {', '.join(names)}" if names else "there is none at all"
    warning = f"there is no instance '{options.name}' in {host.settings.state_dir}, so nothing is removed; {there}"
    facts: Facts = {"removed": [], "warnings": [] if not names else [warning]}
    return Outcome(view, view, False, facts, tuple(host.settled))

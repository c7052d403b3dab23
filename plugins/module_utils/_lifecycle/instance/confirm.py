# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Confirm a bind that waits for it: the name keeps its generation."""

from __future__ import annotations

from ..._errors import OutOfOrder, doing
from ..._host.processes.crash import crash_point
from ..attempts import attempted
from ..outcome import Outcome
from ..run import Run
from ..store.instance_record import Instance
from ..store.lock_names import instance_lock
from ..store.records import Operation, OperationKind
from ..volumes.recover import nothing_to_recover, recover
from .bind import bound_facts
from .choosing import asked_generation, recorded
from .flip import confirm
from .options import InstanceOptions
from .views import instance_view
from .waiting import stop_timer


def confirm_bind(host: Run, options: InstanceOptions) -> Outcome:
    """Confirm the bind that waits for it; one that is confirmed is unchanged.

    Raises ``OutOfOrder`` when the name points at another generation: it was not bound, or went back meanwhile.
    """
    name = options.name.value
    with doing(f"confirmation of the instance '{name}'"):
        return attempted(
            host, lambda: _confirmed(host, options), transition="confirm", instance=name, key=str(options.key)
        )


def _confirmed(host: Run, options: InstanceOptions) -> Outcome:
    with host.lock(instance_lock(options.name.value)):
        if not nothing_to_recover(host):
            recover(host)  # a bind whose time has passed goes back now
        image, instance = asked_generation(host, options), recorded(host, options)
        view = instance_view(host, instance)
        if instance is None or instance.shown[0] != image.id:
            raise OutOfOrder(
                f"the instance '{options.name}' points at {_what(host, instance)}, not at sha256:{image.sha256} of {options.key}",
                hint="it was not bound to that generation, or it was not confirmed in time and went back: bind it again (state: present)",
            )
        if instance.is_confirmed:
            return Outcome(view, view, False, bound_facts(host, instance), tuple(host.settled))
        operation = host.store.find(Operation, "kind=? AND subject=?", OperationKind.BIND.value, instance.name)
        if host.dry_run or operation is None:
            return Outcome(view, {**view, "confirmed": True}, True, {**bound_facts(host, instance), "confirmed": True})
        with host.log.transition("confirm", instance=instance.name, key=str(options.key), image=image.id):
            after = confirm(host, instance, operation)
            crash_point("confirm:recorded")
            stop_timer(host, instance.name)
        facts = bound_facts(host, after)
    return Outcome(view, instance_view(host, after), True, facts, tuple(host.settled))


def _what(host: Run, instance: Instance | None) -> str:
    image = host.store.generation(instance.shown[0]) if instance else None
    return f"sha256:{image.sha256} of {image.object_key}" if image else "nothing"

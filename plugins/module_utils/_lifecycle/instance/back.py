# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rollback: point the name at the generation that the store has as current, and switch the guest to it.

Invariant: it can be repeated from the start at any time, and ends with the operation's row removed. The guest is switched only in the boot
in which it was switched forward: after a reboot, no guest runs that would have to be switched.
"""

from __future__ import annotations

from ..._errors import FlydError
from ..._host.processes import hook
from ..._host.processes.crash import crash_point
from ..._host.processes.process import boot_id
from ..diff import is_mapped
from ..outcome import Facts
from ..run import Run
from ..store.instance_record import Instance
from ..store.records import Operation
from ..store.store import utc_now
from .link import path_of, publish, withdraw
from .options import Settings
from .views import content_of


def return_to_current(host: Run, operation: Operation) -> str:
    """Undo an open bind, or finish a rollback; what the switch command said when it failed, else empty.

    An instance that has never been confirmed is gone afterwards. A guest whose device is not mapped is not switched.
    """
    instance = host.store.find(Instance, "name=?", operation.subject)
    failure = ""
    if instance is not None:
        content = content_of(host, instance.current_id, instance.current_ulid) if instance.current_id else None
        if content is None or not is_mapped(host, content.ulid):  # the name is made again once its device is mapped
            withdraw(host.dm.root, instance.name)
        else:
            publish(host.dm.root, instance.name, content)
            crash_point("back:flipped")
            if operation.boot_id == boot_id():
                failure = _switched_back(host, instance, content.device)
    crash_point("back:switched")
    with host.store.transaction():
        # Read again: nothing else writes the row while its operation is open, but an instance may have been removed by force.
        now = host.store.find(Instance, "name=?", operation.subject)
        if now is not None and not now.current_id:
            host.store.drop(now)
        elif now is not None:
            host.store.put(without_target(now, left_id=now.target_id or now.left_id))
        host.store.drop(operation)
    return failure


def without_target(instance: Instance, *, left_id: str) -> Instance:
    """``instance`` with no bind open."""
    return instance._replace(
        target_id="", target_ulid="", target_settings="{}", deadline_seconds=0, left_id=left_id, updated_at=utc_now()
    )


def hook_environment(name: str, device: str) -> dict[str, str]:
    """What the operator's programs find in their environment."""
    return {"FLYD_INSTANCE": name, "FLYD_LINK": path_of(name), "FLYD_DEVICE": device}


def run_switch(host: Run, name: str, settings: Settings, device: str) -> None:
    """Switch the guest, when there is a command for it."""
    if settings.switch:
        environment = hook_environment(name, device)
        hook.switch(host.runner, settings.switch, timeout_seconds=settings.switch_timeout, environment=environment)


def _switched_back(host: Run, instance: Instance, device: str) -> str:
    """Run the switch command that the current generation was confirmed with; of one without, that of the bind that failed."""
    settings = Settings.from_json(instance.settings)
    if not settings.switch:
        settings = Settings.from_json(instance.target_settings)
    try:
        run_switch(host, instance.name, settings, device)
    except FlydError as error:
        facts: Facts = {"error_kind": error.kind.value, "error": str(error)}
        host.log.write("not switched back", instance=instance.name, **facts)
        return error.msg
    return ""

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rollback on request: an instance points again at the generation that it had before.

Invariant: an instance is never rolled back twice in a row: one that was rolled back, automatically or on request, stays there until it is bound
again. From the first commit on, the earlier generation is the current one, so a killed run is finished, not undone.
"""

from __future__ import annotations

from ..._errors import OutOfOrder, Unhealthy, doing
from ..._host.processes.crash import crash_point
from ..attempts import attempted
from ..outcome import Facts, Outcome
from ..run import Run
from ..store.instance_record import Instance
from ..store.lock_names import instance_lock
from ..store.records import Image, Operation, OperationKind, Snapshot
from ..store.store import utc_now
from ..volumes.recover import nothing_to_recover, recover
from ..volumes.uses import mark_used
from .back import return_to_current
from .bind import bound_facts
from .choosing import make_held, recorded
from .flip import Timing, look
from .options import InstanceOptions, Settings
from .views import content_of, instance_view
from .waiting import stop_timer


def go_back(host: Run, options: InstanceOptions) -> Outcome:
    """Point at the previous generation, switch the guest, look at its health; unchanged when it has gone back already.

    Raises ``OutOfOrder`` when there is nothing to go back to, and ``Unhealthy``, with all of it done, when the guest is not well there.
    """
    name = options.name.value
    with doing(f"going back of the instance '{name}'"):
        return attempted(host, lambda: _attempt(host, options), transition="back", instance=name, key=str(options.key))


def _attempt(host: Run, options: InstanceOptions) -> Outcome:
    if nothing_to_recover(host) and _is_back(host, options, recorded(host, options)):
        return _unchanged(host, options)
    with host.lock(instance_lock(options.name.value)):
        recover(host)
        instance = recorded(host, options)
        if _is_back(host, options, instance):
            return _unchanged(host, options)
        if instance is None:
            raise OutOfOrder(
                f"there is no instance '{options.name}' on this host",
                hint="see flyd_info (what: instances) for those that there are",
            )
        return _gone_back(host, options, instance)


def _is_back(host: Run, options: InstanceOptions, instance: Instance | None) -> bool:
    """Whether the generation that is asked for is the confirmed one; without a digest, whether the last change was a rollback."""
    if instance is None or not instance.is_confirmed:
        return False
    current = host.store.generation(instance.current_id)
    return current is not None and current.sha256 == options.sha256 if options.sha256 else bool(instance.left_id)


def _unchanged(host: Run, options: InstanceOptions) -> Outcome:
    instance = recorded(host, options)
    if instance is None:
        raise AssertionError("an instance that is back is recorded")
    view = instance_view(host, instance)
    return Outcome(view, view, False, bound_facts(host, instance), tuple(host.settled))


def _gone_back(host: Run, options: InstanceOptions, instance: Instance) -> Outcome:
    earlier_id = instance.current_id if instance.target_id else instance.previous_id
    earlier = host.store.generation(earlier_id) if earlier_id else None
    _require_earlier(host, options, instance, earlier)
    before = instance_view(host, instance)
    if host.dry_run or earlier is None:
        changes: Facts = {"current": earlier and earlier.sha256, "previous": None, "confirmed": True}
        facts = {
            **bound_facts(host, instance),
            **changes,
            "went_back": True,
            "device": None,
            "ulid": None,
            "drive": None,
        }
        return Outcome(before, {**before, **changes, "device": _device(host, options, earlier)}, True, facts)
    timing = Timing()
    with host.log.transition("back", instance=instance.name, key=earlier.object_key, image=earlier.id) as log:
        with timing.step("snapshot"):
            snapshot = make_held(host, earlier, _for(options, earlier), log)
        operation = _record(host, instance, earlier, snapshot)
        crash_point("back:planned")
        with timing.step("switch"):
            failure = return_to_current(host, operation)
        stop_timer_of(host, instance)
        host.flipped.append(instance.name)
        after = recorded(host, options) or instance
        report = _looked(host, after, failure, timing)
    facts = {**bound_facts(host, after), "went_back": True, "seconds": timing.seconds, "health": report}
    return Outcome(before, instance_view(host, after), True, facts, tuple(host.settled))


def _require_earlier(host: Run, options: InstanceOptions, instance: Instance, earlier: Image | None) -> None:
    if earlier is not None and options.sha256 in ("", earlier.sha256):
        return
    has = f"sha256:{earlier.sha256}" if earlier else "none"
    raise OutOfOrder(
        f"the instance '{instance.name}' cannot go back to {'sha256:' + options.sha256 if options.sha256 else 'an earlier generation'}: "
        f"the one before is {has}",
        hint="bind it to any generation that is on this host with state: present and sha256, after flyd_fetch (checksum) and flyd_unpack for it",
    )


def _device(host: Run, options: InstanceOptions, earlier: Image | None) -> str | None:
    found = earlier and host.store.find(Snapshot, "image_id=? AND name=?", earlier.id, options.name.value)
    return found.device if found else None


def _for(options: InstanceOptions, image: Image) -> InstanceOptions:
    """The options of the snapshot for another generation: as it is there, whatever is asked of a new one."""
    key = type(options.key)(image.object_key)
    snapshot = options.snapshot._replace(key=key, size_bytes=0, read_only=None)
    return options._replace(key=key, sha256=image.sha256, snapshot=snapshot)


def _record(host: Run, instance: Instance, earlier: Image, snapshot: Snapshot) -> Operation:
    """Commit what is current from now on, with the intent to make it so. A bind that waits keeps its intent, and its row is undone."""
    with host.store.transaction():
        mark_used(host, instance.shown[1], snapshot.ulid)
        waiting = host.store.find(Operation, "kind=? AND subject=?", OperationKind.BIND.value, instance.name)
        if waiting is not None and instance.target_id:
            host.store.put(instance._replace(current_ulid=snapshot.ulid))
            return waiting
        operation = host.begin(OperationKind.BIND, instance.name)
        after = instance._replace(
            current_id=earlier.id,
            current_ulid=snapshot.ulid,
            previous_id="",
            left_id=instance.current_id,
            updated_at=utc_now(),
        )
        host.store.put(after)
        host.store.put(operation)
    return operation


def stop_timer_of(host: Run, instance: Instance) -> None:
    """Stop the timer of a bind that waits no longer."""
    if instance.deadline_seconds:
        stop_timer(host, instance.name)


def _looked(host: Run, instance: Instance, failure: str, timing: Timing) -> list[Facts]:
    """The guest's health after it; what failed is raised, and nothing is changed again."""
    settings, content = Settings.from_json(instance.settings), content_of(host, *instance.shown)
    if failure or content is None:
        raise Unhealthy(
            f"the instance '{instance.name}' points at its previous generation, but its guest was not switched: {failure or 'its device is gone'}",
            hint="the link and the database are right: run the switch command by hand, or run again what brings the guest up",
        )
    try:
        with timing.step("health"):
            return look(host, instance.name, settings, content.device, settings.watch).to_json()
    except Unhealthy as error:
        error.msg += "; it has gone back already, and nothing is changed again"
        raise

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A flip: snapshot, intent, link, switch, health, confirmation.

Invariant: the intent is committed before the link changes, and its row is removed in the transaction of the confirmation. A flip that ends
before that is undone: at once by this run, by the next run, or at boot.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ..._errors import FlydError, Transient, Unhealthy
from ..._host.health import Report, Watch, await_health
from ..._host.processes import hook
from ..._host.processes.crash import crash_point
from ..outcome import Facts
from ..run import Run
from ..store.instance_record import Instance
from ..store.records import Image, Operation, OperationKind, Snapshot
from ..store.store import utc_now
from ..volumes.uses import mark_used
from .back import hook_environment, return_to_current, run_switch, without_target
from .choosing import make_held
from .link import publish
from .options import InstanceOptions, Settings
from .views import content_of, instance_facts
from .waiting import now_seconds, require_timer, start_timer, stop_timer


class Timing:
    """How long each step took, in seconds."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time one step, also of one that fails."""
        begun = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(time.monotonic() - begun, 3)


def flip(
    host: Run, options: InstanceOptions, image: Image, instance: Instance, settings: Settings
) -> tuple[Instance, Facts]:
    """Bind ``instance`` to ``image``, after ``require_programs``; the row as it was committed, and what flyd_instance returns."""
    name, timing = options.name.value, Timing()
    with host.log.transition("bind", instance=name, key=str(options.key), image=image.id) as log:
        with timing.step("snapshot"):
            snapshot = make_held(host, image, options, log)
        pending, operation = _begin(host, instance, image, snapshot, settings)
        crash_point("bind:planned")
        try:
            report = _forward(host, pending, settings, timing)
            after = _end(host, pending, operation, settings)
        except BaseException as error:
            _undo(host, pending, operation, error)
            raise
        log.update(
            device=snapshot.device,
            confirmed=after.is_confirmed,
            **{f"{step}_seconds": took for step, took in timing.seconds.items()},
        )
    facts = {**instance_facts(host, after), "went_back": False, "seconds": timing.seconds, "health": report.to_json()}
    return after, facts


def require_programs(host: Run, settings: Settings) -> None:
    """Raise what would stop the flip, before anything is made."""
    if settings.switch:
        hook.resolved(settings.switch, what="switch")
    if settings.check.command:
        hook.resolved(settings.check.command, what="health: command")
    if settings.confirm_within:
        require_timer(host)


def _begin(
    host: Run, instance: Instance, image: Image, snapshot: Snapshot, settings: Settings
) -> tuple[Instance, Operation]:
    """Commit the intent. A bind that still waited to be confirmed is replaced: a rollback leads to what was confirmed last."""
    operation = host.begin(OperationKind.BIND, instance.name)
    with host.store.transaction():
        if host.store.find(Snapshot, "ulid=?", snapshot.ulid) is None or host.store.generation(image.id) is None:
            raise Transient(
                f"the snapshot {snapshot.device} was removed while the instance was being bound to it",
                hint="run again: it is made again",
            )
        now = host.store.find(Instance, "name=?", instance.name) or instance._replace(created_at=utc_now())
        pending = now._replace(
            target_id=image.id,
            target_ulid=snapshot.ulid,
            target_settings=json.dumps(settings.to_json()),
            deadline_seconds=0,
            updated_at=utc_now(),
        )
        for earlier in host.store.all(Operation, "kind=? AND subject=?", OperationKind.BIND.value, instance.name):
            host.store.drop(earlier)
        host.store.put(pending)
        host.store.put(operation)
        mark_used(host, now.current_ulid, snapshot.ulid)
    return pending, operation


def _forward(host: Run, pending: Instance, settings: Settings, timing: Timing) -> Report:
    content = content_of(host, pending.target_id, pending.target_ulid)
    if content is None:
        raise Transient(
            f"what the instance '{pending.name}' was to point at was removed meanwhile",
            hint="run again: it is made again",
        )
    with timing.step("flip"):
        publish(host.dm.root, pending.name, content)
    crash_point("bind:flipped")
    with timing.step("switch"):
        run_switch(host, pending.name, settings, content.device)
    crash_point("bind:switched")
    with timing.step("health"):
        report = look(host, pending.name, settings, content.device, settings.watch)
    crash_point("bind:healthy")
    return report


def look(host: Run, name: str, settings: Settings, device: str, watch: Watch) -> Report:
    """Wait until the guest is healthy; raises ``Unhealthy`` after the deadline."""
    return await_health(
        settings.check,
        watch,
        what=f"the instance '{name}'",
        environment=hook_environment(name, device),
        sleep=host.retry.sleep,
        clock=host.retry.clock,
    )


def _end(host: Run, pending: Instance, operation: Operation, settings: Settings) -> Instance:
    """Confirm, or leave the bind open until it is confirmed or its time has passed."""
    if not settings.confirm_within:
        return confirm(host, pending, operation)
    waiting = pending._replace(deadline_seconds=int(now_seconds()) + settings.confirm_within)
    # The timer first: it ends behind the deadline, and a run that is killed in between is undone like any other.
    start_timer(host, pending.name, settings.confirm_within)
    crash_point("bind:timed")
    with host.store.transaction():
        host.store.put(waiting)
    return waiting


def confirm(host: Run, pending: Instance, operation: Operation) -> Instance:
    """Record that the name points at its target for good, and that this generation was confirmed."""
    is_same = pending.current_id == pending.target_id
    after = without_target(pending, left_id="")._replace(
        current_id=pending.target_id,
        current_ulid=pending.target_ulid,
        previous_id=pending.previous_id if is_same else pending.current_id,
        settings=pending.target_settings,
    )
    with host.store.transaction():
        image = host.store.generation(pending.target_id)
        if image is None:
            raise Transient(
                f"the generation that the instance '{pending.name}' points at was removed meanwhile",
                hint="run again: find out which run removes generations that are in use",
            )
        host.store.put(after)
        if not image.confirmed_at:
            host.store.change(image, confirmed_at=utc_now())
        host.store.drop(operation)
    return after


def _undo(host: Run, pending: Instance, operation: Operation, error: BaseException) -> None:
    """Go back now. What cannot be done now stays an open intent for the next run."""
    details = error.details if isinstance(error, FlydError) else {}
    try:
        if pending.deadline_seconds or json.loads(pending.target_settings).get("confirm_within"):
            stop_timer(host, pending.name)
        failure = return_to_current(host, operation)
        host.flipped.append(pending.name)
        details["went_back"] = bool(pending.current_id)
        _say(host, pending, error, failure)
    except (FlydError, OSError) as second:
        details["left_for_next_run"] = f"bind of {pending.name}: {second}"


def _say(host: Run, pending: Instance, error: BaseException, failure: str) -> None:
    """Complete the error's text: which generation the name points at now, and whether that one is well."""
    if not isinstance(error, FlydError):
        return
    if not pending.current_id:
        error.msg += "; there is no earlier generation, so the name is gone again"
        return
    earlier = host.store.generation(pending.current_id)
    error.msg += f"; went back to sha256:{earlier.sha256 if earlier else '?'}"
    if failure:
        error.msg += f", but {failure}"
        return
    error.msg += _health_after(host, pending)


def _health_after(host: Run, pending: Instance) -> str:
    """How the generation does that was gone back to: it is only said, and never a reason for another change."""
    settings = Settings.from_json(pending.settings)
    content = content_of(host, pending.current_id, pending.current_ulid)
    if content is None or not settings.check.to_json():
        return ""
    try:
        look(host, pending.name, settings, content.device, settings.watch._replace(min_healthy=0.0))
    except Unhealthy as second:
        return f", which is not healthy either: {second.msg}"
    return ", which is healthy"

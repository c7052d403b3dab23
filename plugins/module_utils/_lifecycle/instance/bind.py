# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""activated → bound: a name points at one generation, and its guest is healthy.

Here is what a run with nothing to do needs; the work is in flip.py.
"""

from __future__ import annotations

import json

from ..._errors import doing
from ..attempts import attempted
from ..diff import NEW_ULID
from ..outcome import Facts, Outcome
from ..run import Run
from ..store.instance_record import Instance
from ..store.lock_names import instance_lock
from ..store.records import Image, Snapshot
from ..volumes.recover import nothing_to_recover, recover
from .choosing import asked_generation, held_snapshot, recorded
from .link import is_published, path_of, require_own
from .options import InstanceOptions, Settings
from .views import content_of, instance_facts, instance_view, sha256_of


def bind(host: Run, options: InstanceOptions) -> Outcome:
    """Let the instance point at the generation, or find that it does."""
    name = options.name.value
    with doing(f"binding of the instance '{name}'"):
        return attempted(host, lambda: _attempt(host, options), transition="bind", instance=name, key=str(options.key))


def _attempt(host: Run, options: InstanceOptions) -> Outcome:
    require_own(host.dm.root, options.name.value, host.settings.path())
    if nothing_to_recover(host):
        image = asked_generation(host, options)
        held = _held(host, options, image)
        if held is not None and _settings(held, options) == _recorded(held):
            return _unchanged(host, held)
    with host.lock(instance_lock(options.name.value)):
        recover(host)
        return _bound(host, options)


def _bound(host: Run, options: InstanceOptions) -> Outcome:
    image = asked_generation(host, options)
    instance = recorded(host, options)
    held = _held(host, options, image)
    before, settings = instance_view(host, instance), _settings(instance, options)
    if held is not None and settings == _recorded(held):
        return _unchanged(host, held)
    from .flip import flip, require_programs  # late: a run with nothing to do needs nothing of it

    require_programs(host, settings)
    if held is not None:
        return _resettled(host, held, settings, before)
    if host.dry_run:
        return _predicted(host, options, image, instance, settings)
    after, facts = flip(host, options, image, instance or Instance(options.name.value), settings)
    return Outcome(before, instance_view(host, after), True, facts, tuple(host.settled))


def _held(host: Run, options: InstanceOptions, image: Image) -> Instance | None:
    """The instance, when it points at ``image`` by its link and its row; one that waits to be confirmed is one, too. Writes nothing."""
    instance = recorded(host, options)
    if instance is None or not image.id or instance.shown[0] != image.id:
        return None
    snapshot = held_snapshot(host, image, options)
    if snapshot is None or snapshot.ulid != instance.shown[1]:
        return None
    content = content_of(host, *instance.shown)
    return instance if content is not None and is_published(host.dm.root, instance.name, content) else None


def _recorded(instance: Instance | None) -> Settings:
    if instance is None:
        return Settings()
    return Settings.from_json(instance.target_settings if instance.target_id else instance.settings)


def _settings(instance: Instance | None, options: InstanceOptions) -> Settings:
    return options.asked.over(_recorded(instance))


def _unchanged(host: Run, instance: Instance) -> Outcome:
    view = instance_view(host, instance)
    return Outcome(view, view, False, bound_facts(host, instance), tuple(host.settled))


def bound_facts(host: Run, instance: Instance) -> Facts:
    """What flyd_instance returns of an instance for which nothing was done."""
    return {**instance_facts(host, instance), "went_back": False, "seconds": {}, "health": []}


def _resettled(host: Run, instance: Instance, settings: Settings, before: Facts) -> Outcome:
    """The generation is as asked for, the options around it perhaps are not: they count from the next flip on."""
    text = json.dumps(settings.to_json())
    after = instance._replace(target_settings=text) if instance.target_id else instance._replace(settings=text)
    if not host.dry_run:
        with host.store.transaction():
            host.store.put(after)
    return Outcome(before, instance_view(host, after), True, bound_facts(host, after), tuple(host.settled))


def _predicted(
    host: Run, options: InstanceOptions, image: Image, instance: Instance | None, settings: Settings
) -> Outcome:
    """What the flip would change; neither switch nor health is run."""
    before = instance_view(host, instance)
    found = host.store.find(Snapshot, "image_id=? AND name=?", image.id, options.name.value)
    _changes, snapshot = _activation(host, image, options)
    now = instance or Instance(options.name.value)
    is_same = now.current_id == image.id
    earlier = now.previous_id if is_same else now.current_id
    confirmed = not settings.confirm_within
    if not confirmed:
        earlier = now.current_id
    generations = {
        "current": snapshot["sha256"],
        "previous": sha256_of(host, earlier),
        "confirmed": confirmed,
    }
    link = path_of(options.name.value)
    device = found.device if found else f"/dev/mapper/snap-{NEW_ULID}"
    after = {"link": link, "device": device, **generations, **settings.to_json()}
    facts = {
        "name": options.name.value,
        "key": str(options.key),
        **{name: snapshot[name] for name in ("image_id", "sha256", "trust", "vouched_by", "platform", "config")},
        "link": link,
        **{name: snapshot[name] for name in ("device", "ulid", "drive")},
        **generations,
        "went_back": False,
        "seconds": {},
        "health": [],
    }
    return Outcome(before, after, True, facts, tuple(host.settled))


def _activation(host: Run, image: Image, options: InstanceOptions) -> tuple[Facts, Facts]:
    from ..snapshot.snapshot import Activate

    arrow = Activate(options.snapshot)
    arrow.admit(host, image)
    return arrow.predict(host, image)

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An instance as results, diffs and its public directory show it; all of it is read from the store.

Invariant: a name that points at a snapshot which the store does not have (any more) points at nothing.
"""

from __future__ import annotations

import json

from ..diff import drive_of, image_facts
from ..outcome import Facts
from ..run import Run
from ..store.instance_record import Instance
from ..store.records import Image, Snapshot
from .link import Content, path_of
from .options import Settings


def content_of(host: Run, image_id: str, ulid: str) -> Content | None:
    """What a name that points at that snapshot of that generation has to show; None when either is gone."""
    image, snapshot = host.store.generation(image_id), host.store.find(Snapshot, "ulid=?", ulid)
    if image is None or snapshot is None:
        return None
    facts = image_facts(image)
    about = {
        "key": image.object_key,
        "snapshot": snapshot.name,
        "ulid": snapshot.ulid,
        "state_dir": host.settings.path(),
        **{name: facts[name] for name in ("image_id", "sha256", "trust", "platform")},
    }
    return Content(snapshot.ulid, snapshot.device, drive_of(snapshot), json.loads(image.config), about)


def sha256_of(host: Run, image_id: str) -> str | None:
    """The digest of a generation; None for one that is not there."""
    image = host.store.generation(image_id) if image_id else None
    return image.sha256 if image else None


def instance_view(host: Run, instance: Instance | None) -> Facts:
    """For a diff: what the name points at, and what is remembered with it."""
    if instance is None:
        return {"link": None, "current": None, "previous": None, "confirmed": False}
    facts = _generations(host, instance)
    snapshot = host.store.find(Snapshot, "ulid=?", instance.shown[1])
    recorded = Settings.from_json(instance.target_settings if instance.target_id else instance.settings)
    return {"link": path_of(instance.name), "device": snapshot and snapshot.device, **facts, **recorded.to_json()}


def _generations(host: Run, instance: Instance) -> Facts:
    earlier = instance.current_id if instance.target_id else instance.previous_id
    return {
        "current": sha256_of(host, instance.shown[0]),
        "previous": sha256_of(host, earlier),
        "confirmed": instance.is_confirmed,
    }


def instance_facts(host: Run, instance: Instance) -> Facts:
    """What flyd_instance returns, and flyd_info of each."""
    image_id, ulid = instance.shown
    image = host.store.generation(image_id)
    snapshot = host.store.find(Snapshot, "ulid=?", ulid)
    return {
        "name": instance.name,
        "key": image and image.object_key,
        **image_facts(image or Image("", "")),
        "link": path_of(instance.name),
        "device": snapshot and snapshot.device,
        "ulid": snapshot and snapshot.ulid,
        "drive": snapshot and drive_of(snapshot),
        **_generations(host, instance),
    }

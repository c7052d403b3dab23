# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The generation that an instance is requested to point at, and its snapshot.

Invariant: nothing is made here but the snapshot, and that as flyd_snapshot makes it.
"""

from __future__ import annotations

from ..._errors import OutOfOrder
from ..diff import assumed_generation
from ..image.placement import require_in_pool
from ..outcome import Facts
from ..run import Run
from ..snapshot.snapshot import Activate
from ..store.generations import generation_of
from ..store.instance_record import Instance
from ..store.lock_names import image_lock
from ..store.records import Image, Snapshot, State
from .options import InstanceOptions


def recorded(host: Run, options: InstanceOptions) -> Instance | None:
    """The instance as the store has it; raises ``BadInput`` when the pool that is named does not hold what it points at."""
    instance = host.store.find(Instance, "name=?", options.name.value)
    image = instance and host.store.generation(instance.shown[0])
    if image is not None and host.settings.names_pool:
        require_in_pool(host, image, host.settings.pool.value)
    return instance


def asked_generation(host: Run, options: InstanceOptions) -> Image:
    """The generation; raises ``OutOfOrder`` when it is not on this host or not unpacked. In a dry run earlier steps count as done."""
    key = str(options.key)
    if not options.sha256:
        image = host.store.image_or_new(key)
        if host.dry_run and ("generation" in options.assume or not image.id):
            return assumed_generation(key)
    else:
        found = generation_of(host.store, key, options.sha256)
        if found is None and host.dry_run:
            return assumed_generation(key, options.sha256)
        image = found or Image("", key)
    if not host.dry_run and not image.base_ulid and not _snapshot_of(host, image, options.name.value):
        raise _not_unpacked(host, options, image)
    return image


def _not_unpacked(host: Run, options: InstanceOptions, image: Image) -> OutOfOrder:
    which = f"sha256:{options.sha256}" if options.sha256 else "the current generation"
    has = ", ".join(f"sha256:{one.sha256}" for one in host.store.generations(str(options.key)) if one.base_ulid)
    state = "is not on this host" if not image.id else f"is {image.state.value}, not yet unpacked"
    return OutOfOrder(
        f"{which} of {options.key} {state}; unpacked are: {has or 'none'}",
        hint="run flyd_fetch and flyd_unpack for it first (flyd_fetch with checksum: sha256:… for an earlier one)",
        state=image.state.value,
    )


def _snapshot_of(host: Run, image: Image, name: str) -> Snapshot | None:
    return host.store.find(Snapshot, "image_id=? AND name=?", image.id, name) if image.id else None


def held_snapshot(host: Run, image: Image, options: InstanceOptions) -> Snapshot | None:
    """The generation's snapshot of the instance's name, when it is there, mapped, and as asked for. Writes nothing."""
    arrow = Activate(options.snapshot)
    arrow.admit(host, image)
    if image.state.rank < State.UNPACKED.rank or arrow.holds(host, image) is None:
        return None
    return _snapshot_of(host, image, options.name.value)


def make_held(host: Run, image: Image, options: InstanceOptions, log: Facts) -> Snapshot:
    """The same, made or mapped when it is not."""
    with host.lock(image_lock(image.object_key)):
        now = host.store.generation(image.id) or image
        found = held_snapshot(host, now, options)
        if found is None:
            Activate(options.snapshot).perform(host, now, log)
            found = _snapshot_of(host, now, options.name.value)
    if found is None:
        raise AssertionError("a snapshot that was made is recorded")
    return found

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers for Prometheus, in the text format that node-exporter's textfile collector reads.

Invariant: nothing is written. What is read is the store, the kernel's status of the pools and the log's counters, which the runs keep
(counters.py): never the log as a whole, however large.
Source: https://prometheus.io/docs/instrumenting/exposition_formats/ (text format 0.0.4).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ..._errors import FlydError
from ..._thin.dm.device import SECTOR_BYTES
from ..._thin.dm.table import METADATA_BLOCK_BYTES, PoolStatus
from ..._thin.pool.thin_pool import require_healthy, status
from ..growth.due import growth_due
from ..growth.reach import can_grow_to
from ..log.counters import Key, read
from ..log.rotation import opened
from ..run import Run
from ..store.records import Image, Operation, PoolRecord, RetiredImage, Snapshot, Volume
from ..volumes.recover import abandoned

Sample = tuple[str, dict[str, str], float]

_HELP = {
    "flyd_pool_active": "gauge: whether the pool's device is there",
    "flyd_pool_healthy": "gauge: whether new volumes may be made in the pool",
    "flyd_pool_data_bytes": "gauge: size of the pool's data",
    "flyd_pool_data_used_bytes": "gauge: data that the pool has given out",
    "flyd_pool_metadata_bytes": "gauge: size of the pool's metadata",
    "flyd_pool_metadata_used_bytes": "gauge: metadata in use",
    "flyd_pool_max_bytes": "gauge: the size that the pool's data can grow to by its policy now; what it has, when it cannot",
    "flyd_pool_can_grow": "gauge: whether the pool's data can grow by its policy",
    "flyd_pool_short": "gauge: whether data or metadata is so short that the pool grows by its policy, if it can",
    "flyd_images": "gauge: images by state; retired ones are earlier generations",
    "flyd_snapshots": "gauge: recorded snapshots by whether they are mapped",
    "flyd_open_operations": "gauge: work under way, and work of interrupted runs that waits to be settled",
    "flyd_transitions_total": "counter: transitions that ended, by outcome",
    "flyd_transition_seconds_total": "counter: seconds that these transitions took",
    "flyd_failures_total": "counter: runs that failed, by kind of error",
    "flyd_security_events_total": "counter: runs that were given bytes that are not what they must be",
    "flyd_settled_total": "counter: leftovers of interrupted runs that were finished or undone",
    "flyd_lost_volumes_total": "counter: volumes that a pool had lost",
}

# What is counted of the log: the counter's name and its labels.
_COUNTERS = {
    "transitions": ("flyd_transitions_total", ("transition", "outcome", "error_kind")),
    "seconds": ("flyd_transition_seconds_total", ("transition",)),
    "failures": ("flyd_failures_total", ("error_kind",)),
    "security": ("flyd_security_events_total", ()),
    "settled": ("flyd_settled_total", ()),
    "lost": ("flyd_lost_volumes_total", ()),
}
_ALWAYS: tuple[Key, ...] = (("security",), ("settled",), ("lost",))


def metrics(host: Run) -> str:
    """The whole file."""
    samples = [*_pools(host), *_images(host), *_counters(host.settings.path("log"))]
    lines: list[str] = []
    for name, words in _HELP.items():
        kind, _colon, text = words.partition(": ")
        found = [f"{name}{_labels(labels)} {_number(value)}" for other, labels, value in samples if other == name]
        lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}", *found] if found else []
    return "".join(f"{line}\n" for line in lines)


def _pools(host: Run) -> Iterator[Sample]:
    for pool in host.store.all(PoolRecord):
        label = {"pool": pool.name}
        active = host.dm.find(pool.uuid) is not None
        yield "flyd_pool_active", label, active
        try:
            now = status(host.dm, pool.name) if active else None
        except FlydError:  # one that cannot be asked must not hide the others
            now = None
        if now is None:
            yield "flyd_pool_healthy", {**label, "mode": "none"}, 0
            continue
        block_bytes = pool.block_sectors * SECTOR_BYTES
        yield "flyd_pool_healthy", {**label, "mode": now.mode.value}, _is_healthy(now, pool)
        yield "flyd_pool_data_bytes", label, now.total_data_blocks * block_bytes
        yield "flyd_pool_data_used_bytes", label, now.used_data_blocks * block_bytes
        yield "flyd_pool_metadata_bytes", label, now.total_metadata_blocks * METADATA_BLOCK_BYTES
        yield "flyd_pool_metadata_used_bytes", label, now.used_metadata_blocks * METADATA_BLOCK_BYTES
        yield from _growth(host, pool, now)


def _growth(host: Run, pool: PoolRecord, now: PoolStatus) -> Iterator[Sample]:
    label, most_bytes = {"pool": pool.name}, can_grow_to(host, pool)
    yield "flyd_pool_max_bytes", label, most_bytes
    yield "flyd_pool_can_grow", label, most_bytes // SECTOR_BYTES >= pool.data_sectors + pool.block_sectors
    try:
        short = bool(growth_due(host, pool, now).why)
    except FlydError:  # the file system or device below it cannot be looked at
        return
    yield "flyd_pool_short", label, short


def _is_healthy(now: PoolStatus, pool: PoolRecord) -> bool:
    try:
        require_healthy(now, pool.min_free_percent)
    except FlydError:
        return False
    return True


def _images(host: Run) -> Iterator[Sample]:
    states = Counter(image.state.value for image in host.store.all(Image))
    states["retired"] = len(host.store.all(RetiredImage))
    for state, count in states.items():
        yield "flyd_images", {"state": state}, count
    uuids = {device.uuid for device in host.dm.devices()}
    volumes = {volume.ulid: volume.uuid for volume in host.store.all(Volume)}
    mapped = Counter(volumes.get(snapshot.ulid) in uuids for snapshot in host.store.all(Snapshot))
    for word in (True, False):
        yield "flyd_snapshots", {"mapped": str(word).lower()}, mapped[word]
    yield "flyd_open_operations", {"abandoned": "true"}, len(abandoned(host))
    yield "flyd_open_operations", {"abandoned": "false"}, len(host.store.all(Operation)) - len(abandoned(host))


def _counters(path: str) -> Iterator[Sample]:
    try:
        with opened(path, writable=False) as directory:
            counters = read(directory)
    except FileNotFoundError:
        counts: dict[Key, float] = {}  # nothing was ever done here
    else:
        if counters is None:
            return  # rather none than counters that jump when the log is counted
        counts = counters.counts
    found = {**dict.fromkeys(_ALWAYS, 0.0), **counts}
    for (what, *values), count in found.items():
        name, labels = _COUNTERS.get(what, ("", ()))
        if name and len(labels) == len(values):
            yield name, dict(zip(labels, values)), count


def _number(value: float) -> str:
    """Every digit of a whole number, which ``:g`` would round."""
    return str(int(value)) if value == int(value) else repr(round(value, 6))


def _labels(labels: dict[str, str]) -> str:
    escaped = {
        name: value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n") for name, value in labels.items()
    }
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped.items()) + "}" if labels else ""

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Resize an active pool to the present size of its files or devices.

Invariant: the table changes only by load, suspend and resume, and ``settle_size`` finishes or drops an interrupted change
before anything else is done.
"""

from __future__ import annotations

from ..._errors import DamagedPool
from ..._host.processes.command import Runner
from .. import loop
from ..dm.device_mapper import DeviceMapper
from .health import status
from .thin_pool import PoolSpec


def resize(dm: DeviceMapper, runner: Runner, spec: PoolSpec) -> None:
    """Let a pool that is up have the size of ``spec``, for which its files or devices are large enough by now.

    Its volumes go on working: their writes wait for as long as the pool is suspended.
    """
    metadata, data = refresh_loops(dm, runner, spec) or (spec.backing.metadata, spec.backing.data)
    dm.load(spec.name, spec.table(metadata, data))
    with dm.suspended(spec.name):
        pass  # the resume puts the new table in the place of the old one
    now = status(dm, spec.name)
    if now.total_data_blocks < spec.geometry.data_blocks:
        raise DamagedPool(
            f"the pool '{spec.name}' has {now.total_data_blocks} blocks after it was to grow to {spec.geometry.data_blocks}",
            hint="see `dmesg`: a pool whose metadata needs repair does not grow; flyd_pool repairs it with state: repaired",
        )


def refresh_loops(dm: DeviceMapper, runner: Runner, spec: PoolSpec) -> tuple[str, ...]:
    """Let the loop devices that there are see the size of their files; returns them, the metadata's first."""
    paths = [spec.backing.metadata, spec.backing.data] if spec.backing.is_loop else []
    loops = loop.find_all(runner, paths, sysfs=dm.sysfs) if paths else {}
    for path in loops:
        loop.take_size(runner, loops[path])
    return tuple(loops[path].path for path in paths if path in loops)


def settle_size(dm: DeviceMapper, name: str) -> None:
    """Finish or forget an interrupted change of a table, so that no later resume applies it."""
    device = dm.by_name(name)
    if device is not None and device.suspended:
        dm.running(device)
    elif device is not None:
        dm.clear(name)

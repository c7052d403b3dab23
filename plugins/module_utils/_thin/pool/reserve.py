# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The first MiB of a pool's data device, which no guest ever gets.

A thin pool gives out its data device from the start. What a guest writes to the block that it gets first lies where the host looks for
partition tables, file systems and members of arrays, when it boots: before the rule of prepare, and in the initramfs too. A device of the
operator's has no mark that a rule of udev could know it by. So a thin volume that is never mapped again takes the first blocks.

Invariant: the kernel gives out the lowest free block (dm-space-map-disk.c, sm_disk_new_block), so this must come before every other volume.
"""

from __future__ import annotations

import os

from ..._errors import CorruptStore
from ..._host.files.durable import file_errors
from ..dm.device_mapper import Device, DeviceMapper
from ..dm.table import MAX_THIN_ID
from ..volume import map_volume, unmap_volume
from .thin_pool import PoolSpec, ThinPool

RESERVED_ID = MAX_THIN_ID
RESERVED_BYTES = 1 << 20
_TEXT = b"flyd.lite: reserved, so that nothing of a guest lies at the start of this device\n"


def reserve_head(dm: DeviceMapper, pool_device: Device, spec: PoolSpec) -> None:
    """Take the first blocks of a pool that has no volume yet; what an interrupted run has done of it is done again."""
    thin = ThinPool(dm, spec.name)
    try:
        thin.create_thin(RESERVED_ID)
    except CorruptStore as error:
        if error.details.get("errno") != "EEXIST":
            raise
    block_bytes = spec.geometry.block_bytes
    blocks = min(-(-RESERVED_BYTES // block_bytes), spec.geometry.data_blocks)
    name, uuid = f"{spec.name}-reserved", f"{spec.uuid}-reserved"
    sectors = blocks * spec.geometry.block_sectors
    device = map_volume(dm, pool_device, name=name, uuid=uuid, thin_id=RESERVED_ID, sectors=sectors)
    _write(device.path, blocks, block_bytes)
    unmap_volume(dm, name, uuid)


def _write(path: str, blocks: int, block_bytes: int) -> None:
    with file_errors("reserving the start of the data device"):
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            for block in range(blocks):
                os.pwrite(fd, _TEXT, block * block_bytes)
            os.fsync(fd)
        finally:
            os.close(fd)

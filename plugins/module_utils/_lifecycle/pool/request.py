# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the options of flyd_pool mean for the pool that is recorded, or for a new one.

Invariant: an option that is left out keeps what an existing pool has; only a new pool gets a default. So two plays that differ only in
what they leave out want the same pool.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from ..._errors import BadInput
from ..._host.files.durable import file_errors
from ..._names import ShortName, exact_size_text, option_size, printable
from ..._thin.dm.device import SECTOR_BYTES
from ..._thin.dm.table import METADATA_BLOCK_BYTES
from ..._thin.pool.backing import device_bytes
from ..._thin.pool.geometry import MAX_METADATA_BYTES, compute_geometry
from ..._thin.pool.reserve import RESERVED_BYTES
from ..growth.policy import Policy, PolicyRequest
from ..run import Run
from ..store.records import PoolRecord
from .data_size import DataSize
from .state import PoolOptions

DEFAULT_FILE_BYTES = 2 << 30
DEFAULT_ERROR_IF_NO_SPACE = True
DEFAULT_MIN_FREE_PERCENT = 10


class PoolRequest(NamedTuple):
    """The options of flyd_pool as they were given; ``None`` and empty: left out. Sizes in bytes."""

    name: ShortName
    data: str = ""
    metadata: str = ""
    is_loop: bool = True
    data_size: DataSize | None = None
    metadata_bytes: int | None = None
    block_bytes: int | None = None
    low_water_blocks: int | None = None
    error_if_no_space: bool | None = None
    min_free_percent: int | None = None
    policy: PolicyRequest = PolicyRequest()
    adopt: bool = False
    key: str = ""  # of an image that is to be put into the pool

    def resolve(self, host: Run, pool: PoolRecord | None) -> PoolOptions:
        """The request with what was left out filled in from ``pool``, or from the defaults when there is none."""
        is_loop = self.is_loop if pool is None or self.data else pool.is_loop
        recorded = (
            (DEFAULT_ERROR_IF_NO_SPACE, DEFAULT_MIN_FREE_PERCENT)
            if pool is None
            else (pool.error_if_no_space, pool.min_free_percent)
        )
        data_bytes = self._data_bytes(host, pool, is_loop=is_loop)
        self._require_below_maximum(host, pool, data_bytes, is_loop=is_loop)
        is_whole_device = pool is None and not is_loop and self.metadata_bytes is None
        return PoolOptions(
            name=self.name,
            data=self.data,
            metadata=self.metadata,
            is_loop=is_loop,
            data_bytes=data_bytes,
            metadata_bytes=self._metadata_device_bytes(data_bytes) if is_whole_device else self.metadata_bytes,
            block_bytes=self.block_bytes,
            low_water_blocks=self.low_water_blocks,
            error_if_no_space=recorded[0] if self.error_if_no_space is None else self.error_if_no_space,
            min_free_percent=recorded[1] if self.min_free_percent is None else _percent(self.min_free_percent),
            policy=self.policy.over(Policy.recorded(pool.policy) if pool is not None else Policy()),
            adopt=self.adopt,
        )

    def _data_bytes(self, host: Run, pool: PoolRecord | None, *, is_loop: bool) -> int:
        path = self.data or (pool.data if pool is not None else "")
        if self.data_size is None:
            if pool is not None:
                return pool.data_sectors * SECTOR_BYTES
            return DEFAULT_FILE_BYTES if is_loop else _usable_bytes(path)
        if not self.data_size.is_percent:
            return self.data_size.amount
        if not is_loop:
            return min(self.data_size.of(device_bytes(path)), _usable_bytes(path))
        return self.data_size.of(_file_system_bytes(path or host.settings.state_dir))

    def _require_below_maximum(self, host: Run, pool: PoolRecord | None, data_bytes: int, *, is_loop: bool) -> None:
        """Raise ``BadInput`` for a max_size that the pool has passed already, or would."""
        if self.policy.max_size is None:
            return
        path = self.data or (pool.data if pool is not None else "")
        whole_bytes = _file_system_bytes(path or host.settings.state_dir) if is_loop else device_bytes(path)
        have_bytes = max(data_bytes, pool.data_sectors * SECTOR_BYTES if pool is not None else 0)
        if self.policy.max_size.of(whole_bytes) < have_bytes:
            raise BadInput(
                f"max_size: {self.policy.max_size.text()} is less than the {exact_size_text(have_bytes)} of data that the pool '{self.name}' has",
                hint=f"give max_size: {option_size(have_bytes)} or more, or max_size: none, for a pool that grows only on request",
            )

    def _metadata_device_bytes(self, data_bytes: int) -> int:
        """All of the metadata device that the kernel uses; raises ``BadInput`` when the pool may need more."""
        wanted = compute_geometry(data_bytes, None, self.block_bytes)
        found = device_bytes(self.metadata) // METADATA_BLOCK_BYTES * METADATA_BLOCK_BYTES
        if found < wanted.metadata_bytes:
            raise BadInput(
                f"the metadata device {printable(self.metadata)} has {exact_size_text(found)}, and {exact_size_text(wanted.data_bytes)} of data in blocks "
                f"of {exact_size_text(wanted.block_bytes)} may need {exact_size_text(wanted.metadata_bytes)} of metadata",
                hint=f"give a larger metadata_device, a smaller data_size or a larger block_size; with metadata_size: {option_size(found)} the pool is made "
                "all the same, and stops when its metadata is full",
            )
        return min(found, MAX_METADATA_BYTES)


def _usable_bytes(path: str) -> int:
    """A device without its end, where a host looks for members of arrays: no guest is to write there."""
    return device_bytes(path) - RESERVED_BYTES


def _percent(given: int) -> int:
    if not 0 <= given <= 99:
        raise BadInput(
            f"min_free_percent is {given}, which is not from 0 to 99",
            hint="give min_free_percent the share to keep free, for example 10",
        )
    return given


def _file_system_bytes(path: str) -> int:
    """The size of the file system that holds ``path``, or its nearest parent that exists."""
    while not os.path.exists(path) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    with file_errors("looking at the file system"):
        found = os.statvfs(path)
    return found.f_blocks * found.f_frsize

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The texts that device-mapper reads and prints: tables in, status lines out. No input or output here.

Invariant: a table made here always zeroes new blocks, so no volume shows what a removed one left behind; a status line that is
not understood in full is an error, never a guess.
Source: the kernel's Documentation/admin-guide/device-mapper/thin-provisioning.rst.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from ..._errors import Unsupported
from ..._names import printable

METADATA_BLOCK_BYTES = 4096
MAX_THIN_ID = 2**24 - 1
MIN_BLOCK_SECTORS = 128
MAX_BLOCK_SECTORS = 2097152


class PoolTable(NamedTuple):
    """A thin pool: two devices, ``data_sectors`` long, given out in blocks of ``block_sectors``.

    ``low_water_blocks`` is how many blocks may be left before the kernel raises an event.
    """

    metadata_device: str
    data_device: str
    data_sectors: int
    block_sectors: int
    low_water_blocks: int
    error_if_no_space: bool = True
    read_only: bool = False

    def text(self) -> str:
        """The line for ``dmsetup --table``."""
        features = [
            name
            for name, wanted in (("error_if_no_space", self.error_if_no_space), ("read_only", self.read_only))
            if wanted
        ]
        arguments = [self.metadata_device, self.data_device, str(self.block_sectors), str(self.low_water_blocks)]
        if features:
            arguments += [str(len(features)), *features]
        return f"0 {self.data_sectors} thin-pool {' '.join(arguments)}"


class ThinTable(NamedTuple):
    """A thin volume: number ``thin_id`` of the pool ``pool`` ("254:0" or a path), ``sectors`` long."""

    pool: str
    thin_id: int
    sectors: int

    def text(self) -> str:
        """The line for ``dmsetup --table``."""
        return f"0 {self.sectors} thin {self.pool} {self.thin_id}"


def thin_id_of(table: str) -> int:
    """The thin id that a table as `dmsetup table` prints it maps, -1 when it is not one of a thin volume."""
    fields = table.split()
    return int(fields[4]) if fields[2:3] == ["thin"] and len(fields) > 4 and fields[4].isdigit() else -1


class PoolMode(str, enum.Enum):
    """What a pool can still do; ``FAIL`` and ``ERROR`` lines of the kernel say nothing else."""

    RW = "rw"
    RO = "ro"
    OUT_OF_DATA_SPACE = "out_of_data_space"
    FAIL = "fail"
    ERROR = "error"


class PoolStatus(NamedTuple):
    """The status of a thin pool. Data is counted in the pool's blocks, metadata in blocks of 4 KiB.

    ``no_space_policy`` is "error" or "queue"; ``discard`` is "passdown", "no_passdown" or "ignore". With mode ``FAIL`` or
    ``ERROR`` the kernel gives no numbers: they are zero then.
    """

    mode: PoolMode
    transaction_id: int = 0
    used_metadata_blocks: int = 0
    total_metadata_blocks: int = 0
    used_data_blocks: int = 0
    total_data_blocks: int = 0
    held_metadata_root: int | None = None
    discard: str = ""
    no_space_policy: str = ""
    needs_check: bool = False
    metadata_low_water: int | None = None

    @classmethod
    def parse(cls, line: str) -> PoolStatus:
        """Read one line of ``dmsetup status``; raises ``Unsupported`` when it is none that the kernel documents."""
        fields = _target_fields(line, "thin-pool")
        if fields in (["Fail"], ["Error"]):
            return cls(PoolMode(fields[0].lower()))
        try:
            return _parse_pool_fields(fields)
        except (ValueError, IndexError, KeyError):
            raise _not_understood(line) from None

    @property
    def has_failed(self) -> bool:
        """Whether the kernel gives no numbers, which are all zero then (``Fail``, ``Error``)."""
        return self.total_data_blocks == 0

    @property
    def free_data_percent(self) -> float:
        """Free data blocks, in percent of all."""
        return _free_percent(self.used_data_blocks, self.total_data_blocks)

    @property
    def free_metadata_percent(self) -> float:
        """Free metadata blocks, in percent of all."""
        return _free_percent(self.used_metadata_blocks, self.total_metadata_blocks)


class ThinStatus(NamedTuple):
    """The status of a thin volume: sectors that have a block in the pool. ``failed`` when the kernel says Fail or Error."""

    mapped_sectors: int
    failed: bool = False

    @classmethod
    def parse(cls, line: str) -> ThinStatus:
        """Read one line of ``dmsetup status``; raises ``Unsupported`` when it is none that the kernel documents."""
        fields = _target_fields(line, "thin")
        if fields in (["Fail"], ["Error"]):
            return cls(0, failed=True)
        if len(fields) != 2 or not fields[0].isdigit():
            raise _not_understood(line)
        return cls(int(fields[0]))


_DISCARD = {"discard_passdown": "passdown", "no_discard_passdown": "no_passdown", "ignore_discard": "ignore"}
_NO_SPACE = {"error_if_no_space": "error", "queue_if_no_space": "queue"}
_NEEDS_CHECK = {"needs_check": True, "-": False}


def _parse_pool_fields(fields: list[str]) -> PoolStatus:
    used_metadata, total_metadata = fields[1].split("/")
    used_data, total_data = fields[2].split("/")
    mode = {mode.value: mode for mode in (PoolMode.RW, PoolMode.RO, PoolMode.OUT_OF_DATA_SPACE)}[fields[4]]
    return PoolStatus(
        mode=mode,
        transaction_id=int(fields[0]),
        used_metadata_blocks=int(used_metadata),
        total_metadata_blocks=int(total_metadata),
        used_data_blocks=int(used_data),
        total_data_blocks=int(total_data),
        held_metadata_root=None if fields[3] == "-" else int(fields[3]),
        discard=_DISCARD[fields[5]],
        no_space_policy=_NO_SPACE[fields[6]],
        # Kernels before 4.3 end here, those before 4.20 after needs_check.
        needs_check=_NEEDS_CHECK[fields[7]] if len(fields) > 7 else False,
        metadata_low_water=int(fields[8]) if len(fields) > 8 else None,
    )


def _target_fields(line: str, target: str) -> list[str]:
    """What follows ``START LENGTH target`` on a status line."""
    fields = line.split()
    if len(fields) < 4 or fields[2] != target or not (fields[0].isdigit() and fields[1].isdigit()):
        raise _not_understood(line)
    return fields[3:]


def _free_percent(used: int, total: int) -> float:
    return 100.0 * (total - used) / total if total else 0.0


def _not_understood(line: str) -> Unsupported:
    return Unsupported(
        f"the status line {printable(line)!r} is not one of a thin device",
        hint="compare it with the kernel's thin-provisioning document (`dmsetup status`); the device may be of another kind",
    )

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Dump the metadata of an active pool as text, from its metadata snapshot."""

from __future__ import annotations

import contextlib
import os
import re

from ..._host.processes.command import Program, Runner


def thin_dump(runner: Runner, metadata: str, target: str) -> None:
    """Write to the file ``target`` (0600), which is replaced, what the metadata snapshot of the pool over ``metadata`` holds."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(target)
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    runner.run(Program.THIN_DUMP, "--metadata-snap", "--output", target, metadata)


def state_data_blocks(first_line: bytes, data_blocks: int) -> bytes:
    """The first line of a dump with the number of the pool's data blocks.

    The kernel clears the space maps in a metadata snapshot (dm-thin-metadata.c), so thin_dump finds no data blocks there and thin_restore
    would refuse every mapping as beyond the end of the pool.
    """
    return re.sub(rb'nr_data_blocks="\d+"', b'nr_data_blocks="%d"' % data_blocks, first_line)

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait for events of device-mapper: a thin pool is short of blocks, has another mode, was resumed.

The control node can be polled from Linux 4.13 on: it is readable as soon as any device has had an event since it was opened (dm-ioctl.c, dm_poll). So
one descriptor waits for all pools, those that come later too, and holds none of them.

Invariant: an event between opening and waiting is not missed. Whatever else happens, the waiting ends in the time that is given.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Iterator
from typing import Callable

from .control import NODE

SHORTEST_SECONDS = 0.2  # an older kernel says at once that the node is readable


@contextlib.contextmanager
def events(*, stop_fd: int = -1, node: str = NODE) -> Iterator[Callable[[float], None]]:
    """Count events from here on; what is yielded waits so many seconds for one, or until ``stop_fd`` is readable.

    Without device-mapper it waits for the time.
    """
    fd = -1
    with contextlib.suppress(OSError):
        fd = os.open(node, os.O_RDWR | os.O_CLOEXEC)
    try:
        yield lambda seconds: _wait([one for one in (fd, stop_fd) if one >= 0], seconds)
    finally:
        if fd >= 0:
            os.close(fd)


def _wait(fds: list[int], seconds: float) -> None:
    begun = time.monotonic()
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    poll.poll(seconds * 1000)
    time.sleep(max(0.0, min(seconds, SHORTEST_SECONDS) - (time.monotonic() - begun)))

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The end of what a program writes, until it ends.

``Popen.communicate`` keeps everything that is written, and waits until no process has the outputs open. A program of the operator may pass
on what a guest sends without end, and may start a guest in the background and end.
"""

from __future__ import annotations

import os
import selectors
import time
from collections.abc import Callable
from typing import IO

_PIECE_BYTES = 1 << 16
_MAX_PIECES_AT_END = 16  # a process in the background may write for ever
_POLL_SECONDS = 0.05


class _Tail:
    """The last ``most`` bytes of an output."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.data = b""

    def add(self, data: bytes) -> None:
        self.data = (self.data + data)[-self._most :]


def ends_of_output(
    pipes: tuple[IO[bytes], IO[bytes]], has_ended: Callable[[], bool], limit_seconds: float, most: int
) -> tuple[bytes, bytes]:
    """The last ``most`` bytes of each of ``pipes`` when the program that writes to them has ended; raises ``TimeoutError``.

    The pipes are closed then: a process that the program has left behind gets an error when it writes.
    """
    tails = {pipe.fileno(): _Tail(most) for pipe in pipes}
    until = time.monotonic() + limit_seconds
    with pipes[0], pipes[1], selectors.DefaultSelector() as selector:
        for fd in tails:
            os.set_blocking(fd, False)
            selector.register(fd, selectors.EVENT_READ)
        while not has_ended():
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError
            _read(selector, tails, min(left, _POLL_SECONDS))
        for _piece in range(_MAX_PIECES_AT_END):
            if not selector.get_map() or not _read(selector, tails, 0):
                break
    out, err = (tail.data for tail in tails.values())
    return out, err


def _read(selector: selectors.BaseSelector, tails: dict[int, _Tail], seconds: float) -> bool:
    """Read what is there, or comes within ``seconds``; whether there was something."""
    ready = selector.select(seconds)
    for key, _events in ready:
        data = os.read(key.fd, _PIECE_BYTES)
        if data:
            tails[key.fd].add(data)
        else:
            selector.unregister(key.fd)
    return bool(ready)

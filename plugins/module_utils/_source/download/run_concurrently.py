# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run several tasks concurrently, and sum up their progress.

Invariant: when one fails, or the process is to end, the others are stopped and joined; the first failure is raised.
"""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Sequence
from typing import Callable, TypeVar

from .hasher import Progress

T = TypeVar("T")


def together(works: Sequence[Callable[[], T]], *, at_once: int, give_up: Callable[[], None]) -> list[T]:
    """The results of ``works`` in order, of which ``at_once`` run at a time; ``give_up`` makes those that run end soon."""
    if len(works) == 1:
        return [works[0]()]
    with concurrent.futures.ThreadPoolExecutor(min(at_once, len(works)), "download-object") as pool:
        futures = [pool.submit(work) for work in works]
        try:
            done, _running = concurrent.futures.wait(futures, return_when=concurrent.futures.FIRST_EXCEPTION)
            for failed in (one for one in futures if one in done and one.exception() is not None):
                failed.result()
        except BaseException:  # a signal may unwind us here: the threads must not be waited for to their regular end
            give_up()
            for one in futures:
                one.cancel()
            raise
    return [one.result() for one in futures]


class Sum:
    """Adds up the progress of several downloads; their threads call at the same time."""

    def __init__(self, total_bytes: int, on_progress: Progress | None) -> None:
        self._total_bytes = total_bytes
        self._on_progress = on_progress
        self._received: dict[int, int] = {}
        self._lock = threading.Lock()

    def of(self, number: int) -> Progress:
        """Where the download of that number reports."""

        def report(received_bytes: int, _total_bytes: int) -> None:
            with self._lock:
                self._received[number] = received_bytes
                if self._on_progress is not None:
                    self._on_progress(sum(self._received.values()), self._total_bytes)

        return report

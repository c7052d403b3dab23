# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sandboxed process that decodes untrusted compressed data.

Invariant: before it reads the first byte it has no file system, no network and no capabilities, sees no other process, can only make the system
calls of an allowlist, and the kernel limits its memory and CPU time. It reads through descriptors that are positioned for it and writes to
one pipe. What it reports about itself is not trusted.

What goes through the pipe is in frames: four bytes with the length of what follows, or, with ``ANSWER`` added to the length, an answer in
JSON (``_host.answer``): one before the first stream, and one behind the bytes of each.
"""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Sequence
from typing import NamedTuple

from ..._errors import FlydError, error_to_json
from ..._host.confinement.isolation import become_nobody, empty_root
from ..._host.confinement.malloc import keep_freed_memory
from ..._host.confinement.seccomp import COMPUTING, allow_only, calls
from ..._host.processes.child import missing_namespaces
from ..._host.processes.death_signal import die_with_reader
from ..limits import Limits
from ..writing.sandbox import limit_resources
from .streams import MoreMemory, Open

MAX_FRAME_BYTES = 1 << 18  # stays in a CPU's own cache
MAX_ANSWER_BYTES = 1 << 14
ANSWER = 1 << 31
ORDER_BYTES = 4
PROCESS_BYTES = 12 << 20  # what such a process takes for itself: an interpreter's own pages, buffers, stacks
_DECODING = (*calls("read writev"), *COMPUTING, *calls("lseek"))


class Stream(NamedTuple):
    """A stream of ``size_bytes``, to be read from the open file ``fd`` from where it is."""

    opened: Open
    fd: int
    size_bytes: int


class _Part:
    """The next ``size`` bytes of the open file ``fd``."""

    def __init__(self, fd: int, size: int) -> None:
        self._fd = fd
        self._left_bytes = size

    def read(self, count: int) -> bytes:
        data = os.read(self._fd, min(count, self._left_bytes))
        self._left_bytes -= len(data)
        return data


def decode(streams: Sequence[Stream], orders: int, target: int, limits: Limits, memory_bytes: int) -> None:
    """Decompress those of ``streams`` whose numbers come out of the pipe ``orders``, into the pipe ``target``. For a child process only.

    A decoder may take ``memory_bytes``, and the process ``PROCESS_BYTES`` more.
    """
    gc.disable()  # the collector would touch, and so copy, what is shared with the parent
    keep_freed_memory(4 * MAX_FRAME_BYTES)
    missing = _confine(limits, memory_bytes + PROCESS_BYTES, target)
    _send(target, ANSWER, json.dumps({"result": missing}).encode())
    while order := os.read(orders, ORDER_BYTES):
        answer = _decode(streams[int.from_bytes(order, "little")], target, memory_bytes)
        _send(target, ANSWER, json.dumps(answer).encode()[:MAX_ANSWER_BYTES])


def _decode(stream: Stream, target: int, memory_bytes: int) -> dict[str, object]:
    """What to answer; ``needed_bytes`` is said when more memory is needed than it may have, 0 when it is not known how much."""
    try:
        decoder = stream.opened(_Part(stream.fd, stream.size_bytes), memory_bytes)
        while chunk := decoder.read(MAX_FRAME_BYTES):
            _send(target, 0, chunk)
    except FlydError as error:
        return {"error": error_to_json(error)}
    except MoreMemory as error:
        return {"result": {"needed_bytes": error.needed_bytes}}
    except MemoryError:
        return {"result": {"needed_bytes": 0}}
    return {"result": {}}


def _confine(limits: Limits, growth_bytes: int, pipe: int) -> list[str]:
    """Put up the walls; returns the names of those that this host could not."""
    missing = missing_namespaces()
    limit_resources(limits, growth_bytes=growth_bytes, file_bytes=0)
    if os.geteuid() != 0:
        missing.append("root")
    else:
        if not empty_root():
            missing.append("root")
        if not become_nobody():
            missing.append("identity")
        if "pid" not in missing:
            die_with_reader(pipe)  # changing the identity has taken that back
    return missing if allow_only(_DECODING) else [*missing, "system_calls"]


def _send(pipe: int, flag: int, data: bytes) -> None:
    """Write a frame."""
    head = (len(data) | flag).to_bytes(4, "little")
    sent = os.writev(pipe, [head, data]) - len(head)  # the head is never cut: a pipe takes so few bytes as a whole
    view = memoryview(data)[sent:]
    while view:
        view = view[os.write(pipe, view) :]

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The child that reads an image, reports what it needs, and writes it when it receives a directory.

Invariant: before the first byte of the archive is parsed, the kernel limits this process: memory to what an image within ``limits`` takes,
CPU time to ``seconds`` on each processor, and open files; and what it can reach and do at all (``sandbox``).
"""

from __future__ import annotations

import contextlib
import gc
import os
import resource
from collections.abc import Callable, Iterator

from ..._errors import Unsupported
from ..._host.processes.answer import Json
from ..._host.processes.conversation import Ask, Line
from ..._host.processes.without_files import own_pages
from ..._names import size_text
from ..limits import Limits
from ..options import Options
from ..refusal import malformed
from ..writing.sandbox import limit_resources
from .sandbox import confine
from .unpacking import Unpacking

_BASE_BYTES = 192 << 20  # buffers of decompressors, threads, windows
_ENTRY_BYTES = 900  # a file with its names, its times and its place in a directory and in the plan, at the most
_METADATA_FACTOR = 4  # names stand in a member, in an addition and in the tree; an attribute costs more than its bytes
_DOCUMENT_FACTOR = 32
_CPU_GRACE_SECONDS = 10
ONTO = b"+"  # what comes with the directory that has the origin's tree
_OPEN_FILES = 256  # beside each layer of a family, and each that was decompressed


def memory_bytes(limits: Limits, *, has_origin: bool = False) -> int:
    """What reading an image within ``limits`` takes at most, above what the process has when it begins; twice as much with an origin's tree."""
    documents = _DOCUMENT_FACTOR * limits.document_bytes
    tree_bytes = _ENTRY_BYTES * limits.entries + _METADATA_FACTOR * limits.metadata_bytes
    return _BASE_BYTES + documents + tree_bytes * (2 if has_origin else 1)


def cpu_seconds(limits: Limits) -> int:
    """What reading takes at most of all processors together; the clock ends it before, while the parent is there to look at it."""
    return limits.seconds * len(os.sched_getaffinity(0)) + _CPU_GRACE_SECONDS


def read_and_write(
    read: Callable[[Ask], contextlib.AbstractContextManager[Unpacking]], options: Options, line: Line
) -> Json:
    """Read, say what was read on ``line``, wait for a directory there, write into it; returns the summary."""
    gc.freeze()  # what was there before is shared with the parent until it is touched
    missing = confine(changes_trees=options.may_have_origin)  # which loads what a low limit would not let be loaded
    allowed_bytes = _limit(options.limits, memory_bytes(options.limits, has_origin=options.may_have_origin))
    with _memory_named(allowed_bytes), read(line.ask) as unpacking:
        line.say(_report(unpacking))
        word, root_fd = line.take_fd()
        walled = unpacking._replace(missing_isolation=unpacking.missing_isolation.union(missing))
        write = walled.write_onto if word == ONTO else walled.write_into
        try:
            return write(root_fd, lambda: _said(line)).to_json()
        finally:
            os.close(
                root_fd
            )  # it keeps the file system busy, and the parent may be quicker than the end of this process


def _limit(limits: Limits, growth_bytes: int) -> int:
    """Set the limits of the kernel, ``growth_bytes`` of memory among them; returns how many bytes of data are allowed, 0 when the host allowed less before."""
    given = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_DATA, resource.RLIMIT_AS)]
    allowed_bytes = own_pages()[5] * resource.getpagesize() + growth_bytes
    # Address space is what threads and libraries reserve, twice of which hardly any is used.
    limit_resources(
        limits,
        growth_bytes=2 * growth_bytes,
        file_bytes=limits.decompressed_bytes,
        cpu_seconds=cpu_seconds(limits),
        open_files=_OPEN_FILES + 2 * limits.layers,
    )
    limited = min([allowed_bytes, *(limit for limit in given[:1] if limit != resource.RLIM_INFINITY)])
    resource.setrlimit(resource.RLIMIT_DATA, (limited, limited))
    return allowed_bytes if given == [resource.RLIM_INFINITY] * 2 else 0


@contextlib.contextmanager
def _memory_named(allowed_bytes: int) -> Iterator[None]:
    """Say whose limit it was when memory is used up: the host's, or that which follows from the limits of the image."""
    try:
        yield
    except Unsupported as error:
        if not allowed_bytes or not isinstance(error.__context__, MemoryError):
            raise
        limit = malformed(
            f"reading it takes more than {size_text(allowed_bytes)} of memory, which is what its limits allow",
            hint="no honest image should; if this one is, raise the limits entries and metadata_bytes",
        )
        limit.details.update(limit="memory_bytes", allowed=allowed_bytes)
        raise limit from None


@contextlib.contextmanager
def _said(line: Line) -> Iterator[None]:
    line.say({"written": True})
    yield


def _report(unpacking: Unpacking) -> Json:
    plan = unpacking.plan
    return {
        "plan": {
            "volume_blocks": plan.volume_blocks,
            "inodes": plan.inodes,
            "content_bytes": plan.content_bytes,
            "scattered_bytes": plan.scattered_bytes,
        },
        "config": unpacking.config._asdict(),
        "seconds": unpacking.phases.seconds,
        "layers": unpacking.stack,
        "origin": unpacking.origin and {**unpacking.origin.figures._asdict(), "unread_layers": unpacking.unread_layers},
        "unfit_origin": unpacking.unfit_origin,
    }

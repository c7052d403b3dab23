# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From an archive to a tree: the door of this package.

    with open_image(archive_fd, options) as unpacking:     # everything is read, merged and, where compressed, verified
        ... make a volume for unpacking.plan ...
        summary = unpacking.write_into(root_fd)            # writes, and waits for the digests of the rest

Invariant: ``write_into`` does not return when a digest is wrong. What is written was hashed through the descriptor it was read from.
"""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .._errors import BadInput, doing
from .._host.isolation import in_child
from .census import Census
from .config import ImageConfig
from .layer import Layers, Tally
from .limits import Deadline, Limits
from .options import Options, Summary
from .phases import Phases
from .plan import DeviceNodes, Plan, make_plan
from .preparing import Preparation, Prepared, check_of_archive, whole_file
from .spool import Spool
from .tree_writer import write_tree
from .verify import Check, Verification

__all__ = ["DeviceNodes", "ImageConfig", "Limits", "Options", "Plan", "Summary", "Unpacking", "open_image"]


@dataclass(frozen=True)
class Unpacking:
    """An image that was read and planned, ready to be written once."""

    plan: Plan
    config: ImageConfig
    layout: str
    layers: int
    tally: Tally
    options: Options
    phases: Phases
    verifications: Sequence[Verification]

    def write_into(self, root_fd: int) -> Summary:
        """Write the tree into the empty directory ``root_fd`` (opened for reading) and wait for all digests.

        The writing is done by a child whose root is that directory. May be called in a fork of the process that opened the image.
        Raises ``Untrusted`` for a wrong digest, ``NoSpace`` when the file system is full, ``BadInput`` when the directory is not
        empty. Whatever is in it after an error is to be thrown away.
        """
        if os.listdir(root_fd):
            raise BadInput(
                "the directory to unpack into is not empty", hint="give an empty directory, or a newly made file system"
            )
        with self.phases.phase("write"):
            seconds = in_child(lambda: write_tree(self.plan, root_fd, self.options), what="writing the tree")
        with self.phases.phase("wait_for_digests"):
            for verification in self.verifications:
                verification.join()
        return self._summary({**self.phases.seconds, **{f"write_{name}": took for name, took in seconds.items()}})

    def _summary(self, seconds: dict[str, float]) -> Summary:
        plan, tally = self.plan, self.tally
        return Summary(
            layout=self.layout,
            layers=self.layers,
            entries=plan.entries,
            bytes=plan.content_bytes,
            logical_bytes=plan.logical_bytes,
            inodes=plan.inodes,
            directories=len(plan.directories),
            hard_links=len(plan.hard_links),
            devices=plan.devices,
            skipped_devices=plan.skipped_devices,
            whiteouts=tally.whiteouts,
            left_out=tally.left_out,
            dropped_xattrs=tally.dropped_xattrs,
            clamped_times=tally.clamped_times,
            seconds=seconds,
        )


@contextlib.contextmanager
def open_image(archive_fd: int, options: Options) -> Iterator[Unpacking]:
    """Read and merge the image in the regular file ``archive_fd``; nothing is written but decompressed layers, to the spool.

    The descriptor must stay open until the context ends. Raises ``Untrusted`` for what is malformed, hostile or has a wrong digest,
    ``BadInput`` for options that fit nothing in it, ``Unsupported`` for what this host cannot read, ``NoSpace`` for a full spool.
    """
    with contextlib.ExitStack() as stack:
        phases = Phases()
        deadline = Deadline(options.limits)
        census = Census(options.limits)
        stored = whole_file(archive_fd)
        verifications = [_verify(check_of_archive(stored, options.expected_sha256), stack)]
        spool = Spool(options.spool_directory, options.limits, deadline, census)
        stack.callback(spool.close)
        preparation = Preparation(options, spool, deadline, census)
        with phases.phase("index"), doing("reading the archive"):
            image = preparation.image(stored)
        with phases.phase("decompress"):
            prepared = preparation.prepare(image)
        verifications.append(_verify(prepared.checks, stack))
        with phases.phase("plan"), _collector_paused():
            layers = _merged(prepared, options.limits, deadline)
            plan = make_plan(layers.tree, options.device_nodes)
        yield Unpacking(
            plan, prepared.config, prepared.layout, len(prepared.tars), layers.tally, options, phases, verifications
        )


def _verify(checks: Sequence[Check], stack: contextlib.ExitStack) -> Verification:
    verification = Verification(checks)
    stack.callback(verification.close)
    return verification


def _merged(prepared: Prepared, limits: Limits, deadline: Deadline) -> Layers:
    layers = Layers(limits, deadline)
    for at, tar in enumerate(prepared.tars, 1):
        with doing(f"reading layer {at} of {len(prepared.tars)}"):
            layers.apply(tar.extent, terminated=not tar.is_covered)
    return layers


@contextlib.contextmanager
def _collector_paused() -> Iterator[None]:
    """A million new objects would be walked again and again, and none of them is garbage."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()

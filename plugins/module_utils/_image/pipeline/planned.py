# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An image that was read and planned: its tree is written once, into an empty directory or over the tree of an earlier base.

Invariant: neither returns when a digest of what was read is wrong. What is written was hashed through the descriptor it was read from.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from ..._errors import CommandFailed, FlydError, Internal
from ..._host.processes.child import in_child
from ..._host.processes.without_files import has_left_files
from ..delta.layer_index import LayerIndex
from ..delta.origin import Origin, ReadLayer, write_manifest
from ..extent import Extent
from ..formats.config import ImageConfig
from ..merge.plan import Plan
from ..merge.tally import Tally
from ..options import Options, Summary
from ..phases import Phases
from ..writing.tree_writer import write_tree
from .verify import Verification


class Unpacking(NamedTuple):
    """An image that was read and planned, ready to be written once."""

    plan: Plan
    config: ImageConfig
    layout: str
    layers: int
    tally: Tally
    options: Options
    phases: Phases
    verifications: Sequence[Verification]
    source_fds: frozenset[int]
    warnings: tuple[str, ...]
    missing_isolation: frozenset[str]
    stack: Sequence[str]  # the identities of the layers, lowest first
    identities: Mapping[Extent, str]  # of the layers
    indexed: Mapping[str, LayerIndex | ReadLayer]  # the same layers, by identity
    origin: Origin | None  # what the tree can be made of
    unfit_origin: str  # why not, when a manifest was given

    @property
    def unread_layers(self) -> int:
        """Layers that were not read, since the origin has their headers and all of their contents."""
        return sum(isinstance(layer, LayerIndex) for layer in self.indexed.values())

    def write_into(
        self, root_fd: int, meanwhile: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext
    ) -> Summary:
        """Write the tree into the empty directory ``root_fd`` (opened for reading) and wait for all digests.

        The writing is done by a child whose root is that directory. May be called in a fork of the process that opened the image.
        ``meanwhile`` is entered when all is written and left when the digests are known.
        Raises ``Untrusted`` for a wrong digest, ``NoSpace`` when the file system is full. Whatever is in it after an error is to be
        thrown away. An image with layers that were not read can be written over its origin only.
        """
        if self.unread_layers:
            raise Internal("a fault in flyd.lite itself: a layer was not read", hint="please report it, with the log")
        with self.phases.phase("write"):
            seconds, missing = in_child(
                lambda: write_tree(self.plan, root_fd, self.options),
                what="writing the tree",
                kept_fds=self.source_fds | {root_fd},
                apart=not has_left_files(),  # else this process is sandboxed itself, and cannot create another sandbox
            )
        self._wait_for_digests(meanwhile)
        return self._summary(seconds, missing, self.plan.content_bytes)

    def write_onto(
        self, root_fd: int, meanwhile: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext
    ) -> Summary:
        """Turn the tree of the origin, which is in ``root_fd``, into the image's, and wait for all digests, as ``write_into`` does.

        Raises ``CommandFailed`` with ``unfit_origin`` among its details for whatever keeps the tree from being changed: the image may be all right.
        """
        if self.origin is None:
            raise Internal("a fault in flyd.lite itself: there is no origin", hint="please report it, with the log")
        with self.phases.phase("write"), _blaming_origin():
            written, seconds, missing = self.origin.change(self.plan, root_fd, self.options, self.source_fds)
        self._wait_for_digests(meanwhile)
        return self._summary(seconds, missing, written)

    def _wait_for_digests(self, meanwhile: Callable[[], contextlib.AbstractContextManager[object]]) -> None:
        with self.phases.phase("wait_for_digests"), meanwhile():
            if self.options.manifest_fd >= 0:
                write_manifest(self.plan, self.identities, self.indexed, self.options.manifest_fd)
            for verification in self.verifications:
                verification.join()

    def _summary(self, seconds: dict[str, float], missing_isolation: Iterable[str], written_bytes: int) -> Summary:
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
            missing_isolation=sorted(self.missing_isolation.union(map(str, missing_isolation))),
            warnings=[*self.warnings, *tally.warnings()],
            seconds={**self.phases.seconds, **{f"write_{name}": float(took) for name, took in seconds.items()}},
            written_bytes=written_bytes,
            reused_bytes=plan.content_bytes - written_bytes,
            unread_layers=self.unread_layers,
        )


@contextlib.contextmanager
def _blaming_origin() -> Iterator[None]:
    try:
        yield
    except FlydError as error:
        raise CommandFailed(
            f"the tree of the earlier base could not be changed: {error.msg}",
            hint="run again with reuse: never, which makes the base without an earlier one",
            unfit_origin=True,
        ) from error

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An earlier base that a new tree can be made of: read from its manifest, weighed, and changed into the new tree.

Invariant: nothing of it is needed to write the tree into an empty directory, so that a doubt costs no more than what it would have saved.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import NamedTuple

from ..._host.processes.child import in_child
from ..._host.processes.without_files import has_left_files
from ..extent import Extent
from ..limits import Deadline, Limits
from ..merge.inodes import File
from ..merge.plan import Plan
from ..options import Options, OriginFigures
from ..phases import Phases
from .changing import change_tree
from .comparing import differing_rows, rows_of
from .difference import difference
from .layer_index import Contents, LayerIndex, UnfitOrigin, index_of
from .manifest import Manifest, manifest_of
from .manifest_file import dump, load
from .matching import NONE, Matching, match
from .settling import settled

_MAX_FILE_BYTES = 256 << 20


class Changed(NamedTuple):
    """How much content was written, how long each phase took, and the isolation that this host could not set up."""

    written_bytes: int
    seconds: dict[str, float]
    missing_isolation: list[str]


class ReadLayer(NamedTuple):
    """A layer that was read, and where the contents of files stand in it."""

    layer: Extent
    contents: Contents


class Origin(NamedTuple):
    """The tree of an earlier base, and what of it the plan can use."""

    old: Manifest
    matching: Matching
    figures: OriginFigures

    @classmethod
    def of(
        cls,
        old: Manifest,
        plan: Plan,
        identities: Mapping[Extent, str],
        deadline: Deadline,
        layers: Mapping[str, Extent],
    ) -> Origin:
        """The origin with the manifest ``old``; ``layers`` are those at hand that it was made of, by identity."""
        matching = settled(plan, old, match(old, plan, identities, deadline), layers, deadline)
        return cls(old, matching, _figures(old, plan, matching))

    def needs(self, plan: Plan, fd: int) -> bool:
        """Whether content of ``plan`` that stands in the file ``fd`` must be written or compared."""
        unsure = set(self.matching.unsure)
        return any(
            isinstance(inode, File) and inode.source.fd == fd and inode.stored_bytes > 0
            for row, inode in enumerate(plan.leaves.inodes)
            if self.matching.leaves[row] == NONE or row in unsure
        )

    def change(self, plan: Plan, root_fd: int, options: Options, kept_fds: Collection[int]) -> Changed:
        """Turn the tree in ``root_fd``, which is that of the origin, into that of ``plan``; an error leaves it worthless."""
        phases = Phases()
        is_apart = not has_left_files()  # as in pipeline.unpacking
        unsure = self.matching.unsure
        with phases.phase("compare"):
            answer = unsure and in_child(
                lambda: differing_rows(plan, self.old, self.matching, root_fd, options),
                what="comparing files",
                kept_fds={*kept_fds, root_fd},
                apart=is_apart,
            )
            differing = rows_of(answer or "", unsure)
        with phases.phase("difference"):
            found = difference(self.old, plan, self.matching, differing, Deadline(options.limits))
        seconds, missing = in_child(
            lambda: change_tree(plan, self.old, self.matching, found, root_fd, options),
            what="writing the tree",
            kept_fds={*kept_fds, root_fd},
            apart=is_apart,
        )
        written = sum(_stored_bytes(plan, row) for row in found.written)
        took = {**phases.seconds, **{str(name): float(took) for name, took in seconds.items()}}
        return Changed(written, took, list(map(str, missing)))


def read_manifest(fd: int, limits: Limits) -> Manifest:
    """The manifest in the file ``fd``; raises ``UnfitOrigin``."""
    size_bytes = os.fstat(fd).st_size
    if size_bytes > _MAX_FILE_BYTES:
        raise UnfitOrigin("manifest")
    return load(Extent(fd, 0, size_bytes).read(0, size_bytes), limits)


def write_manifest(
    plan: Plan, identities: Mapping[Extent, str], layers: Mapping[str, LayerIndex | ReadLayer], fd: int
) -> None:
    """Write the manifest of the tree of ``plan`` to the empty file ``fd``; ``layers`` are those of the image by identity."""
    made = manifest_of(plan, identities)
    for identity, layer in layers.items():
        index = index_of(*layer) if isinstance(layer, ReadLayer) else layer
        if index is not None and identity:
            made.indexes[identity] = index
    left = memoryview(dump(made))
    while left:
        left = left[os.write(fd, left) :]


def _figures(old: Manifest, plan: Plan, matching: Matching) -> OriginFigures:
    unmatched = [row for row, there in enumerate(matching.leaves) if there == NONE]
    written_bytes = sum(_stored_bytes(plan, row) for row in unmatched)
    compared_bytes = sum(_stored_bytes(plan, row) for row in matching.unsure)
    return OriginFigures(
        reused_bytes=plan.content_bytes - written_bytes - compared_bytes,
        compared_bytes=compared_bytes,
        written_bytes=written_bytes,
        new_inodes=len(unmatched) + len(matching.unsure) + list(matching.directories).count(NONE),
        old_inodes=old.inodes,
    )


def _stored_bytes(plan: Plan, row: int) -> int:
    inode = plan.leaves.inodes[row]
    return inode.stored_bytes if isinstance(inode, File) else 0

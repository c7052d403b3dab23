# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of an unpacking, and its summary.

Invariant: both are plain values; they cross from process to process and into results as they are.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from .limits import Limits
from .merge.plan import DeviceNodes
from .platforms import PlatformPolicy


class Options(NamedTuple):
    """How to unpack.

    ``spool_directory`` must have room for what is decompressed. ``image_name`` selects one of several images, by tag or position;
    ``platform`` is os/architecture[/variant], empty for this machine, and ``platform_policy`` defines what happens to an archive
    that has no image for it. ``expected_sha256`` is the archive's digest as stored, in
    hex; empty when the caller has hashed this very descriptor. ``processes`` write side by side; 0: one for each CPU, at most 4.
    ``top_layer_fd`` is a tar of the caller's that is laid over the image, -1 for none; nothing of it is verified.
    ``is_sealed`` says that the archives look as they did when they were verified: what needs not be read is not verified again then.
    ``origin_fd`` has the manifest of an earlier base that the tree may be made of, ``manifest_fd`` is an empty file for that of the new
    tree; -1 for none.
    ``first_layers`` are how many of the image's layers make up the tree, the lowest; 0: all.
    ``asks_origin``: which earlier base it is, the caller says when the layers are known.
    """

    limits: Limits
    spool_directory: str
    image_name: str = ""
    platform: str = ""
    platform_policy: PlatformPolicy = PlatformPolicy.THIS_MACHINE
    device_nodes: DeviceNodes = DeviceNodes.CREATE
    expected_sha256: str = ""
    processes: int = 0
    top_layer_fd: int = -1
    is_sealed: bool = False
    origin_fd: int = -1
    manifest_fd: int = -1
    asks_origin: bool = False
    first_layers: int = 0

    @property
    def may_have_origin(self) -> bool:
        """Whether the tree may be made of that of an earlier base."""
        return self.asks_origin or self.origin_fd >= 0

    @property
    def own_fds(self) -> tuple[int, ...]:
        """The descriptors of layers that are read beside the image's."""
        return () if self.top_layer_fd < 0 else (self.top_layer_fd,)

    @property
    def kept_fds(self) -> tuple[int, ...]:
        """The descriptors that are used beside the image's."""
        return (*self.own_fds, *(fd for fd in (self.origin_fd, self.manifest_fd) if fd >= 0))


class OriginFigures(NamedTuple):
    """What of a tree an earlier base has: content by bytes, and inodes.

    ``compared_bytes`` may turn out to differ; ``new_inodes`` counts them as new. ``old_inodes`` are there until the tree is written.
    An image with ``unread_layers`` can be written over the origin only.
    """

    reused_bytes: int
    compared_bytes: int
    written_bytes: int
    new_inodes: int
    old_inodes: int
    unread_layers: int = 0


class Summary(NamedTuple):
    """What was written, and what was changed on the way.

    ``bytes`` is the content of files without holes, ``logical_bytes`` with them. ``left_out`` counts the bookkeeping of aufs,
    ``dropped_xattrs`` and ``clamped_times`` what could not be kept as it was. ``missing_isolation`` are
    the isolation that this host could not set up (``docs/security.md``). ``warnings`` are sentences for the operator.
    ``unread_layers`` were known from the origin and not read.
    ``seconds`` is by phase. ``written_bytes`` of ``bytes`` were written, ``reused_bytes`` were there.
    """

    layout: str
    layers: int
    entries: int
    bytes: int
    logical_bytes: int
    inodes: int
    directories: int
    hard_links: int
    devices: int
    skipped_devices: int
    whiteouts: int
    left_out: int
    dropped_xattrs: int
    clamped_times: int
    missing_isolation: list[str]
    warnings: list[str]
    seconds: dict[str, float]
    written_bytes: int
    reused_bytes: int
    unread_layers: int

    def to_json(self) -> dict[str, Any]:
        """The same as a JSON object."""
        return self._asdict()

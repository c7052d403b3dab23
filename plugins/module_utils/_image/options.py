# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How to unpack, and what came of it.

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
    ``platform`` is os/architecture[/variant], empty for this machine, and ``platform_policy`` says what then becomes of an archive
    that has no image for it. ``expected_sha256`` is the archive's digest as stored, in
    hex; empty when the caller has hashed this very descriptor. ``processes`` write side by side; 0: one for each CPU, at most 4.
    ``top_layer_fd`` is a tar of the caller's that is laid over the image, -1 for none; nothing of it is verified.
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

    @property
    def own_fds(self) -> tuple[int, ...]:
        """The descriptors that are read beside the image's."""
        return () if self.top_layer_fd < 0 else (self.top_layer_fd,)


class Summary(NamedTuple):
    """What was written, and what was changed on the way.

    ``bytes`` is the content of files without holes, ``logical_bytes`` with them. ``left_out`` counts the bookkeeping of aufs,
    ``dropped_xattrs`` and ``clamped_times`` what could not be kept as it was. ``missing_isolation`` are
    what this host could not put between hostile content and itself (``docs/security.md``). ``warnings`` are sentences for the operator.
    ``seconds`` is by phase.
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

    def to_json(self) -> dict[str, Any]:
        """The same as a JSON object."""
        return self._asdict()

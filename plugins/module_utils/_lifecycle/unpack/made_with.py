# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options that a base was made with, recorded with its image, and how later ones differ from them.

Invariant: an option that applies only to a new base is never ignored silently: a later run with another value warns. A
limit higher than the one that the base was made with causes no warning.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ..._names import exact_size_text, printable
from ..._thin.dm.device import SECTOR_BYTES
from ..diff import platform_of
from ..outcome import Facts
from ..run import Run
from ..store.records import Image, PoolRecord, Volume
from .inject import described, read_files
from .options import Reuse

if TYPE_CHECKING:
    from ..._image.tar.making import AddedFile
    from .options import UnpackOptions

DEFAULT_DEVICE_NODES = "create"


def made_with(options: UnpackOptions, added: Sequence[AddedFile]) -> str:
    """What is recorded of ``options``, and of the files that were ``added``, with a base that they have made, as JSON."""
    from ..._image.platforms import Platform

    wanted = Platform.parse(options.platform) if options.platform else Platform.of_this_machine()
    return json.dumps(
        {
            "platform": str(wanted),
            "image_name": options.image_name,
            "device_nodes": options.device_nodes or DEFAULT_DEVICE_NODES,
            "limits": options.limits._asdict(),
            "inject": described(added),
        }
    )


def differences(host: Run, image: Image, base: Volume, options: UnpackOptions) -> list[str]:
    """A warning for each option that is given and says something else than ``base`` was made with."""
    found = [*_of_size(host, base, options), *_of_recorded(image, options), *_of_origin(image, options)]
    return [
        f"{words}; it counts only when a base is made: to make it again, remove the base first (flyd_unpack with state: absent)"
        for words in found
    ]


def _of_size(host: Run, base: Volume, options: UnpackOptions) -> Iterator[str]:
    if not options.size_bytes:
        return
    pool = host.store.find(PoolRecord, "id=?", base.pool_id)
    block_bytes = SECTOR_BYTES * (pool.block_sectors if pool else 1)
    have_bytes = base.sectors * SECTOR_BYTES
    if -(-options.size_bytes // block_bytes) * block_bytes != have_bytes:
        yield f"size: {exact_size_text(options.size_bytes)} is given, but the base has {exact_size_text(have_bytes)}"


def _of_origin(image: Image, options: UnpackOptions) -> Iterator[str]:
    summary = json.loads(image.summary)
    origin = summary.get("origin")
    if options.reuse is Reuse.NEVER and origin:
        yield f"reuse is never, but the base was made of {printable(origin)}"
    key = summary.get("origin_key", image.object_key)
    if options.reuse is Reuse.KEY and origin and key != image.object_key:
        yield f"reuse is key, but the base was made of {printable(origin)}, which is that of {printable(key)}"


def _of_recorded(image: Image, options: UnpackOptions) -> Iterator[str]:
    recorded: Facts = json.loads(image.made_with)
    given = {
        "platform": options.platform,
        "image_name": options.image_name,
        "device_nodes": options.device_nodes,
        "limits": ", ".join(options.limits_given),
        "inject": ", ".join(one.dest for one in options.inject),
    }
    for option, value in given.items():
        if value and not recorded:
            yield f"{option} is {printable(value)}, and what the base was made with is not recorded"
    if recorded:
        yield from _of_platform(image, recorded["platform"], options.platform)
        yield from _of_name(recorded["image_name"], options.image_name)
        if options.device_nodes not in ("", recorded["device_nodes"]):
            yield f"device_nodes is {options.device_nodes}, but the base was made with {recorded['device_nodes']}"
        yield from _of_limits(recorded["limits"], options)
        yield from _of_injected(recorded.get("inject", []), options)


def _of_injected(recorded: list[Facts], options: UnpackOptions) -> Iterator[str]:
    if options.inject and described(read_files(options.inject)) != recorded:
        there = ", ".join(one["dest"] for one in recorded) or "none"
        yield f"inject names other files, or files that have changed since, than the base was made with ({there})"


def _of_platform(image: Image, recorded: str, given: str) -> Iterator[str]:
    if not given:
        return
    from ..._image.platforms import Platform  # late: most runs name no platform

    there = platform_of(json.loads(image.config))
    same = {Platform.of(*Platform.parse(one)) for one in (recorded, there) if one}
    if Platform.of(*Platform.parse(given)) not in same:
        yield f"platform is {printable(given)}, but the base holds the image for {there or recorded}"


def _of_name(recorded: str, given: str) -> Iterator[str]:
    if given in ("", recorded):
        return
    from ..._image.formats.docker_archive import full_name  # late, as above

    if not recorded:
        yield f"image_name is {printable(given)}, but the base was made without one"
    elif full_name(given) != full_name(recorded):
        yield f"image_name is {printable(given)}, but the base was made of {printable(recorded)}"


def _of_limits(recorded: dict[str, int], options: UnpackOptions) -> Iterator[str]:
    for name in options.limits_given:
        allowed = getattr(options.limits, name)
        if name in recorded and allowed < recorded[name]:
            yield f"limits.{name} is {allowed}, but the base was made with {recorded[name]}"

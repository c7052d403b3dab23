# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From an archive to a tree: the entry point of this package.

    with open_image(archive_fd, options) as unpacking:     # everything is read, merged and, where compressed, verified
        ... make a volume for unpacking.plan ...
        summary = unpacking.write_into(root_fd)            # writes, and waits for the digests of the rest

Invariant: ``write_into`` does not return when a digest is wrong. What is written was hashed through the descriptor it was read from.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator, Mapping, Sequence

from ..._errors import BadInput, Unsupported, Untrusted, doing
from ..._host.processes.conversation import Ask
from ..compression.spool import Spool
from ..delta.manifest_file import UnfitOrigin
from ..delta.origin import Origin
from ..extent import Extent
from ..formats.config import ImageConfig
from ..image import Image
from ..limits import Deadline, Limits
from ..merge.layer import Layers
from ..merge.plan import DeviceNodes, Plan, make_plan
from ..merge.tally import COUNTED, whole_needs
from ..options import Options, Summary
from ..phases import Phases
from ..platforms import PlatformPolicy
from .broker import Broker
from .planned import Unpacking
from .preparing import LayerTar, Preparation, check_of_archive, family, whole_file
from .verify import Check, Verification

__all__ = [
    "DeviceNodes",
    "ImageConfig",
    "Limits",
    "Options",
    "Plan",
    "PlatformPolicy",
    "Summary",
    "Unpacking",
    "open_family",
    "open_image",
]


_COUNTING_SECONDS = 2.0  # to count what an image would need that is refused


@contextlib.contextmanager
def open_image(archive_fd: int, options: Options, ask: Ask | None = None) -> Iterator[Unpacking]:
    """Read and merge the image in the regular file ``archive_fd``; nothing is written but decompressed layers, to the spool.

    The descriptor must stay open until the context ends. Raises ``Untrusted`` for what is malformed, hostile or has a wrong digest,
    ``BadInput`` for options that fit nothing in it, ``Unsupported`` for what this host cannot read, ``NoSpace`` for a full spool.
    ``ask`` reaches the broker that knows the archive alone; without, this process is its own.
    """
    with _reader(options, [archive_fd, *options.own_fds], ask) as reader:
        stored = whole_file(archive_fd)
        reader.verify(check_of_archive(stored, options.expected_sha256))
        with reader.phases.phase("index"), doing("reading the archive"):
            image = reader.preparation.image(stored)
        yield reader.unpacking(image)


@contextlib.contextmanager
def open_family(
    layer_fds: Sequence[int], options: Options, expected_sha256: Sequence[str] = (), ask: Ask | None = None
) -> Iterator[Unpacking]:
    """Like ``open_image`` for layers that are files of their own, lowest first; ``expected_sha256`` are their digests as stored.

    A family has no configuration. ``options.expected_sha256`` is not looked at.
    """
    if not layer_fds:
        raise BadInput("a family without layers", hint="name what holds at least one layer")
    with _reader(options, [*layer_fds, *options.own_fds], ask) as reader:
        stored = [whole_file(fd) for fd in layer_fds]
        for extent, expected in zip(stored, expected_sha256):
            reader.verify(check_of_archive(extent, expected))
        yield reader.unpacking(family(stored, expected_sha256))


@contextlib.contextmanager
def _reader(options: Options, source_fds: Sequence[int], ask: Ask | None) -> Iterator[_Reader]:
    with contextlib.ExitStack() as stack:
        if ask is None:
            broker = Broker(options, source_fds)
            stack.callback(broker.close)
            ask = broker.answer
        try:
            yield _Reader(options, source_fds, ask, stack)
        except MemoryError:
            raise Unsupported(
                "the host has not enough memory to merge this image's layers in",
                hint="about 600 bytes are needed for each file; give the host more, or raise the limit of this process (`ulimit -v`)",
            ) from None


class _Reader:
    """What reading an image takes; what it opens is closed with ``stack``."""

    def __init__(self, options: Options, source_fds: Sequence[int], ask: Ask, stack: contextlib.ExitStack) -> None:
        self.phases = Phases()
        self._options = options
        self._stack = stack
        self._deadline = Deadline(options.limits)
        spool = Spool(ask, source_fds, options.limits, self._deadline)
        stack.callback(spool.close)
        self.preparation = Preparation(options, spool, self._deadline)
        self._verifications: list[Verification] = []

    def verify(self, checks: Sequence[Check]) -> None:
        """Start computing digests beside all that follows."""
        verification = Verification(checks)
        self._stack.callback(verification.close)
        self._verifications.append(verification)

    def unpacking(self, image: Image) -> Unpacking:
        """Decompress, merge and plan ``image``."""
        with self.phases.phase("decompress"):
            try:
                prepared = self.preparation.prepare(image)
            except Untrusted as error:
                self._complete_hint(error, [layer.extent for layer in image.layers])
                raise
        self.verify(prepared.checks)
        added = [LayerTar("the added files", Extent.whole(fd), is_covered=True) for fd in self._options.own_fds]
        tars = [*prepared.tars, *added]
        with self.phases.phase("plan"), _collector_paused():
            layers = self._merged(tars)
            plan = make_plan(layers.tree, self._options.device_nodes, self._deadline)
        identities = {tar.extent: tar.identity for tar in tars}
        with self.phases.phase("origin"), _collector_paused():
            origin, unfit = self._origin(plan, identities)
        return Unpacking(
            plan,
            prepared.config,
            prepared.layout,
            len(prepared.tars),
            layers.tally,
            self._options,
            self.phases,
            self._verifications,
            frozenset(tar.extent.fd for tar in tars),
            prepared.warnings,
            frozenset(self.preparation.spool.missing_isolation),
            identities,
            origin,
            unfit,
        )

    def _origin(self, plan: Plan, identities: Mapping[Extent, str]) -> tuple[Origin | None, str]:
        """The origin, if there is one to make the tree of; else why not."""
        fd = self._options.origin_fd
        if fd < 0:
            return None, ""
        try:
            return Origin.read(fd, plan, identities, self._options.limits, self._deadline), ""
        except UnfitOrigin as error:
            return None, str(error)
        except MemoryError:  # of two trees there may be too much where of one there is not
            return None, "memory"

    def _complete_hint(self, error: Untrusted, tars: Sequence[Extent]) -> None:
        """Have the error about a limit name a value that suffices, where the headers of all layers tell it soon."""
        if error.details.get("limit") in COUNTED:
            limits = self._options.limits
            needed = whole_needs(tars, limits, min(_COUNTING_SECONDS, self._deadline.left_seconds))
            if needed:
                error.hint = limits.raised_for(needed)
                error.details["needed"] = needed[str(error.details["limit"])]

    def _merged(self, tars: Sequence[LayerTar]) -> Layers:
        layers = Layers(self._options.limits, self._deadline)
        for at, tar in enumerate(tars, 1):
            with doing(f"reading layer {at} of {len(tars)}"):
                try:
                    layers.apply(tar.extent, terminated=not tar.is_covered)
                except Untrusted as error:
                    self._complete_hint(error, [one.extent for one in tars])
                    raise
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

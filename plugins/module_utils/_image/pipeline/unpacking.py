# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From an archive to a tree: the entry point of this package.

    with open_image(archive_fd, options) as unpacking:     # everything is read, merged and, where compressed, verified
        ... make a volume for unpacking.plan ...
        summary = unpacking.write_into(root_fd)            # writes, and waits for the digests of the rest

Invariant: ``write_into`` does not return when a digest of what was read is wrong. What is written was hashed through the descriptor it was
read from. A layer is left unread only where the caller vouches for the archive (``Options.is_sealed``) and the origin has all of it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence

from ..._errors import BadInput, Unsupported, Untrusted, doing
from ..._host.processes.conversation import Ask
from ..compression.spool import Spool
from ..delta.layer_index import LayerIndex, UnfitOrigin
from ..delta.manifest import Manifest
from ..delta.origin import Origin, read_manifest
from ..extent import Extent
from ..formats.config import ImageConfig
from ..image import Image
from ..limits import Deadline, Limits
from ..merge.plan import DeviceNodes, Plan, make_plan
from ..options import Options, Summary
from ..phases import Phases
from ..platforms import PlatformPolicy
from .broker import Broker
from .earlier import plain_layers
from .merging import Indexed, collector_paused, complete_hint, merged
from .planned import Unpacking
from .preparing import UNREAD_FD, LayerTar, Preparation, Prepared, check_of_archive, family, identity_of, whole_file
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


@contextlib.contextmanager
def open_image(archive_fd: int, options: Options, ask: Ask | None = None) -> Iterator[Unpacking]:
    """Read and merge the image in the regular file ``archive_fd``; nothing is written but decompressed layers, to the spool.

    The descriptor must stay open until the context ends. Raises ``Untrusted`` for what is malformed, hostile or has a wrong digest,
    ``BadInput`` for options that fit nothing in it, ``Unsupported`` for what this host cannot read, ``NoSpace`` for a full spool.
    ``ask`` reaches the broker that knows the archive alone; without, this process is its own.
    """
    with _reader(options, [archive_fd, *options.own_fds], ask) as reader:
        stored = whole_file(archive_fd)
        reader.must_verify(check_of_archive(stored, options.expected_sha256))
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
            reader.must_verify(check_of_archive(extent, expected))
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
        self._waiting: list[Check] = []
        self._unfit_origin = ""
        self._ask = ask
        self._is_trusted = True
        self._old = self._manifest(options.origin_fd)
        self._old_layers: Mapping[str, Extent] = {}

    def must_verify(self, checks: Sequence[Check]) -> None:
        """Start ``checks`` now, or once it is known which layers are read."""
        if self._known or (self._options.asks_origin and self._options.is_sealed):
            self._waiting += checks
        else:
            self.verify(checks)

    def verify(self, checks: Sequence[Check]) -> None:
        """Start computing digests beside all that follows."""
        verification = Verification(checks)
        self._stack.callback(verification.close)
        self._verifications.append(verification)

    def unpacking(self, image: Image) -> Unpacking:
        """Decompress, merge and plan ``image``; without the layers that the origin has, if nothing of them is needed."""
        if self._options.first_layers:
            image = image._replace(layers=image.layers[: self._options.first_layers], others=())
        if self._options.asks_origin and len(image.layers) <= self._options.limits.layers:
            self._ask_for_origin(image)
        found = self._without_known_layers(image) if self._known else None
        if found is not None:
            return found
        self._verify_waiting(frozenset())
        try:
            prepared = self._prepared(image, {})
        except Untrusted as error:
            complete_hint(error, [layer.extent for layer in image.layers], self._options.limits, self._deadline)
            raise
        self.verify(prepared.checks)
        return self._planned(prepared)

    def _without_known_layers(self, image: Image) -> Unpacking | None:
        """Read the layers that the origin has not; None when that does not suffice. What is odd is left to the reading of all layers."""
        odd = (Untrusted, UnfitOrigin, MemoryError)
        try:
            prepared = self._prepared(image, self._known)
        except odd:
            return None
        # A wrong digest is no matter of the origin.
        self.verify(prepared.checks)
        self._verify_waiting(prepared.unread)
        try:
            found = self._planned(prepared)
        except odd:
            return None
        return None if found.origin is None or found.origin.needs(found.plan, UNREAD_FD) else found

    @property
    def _known(self) -> Mapping[str, LayerIndex]:
        """The layers that need not be read as long as the origin has all that is wanted of them."""
        is_vouched_for = self._options.is_sealed and self._is_trusted
        return self._old.indexes if self._old is not None and is_vouched_for else {}

    def _ask_for_origin(self, image: Image) -> None:
        """Have the caller choose the earlier base by the layers of ``image``, and of what is added to it."""
        layers = [[identity_of(layer), layer.extent.size] for layer in image.layers]
        added = [["", os.fstat(fd).st_size] for fd in self._options.own_fds]
        answer, fds = self._ask({"origin": {"layers": [*layers, *added]}})
        for fd in fds:
            self._stack.callback(os.close, fd)
        if fds:
            self._is_trusted = bool(answer["trusted"])
            self._old = self._manifest(fds[0])
            self._old_layers = plain_layers(self.preparation, fds[1:], answer["layers"])

    def _manifest(self, fd: int) -> Manifest | None:
        if fd < 0:
            return None
        try:
            return read_manifest(fd, self._options.limits)
        except UnfitOrigin as error:
            self._unfit_origin = str(error)
        except MemoryError:  # of two trees there may be too much where of one there is not
            self._unfit_origin = "memory"
        return None

    def _verify_waiting(self, unread: frozenset[Extent]) -> None:
        """Start those checks that wait and cover nothing that is ``unread``."""
        due = [check for check in self._waiting if not any(check.extent.covers(extent) for extent in unread)]
        self._waiting = [check for check in self._waiting if check not in due]
        self.verify(due)

    def _prepared(self, image: Image, known: Mapping[str, LayerIndex]) -> Prepared:
        with self.phases.phase("decompress"):
            return self.preparation.prepare(image, known)

    def _planned(self, prepared: Prepared) -> Unpacking:
        added = [LayerTar("the added files", Extent.whole(fd), is_covered=True) for fd in self._options.own_fds]
        tars = [*prepared.tars, *added]
        indexed: Indexed = {}
        with self.phases.phase("plan"), collector_paused():
            layers = merged(tars, indexed, self._options, self._deadline)
            plan = make_plan(layers.tree, self._options.device_nodes, self._deadline)
        identities = {tar.extent: tar.identity for tar in tars}
        with self.phases.phase("origin"), collector_paused():
            origin = self._origin(plan, identities)
        return Unpacking(
            plan,
            prepared.config,
            prepared.layout,
            len(prepared.tars),
            layers.tally,
            self._options,
            self.phases,
            self._verifications,
            frozenset(tar.extent.fd for tar in tars if tar.known is None),
            prepared.warnings,
            frozenset(self.preparation.spool.missing_isolation),
            [tar.identity for tar in tars],
            identities,
            indexed,
            origin,
            self._unfit_origin,
        )

    def _origin(self, plan: Plan, identities: Mapping[Extent, str]) -> Origin | None:
        """The origin, if there is one to make the tree of."""
        if self._old is None:
            return None
        try:
            return Origin.of(self._old, plan, identities, self._deadline, self._old_layers)
        except MemoryError:
            self._unfit_origin = "memory"
            return None

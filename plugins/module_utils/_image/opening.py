# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The entry point of this package: a child process reads, plans and writes an image.

    with open_image(archive_fd, options) as image:     # everything is read, merged and, where compressed, verified
        ... make a volume for image.plan ...
        summary = image.write_into(root_fd)            # writes, and waits for the digests of the rest

Invariant: this process parses no byte of an archive. The child that does cannot access the host (``pipeline.sandbox``), has kernel limits
on its memory and CPU time that follow from ``limits``, and is killed with all its children when ``seconds`` are over. Until it has a plan,
``pipeline.broker`` serves the requests that a reader may need.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, NoReturn

from .._errors import BadInput, CommandFailed, FlydError, doing, error_to_json
from .._host.processes.answer import Json
from .._host.processes.conversation import Ask, Conversation, Late, Line
from .formats.config import ImageConfig
from .limits import Limits
from .merge.plan import DeviceNodes
from .options import Options, OriginFigures, Summary
from .phases import Phases
from .pipeline.broker import Broker, NotAsked
from .pipeline.offer import MAX_IDENTITY, Layer, Offer, Offered
from .pipeline.reader import ONTO, read_and_write
from .pipeline.unpacking import Unpacking
from .pipeline.unpacking import open_family as read_family
from .pipeline.unpacking import open_image as read_image
from .platforms import PlatformPolicy

__all__ = [
    "DeviceNodes",
    "ImageConfig",
    "Layer",
    "Limits",
    "Offer",
    "Offered",
    "OpenImage",
    "Options",
    "OriginFigures",
    "PlanFigures",
    "PlatformPolicy",
    "Summary",
    "open_family",
    "open_image",
]

_GRACE = 1.05  # of the seconds allowed: the child gives up at them, and can say where it was


class PlanFigures(NamedTuple):
    """What the plan asks of a volume; see ``plan.Plan``."""

    volume_blocks: int
    inodes: int
    content_bytes: int
    scattered_bytes: tuple[int, ...]


class OpenImage(NamedTuple):
    """An image that was read and planned, ready to be written once."""

    plan: PlanFigures
    config: ImageConfig
    phases: Phases
    limits: Limits
    child: Conversation
    origin: OriginFigures | None = None  # what of the tree the earlier base has whose manifest was given
    unfit_origin: str = ""  # why nothing can be made of that one
    layers: tuple[str, ...] = ()  # the identities of the layers, lowest first; empty for one that no digest covers

    def write_into(
        self, root_fd: int, meanwhile: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext
    ) -> Summary:
        """Write the tree into the empty directory ``root_fd`` (opened for reading) and wait for all digests.

        The writing is done by a child whose root is that directory. May be called in a fork of the process that opened the image.
        ``meanwhile`` is entered when all is written and left when the digests are known.
        Raises ``Untrusted`` for a wrong digest, ``NoSpace`` when the file system is full, ``BadInput`` when the directory is not
        empty. Whatever is in it after an error is to be thrown away, behind ``stop``.
        """
        return self._written(root_fd, b".", meanwhile)

    def write_onto(
        self, root_fd: int, meanwhile: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext
    ) -> Summary:
        """Like ``write_into``, with a directory that has the tree of the origin, and nothing else.

        Raises ``CommandFailed`` with ``unfit_origin`` among its details when that tree cannot be changed into the image's.
        """
        return self._written(root_fd, ONTO, meanwhile)

    def _written(
        self, root_fd: int, word: bytes, meanwhile: Callable[[], contextlib.AbstractContextManager[object]]
    ) -> Summary:
        begun = time.monotonic()
        try:
            if word != ONTO:
                _check_is_empty(root_fd)
            self.child.give(root_fd, word)
            with doing("writing the tree"):
                is_written = _heard(self.child, self.limits, begun) is not None
            with meanwhile() if is_written else contextlib.nullcontext():
                return Summary(**_result(self.child, self.limits, begun))
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the child: nothing of it holds the directory that it was given."""
        self.child.stop()


def open_image(
    archive_fd: int, options: Options, offer: Offer | None = None
) -> contextlib.AbstractContextManager[OpenImage]:
    """Read and merge the image in the regular file ``archive_fd``; nothing is written but decompressed layers, to the spool.

    The descriptor must stay open until the context ends. Raises ``Untrusted`` for what is malformed, hostile, has a wrong digest or takes
    longer than it may, ``BadInput`` for options that fit nothing in it, ``Unsupported`` for what this host cannot read, ``NoSpace`` for a
    full spool. ``offer`` is asked for the origin, if ``options`` say so; what it raises is raised.
    """
    return _opened(lambda ask: read_image(archive_fd, options, ask), options, [archive_fd, *options.own_fds], offer)


def open_family(
    layer_fds: Sequence[int], options: Options, expected_sha256: Sequence[str] = (), offer: Offer | None = None
) -> contextlib.AbstractContextManager[OpenImage]:
    """Like ``open_image`` for layers that are files of their own, lowest first; ``expected_sha256`` are their digests as stored.

    A family has no configuration. ``options.expected_sha256`` is ignored.
    """
    if not layer_fds:
        raise BadInput("a family without layers", hint="name what holds at least one layer")
    return _opened(
        lambda ask: read_family(layer_fds, options, expected_sha256, ask),
        options,
        [*layer_fds, *options.own_fds],
        offer,
    )


@contextlib.contextmanager
def _opened(
    read: Callable[[Ask], contextlib.AbstractContextManager[Unpacking]],
    options: Options,
    fds: Sequence[int],
    offer: Offer | None,
) -> Iterator[OpenImage]:
    begun = time.monotonic()

    def work(line: Line) -> Json:
        return read_and_write(read, options, line)

    kept_fds = {*fds, *options.kept_fds}
    child = Conversation(work, what="reading the image", kept_fds=kept_fds, apart=True)
    try:
        with doing("reading the image"), contextlib.closing(Broker(options, fds, offer)) as broker:
            while (report := _heard(child, options.limits, begun)) is not None and "ask" in report:
                _serve(broker, child, report["ask"])
        if report is None:
            _result(child, options.limits, begun)
            raise CommandFailed(
                "the child for reading the image ended without a plan", hint="run again", retryable=True
            )
        yield _understood(report, options.limits, child)
    finally:
        child.stop()
        child.close()


def _check_is_empty(root_fd: int) -> None:
    if os.listdir(root_fd):
        raise BadInput(
            "the directory to unpack into is not empty",
            hint="remove the volume and run flyd_unpack again, or give `unpack.py` an empty directory",
        )


def _serve(broker: Broker, child: Conversation, question: Json) -> None:
    """Answer what the child asks for; raises ``CommandFailed`` for what it should not ask for."""
    fds: list[int] = []
    try:
        result, fds = broker.answer(question)
        child.reply({"result": result}, fds)
    except NotAsked:
        raise
    except FlydError as error:
        child.reply({"error": error_to_json(error)})
    finally:
        for fd in fds:
            os.close(fd)


def _heard(child: Conversation, limits: Limits, begun: float) -> dict[str, Json] | None:
    try:
        return child.hear(begun + limits.seconds * _GRACE - time.monotonic())
    except Late:
        child.stop()
        _took_too_long(limits, begun)


def _result(child: Conversation, limits: Limits, begun: float) -> Any:
    """The result of the child; its end without one is that of its time when it had no more."""
    try:
        return child.result()
    except CommandFailed:
        if time.monotonic() - begun >= limits.seconds:  # the kernel's limit on its CPU time
            _took_too_long(limits, begun)
        raise


def _took_too_long(limits: Limits, begun: float) -> NoReturn:
    limits.exceeded("seconds", max(limits.seconds, int(time.monotonic() - begun)) + 1)


def _understood(report: Json, limits: Limits, child: Conversation) -> OpenImage:
    """What the child reports; it may have been compromised by the archive, so the report is not trusted."""
    try:
        phases = Phases()
        phases.seconds = {str(name): float(seconds) for name, seconds in report["seconds"].items()}
        counts = [max(0, int(report["plan"][name])) for name in PlanFigures._fields[:-1]]
        scattered = tuple(max(0, int(value)) for value in report["plan"]["scattered_bytes"])
        plan = PlanFigures(counts[0], counts[1], counts[2], scattered)
        config = ImageConfig.from_fields(report["config"])
        layers = tuple(str(identity)[:MAX_IDENTITY] for identity in report["layers"])
        unfit = str(report["unfit_origin"])[:80]
        return OpenImage(plan, config, phases, limits, child, _origin(report["origin"]), unfit, layers)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        raise CommandFailed("the child for reading the image reports what is no plan", hint="run again") from None


def _origin(report: Json) -> OriginFigures | None:
    return report and OriginFigures(*(max(0, int(report[name])) for name in OriginFigures._fields))

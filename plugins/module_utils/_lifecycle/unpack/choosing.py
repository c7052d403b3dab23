# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which base a new one is made of: the newest of its key, one of another key that has only held layers of the new image, or a hidden one.

Invariant: only bases that are sealed and in the pool are considered. The choice is made when the reader has named the layers, before
anything of the image is decompressed; ``weighed`` looks at it again when the image is known.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Callable, NamedTuple

from ..._image.opening import Layer, Offered
from ..._names import ObjectKey
from ..._thin.ext4.filesystem import RECIPE
from ..run import Run
from ..store.base_record import BaseRecord
from ..store.records import Image, PoolRecord, RetiredImage, Volume, VolumeState
from ..volumes.hidden import HIDDEN
from ..volumes.manifests import open_manifest
from .options import Reuse, UnpackOptions
from .origins import Candidate, Choice, Fresh, fresh, refused
from .sources import open_archives

LEAST_SHARED_BYTES = 32 << 20  # of layers, as they are stored, for which a hidden base is made
_LEAST_SHARE = 3  # of all layers, one part in so many
_MOST_DEPTH = 64  # a damaged block is inherited by all that are made of it
Find = Callable[[Sequence[Layer]], Choice]


class WantsHidden(Exception):
    """A hidden base of the ``count`` lowest layers of the image is to be made first."""

    def __init__(self, count: int) -> None:
        self.count = count


class Offering:
    """Answers the reader that has named the layers; ``choice`` is what has come of it."""

    def __init__(self, choice: Choice, find: Find | None = None) -> None:
        self.choice = choice
        self._find = find

    @property
    def is_open(self) -> bool:
        """Whether the layers decide."""
        return self._find is not None

    def offer(self, layers: Sequence[Layer]) -> Offered | None:
        """The base that suits an image of ``layers``, lowest first; raises ``WantsHidden``."""
        if self._find is not None:
            self.choice = self._find(layers)
        origin = self.choice.origin
        return (
            None
            if origin is None
            else Offered(origin.manifest_fd, origin.is_of_same_key, origin.archive_fds, origin.layer_sha256)
        )


def no_offer(_layers: Sequence[Layer]) -> None:
    """Offers nothing."""


class _Base(NamedTuple):
    """A base that is there, the key that it belongs to, empty for a hidden one, and the archives that it was made of."""

    volume: Volume
    record: BaseRecord
    key: str
    digests: tuple[str, ...] = ()


@contextlib.contextmanager
def offering(
    host: Run, pool: PoolRecord, image: Image, asked: UnpackOptions, *, wants_hidden: bool = True
) -> Iterator[Offering]:
    """What is offered for a new base of ``image`` in ``pool``; the files that are offered are closed behind the work.

    Without ``wants_hidden`` no hidden base is asked for.
    """
    if asked.reuse is Reuse.NEVER:
        yield Offering(fresh(Fresh.NEVER))
        return
    with contextlib.ExitStack() as opened:
        choosing = _Choosing(host, pool, image, asked.reuse, opened, wants_hidden=wants_hidden)
        yield Offering(choosing.none, choosing.find if choosing.has_any else None)


class _Choosing:
    """What is there in ``pool`` for ``image``; manifests are opened with ``opened``."""

    def __init__(
        self,
        host: Run,
        pool: PoolRecord,
        image: Image,
        reuse: Reuse,
        opened: contextlib.ExitStack,
        *,
        wants_hidden: bool,
    ) -> None:
        self._wants_hidden = wants_hidden
        self._host = host
        self._key = image.object_key
        self._opened = opened
        there = _bases(host, pool)
        newest = next((one for one in there if one.key == self._key), None)
        self._problem = Fresh.NO_BASE if newest is None else _problem(newest.record)
        self._own = None if self._problem else newest
        others = [one for one in there if one.key != self._key and not _problem(one.record)]
        self._others = others if reuse is Reuse.AUTO else []

    @property
    def has_any(self) -> bool:
        """Whether there is anything to choose from."""
        return self._own is not None or bool(self._others)

    @property
    def none(self) -> Choice:
        """The choice where there is nothing to choose from."""
        return fresh(self._problem or Fresh.NO_BASE)

    def find(self, layers: Sequence[Layer]) -> Choice:
        """The base that has most of ``layers``; one of the key may have equal files in others as well, which count half."""
        total_bytes = sum(layer.size_bytes for layer in layers)
        ranked: list[tuple[int, _Base]] = []
        if self._own is not None:
            common_bytes = _common_bytes(self._own.record, layers) if self._own.record.layers else total_bytes
            ranked.append(((common_bytes + total_bytes) // 2, self._own))
        problem = self._problem
        names = [layer.identity for layer in layers]
        for one in self._others:
            common_bytes = _common_bytes(one.record, layers)
            refusal = refused(one.record, names) if common_bytes else None
            if common_bytes and refusal is None:
                ranked.append((common_bytes, one))
            elif problem is Fresh.NO_BASE:
                problem = refusal or problem
        if self._wants_hidden and self._own is None:
            count = _worth_hiding(layers, self._others, max([0, *(score for score, _one in ranked)]))
            if count:
                raise WantsHidden(count)
        for _score, one in sorted(ranked, key=lambda pair: -pair[0]):
            found = self._opened_one(one)
            if isinstance(found, Candidate):
                return Choice(found, None)
            problem = found if problem in (None, Fresh.NO_BASE) else problem
        return fresh(problem or Fresh.NO_BASE)

    def _opened_one(self, one: _Base) -> Candidate | Fresh:
        is_own = one.key == self._key
        if not is_own and self._host.dm.find(one.volume.uuid) is not None:
            return (
                Fresh.IN_USE
            )  # a run that is killed while it is suspended would leave it so until the next one of its own key
        fd = open_manifest(self._host, one.volume.ulid, one.record.manifest_sha256)
        if fd < 0:
            return Fresh.NO_MANIFEST
        self._opened.callback(os.close, fd)
        archive_fds = open_archives(self._host, one.digests, self._opened) if is_own else ()
        layer_sha256 = one.digests if archive_fds and ObjectKey(one.key).is_family else ()
        return Candidate(one.volume, one.record, one.key, fd, is_own, archive_fds, layer_sha256)


def _bases(host: Run, pool: PoolRecord) -> list[_Base]:
    """The sealed bases in ``pool`` that images have, and the hidden ones, the newest first."""
    images = {one.base_ulid: one for one in (*host.store.all(Image), *host.store.all(RetiredImage))}
    of_images = {ulid: (one.object_key, one.digests) for ulid, one in images.items()}
    records = {one.base_ulid: one for one in host.store.all(BaseRecord)}
    volumes = host.store.all(Volume, "pool_id=? AND state=?", pool.id, VolumeState.LIVE.value)
    of_images.update({volume.ulid: ("", ()) for volume in volumes if volume.kind == HIDDEN})
    unknown = BaseRecord("", "", 0, "", 0, 0, "")
    return [
        _Base(volume, records.get(volume.ulid, unknown), *of_images[volume.ulid])
        for volume in sorted(volumes, key=lambda volume: volume.ulid, reverse=True)
        if volume.ulid in of_images
    ]


def _problem(record: BaseRecord) -> Fresh | None:
    if not record.manifest_sha256:
        return Fresh.NO_MANIFEST
    if record.recipe != RECIPE:
        return Fresh.OTHER_KIND
    return Fresh.DEEP if record.depth + 1 >= _MOST_DEPTH else None


def _worth_hiding(layers: Sequence[Layer], others: Sequence[_Base], have_bytes: int) -> int:
    """How many of the lowest ``layers`` another base has as its lowest, where that saves much beside ``have_bytes``; else 0."""
    names = [layer.identity for layer in layers]
    longest = 0
    for one in others:
        own, count = one.record.own_layers, 0
        while count < min(len(names) - 1, len(own)) and names[count] and names[count] == own[count]:
            count += 1
        longest = max(longest, count)
    shared_bytes = sum(layer.size_bytes for layer in layers[:longest])
    total_bytes = sum(layer.size_bytes for layer in layers)
    is_worth_it = shared_bytes - have_bytes >= LEAST_SHARED_BYTES and shared_bytes * _LEAST_SHARE >= total_bytes
    return longest if is_worth_it else 0


def _common_bytes(record: BaseRecord, layers: Sequence[Layer]) -> int:
    own = {identity for identity in record.own_layers if identity}
    return sum(layer.size_bytes for layer in layers if layer.identity in own)

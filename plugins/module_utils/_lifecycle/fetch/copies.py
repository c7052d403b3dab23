# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which parts of an object the archives of this host have.

Invariant: what an archive holds is read from its own headers now; nothing of it is recorded, so nothing can be stale. Without an expected
digest only generations of the same key are looked at. The digests that archives claim are public: naming that of another key's layer in an
archive would give the layer, if not the digest of the whole had to be right, which takes the layer to compute.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ..._image.outline.claims import Claim, claims
from ..._names import Digest
from ..._source.reuse.paged import Paged
from ..._source.reuse.seeding import NotReused, Seed, Seeds
from ..run import Run
from .ahead import Ahead, Outline, outline_of
from .options import FetchOptions, Reuse

LEAST_OBJECT_BYTES = 32 << 20  # below that a whole download is as good
LEAST_HERE_BYTES = 8 << 20
_MAX_ARCHIVES = 64
_MAX_SECONDS = 1.0  # for reading the headers of all


class _Archive(NamedTuple):
    """An open archive, and what it claims."""

    fd: int
    is_of_another_key: bool
    outline: Outline


class _Here(NamedTuple):
    archive: _Archive
    offset: int


class LocalCopies:
    """The archives ``own``, which are of the key that is downloaded, and all others in ``directory``; see ``Copies``."""

    def __init__(self, own: Sequence[str], directory: str) -> None:
        self._own = own
        self._directory = directory

    @contextlib.contextmanager
    def seeds(self, elsewhere: Paged, expected: Digest | None) -> Iterator[Seeds]:
        """What of the object ``elsewhere`` the archives have, and why it is not more."""
        if elsewhere.size_bytes < LEAST_OBJECT_BYTES:
            yield Seeds((), NotReused.SMALL_OBJECT)
            return
        with contextlib.ExitStack() as opened:
            archives = list(self._archives(opened, also_others=expected is not None))
            here = {
                _id(one): _Here(archive, one.offset) for archive in reversed(archives) for one in archive.outline.claims
            }
            if sum(size_bytes for _sha256, size_bytes in here) < LEAST_HERE_BYTES:
                yield Seeds((), NotReused.NO_COPIES)
                return
            ahead = Ahead(elsewhere, archives[0].fd, archives[0].outline)
            there = claims(ahead.read, elsewhere.size_bytes)
            if there is None:
                yield Seeds((), NotReused.NOT_UNDERSTOOD)
                return
            found = tuple(_seed(one, here[one.sha256, one.size_bytes]) for one in there if _id(one) in here)
            yield Seeds(found, None if found else NotReused.NOTHING_IN_COMMON)

    def _archives(self, opened: contextlib.ExitStack, *, also_others: bool) -> Iterator[_Archive]:
        """The archives that claim anything; those of the key first, the newest first."""
        until = time.monotonic() + _MAX_SECONDS
        others = [path for path in _newest(self._directory) if path not in self._own] if also_others else []
        for path in [*self._own, *others][:_MAX_ARCHIVES]:
            if time.monotonic() > until:
                return
            with contextlib.suppress(OSError):
                fd = _open(path)
                opened.callback(os.close, fd)
                outline = outline_of(fd)
                if outline.claims:
                    yield _Archive(fd, path not in self._own, outline)


def copies_for(host: Run, options: FetchOptions) -> LocalCopies | None:
    """Where parts of the archive may be taken from; nowhere for a file of this host or of the controller: it is not requested."""
    if options.reuse is Reuse.NEVER or not options.place.is_requested:
        return None
    generations = [one for one in host.store.generations(options.key.value) if one.sha256 and one.members == "[]"]
    newest = sorted(generations, key=lambda one: one.created_at, reverse=True)
    return LocalCopies([host.archive_path(one.sha256) for one in newest], host.settings.path("archives"))


def _id(claim: Claim) -> tuple[str, int]:
    return claim.sha256, claim.size_bytes


def _seed(there: Claim, here: _Here) -> Seed:
    end = there.offset + there.size_bytes
    archive = here.archive
    return Seed(there.offset, end, archive.fd, here.offset, there.sha256, archive.is_of_another_key)


def _open(path: str) -> int:
    """A regular file, for reading; raises ``OSError`` for anything else."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise OSError(path)


def _newest(directory: str) -> list[str]:
    """The paths of the files in the directory, the newest first."""
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        dated = [(one.stat(follow_symlinks=False).st_mtime, one.path) for one in entries]
        return [path for _time, path in sorted(dated, reverse=True)]
    return []

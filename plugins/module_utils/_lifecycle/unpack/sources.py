# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files that a base is made from: archives that were fetched, what is added to the image, the manifests.

Invariant: what is hashed and unpacked is what one open file holds; each file is closed behind the work.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence

from ..._errors import FlydError, OutOfOrder
from ..._host.files.durable import file_errors
from ..._image.opening import Offer, OpenImage, Options, open_family, open_image
from ..._image.tar.making import AddedFile
from ..._names import ObjectKey
from ..image.corruption import rot_removed
from ..image.seals import is_as_recorded
from ..run import Run
from ..store.records import Image
from .inject import layer_of

_MAX_ARCHIVES = 200  # one message carries no more descriptors (SCM_MAX_FD)


@contextlib.contextmanager
def new_file() -> Iterator[int]:
    """The descriptor of a nameless file for the manifest."""
    fd = os.memfd_create("flyd-manifest", os.MFD_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def opened(
    host: Run, image: Image, options: Options, added: Sequence[AddedFile], manifest_fd: int, offer: Offer
) -> Iterator[OpenImage]:
    """The image in its archive, or that of a family in its layers, each verified by its own digest; ``added`` lie over it.

    The manifest of its tree is written to ``manifest_fd``; ``offer`` is asked for its origin, if ``options`` say so.
    """
    with contextlib.ExitStack() as stack:
        options = options._replace(top_layer_fd=stack.enter_context(layer_of(added)), manifest_fd=manifest_fd)
        fds = [stack.enter_context(_open_archive(host.archive_path(digest))) for digest in image.digests]
        is_sealed = all(is_as_recorded(host, digest, fd) for digest, fd in zip(image.digests, fds))
        options = options._replace(is_sealed=is_sealed)
        stack.enter_context(rot_removed(host, tuple(zip(fds, image.digests))))
        is_family = ObjectKey(image.object_key).is_family
        opened = open_family(fds, options, image.digests, offer) if is_family else open_image(fds[0], options, offer)
        yield stack.enter_context(opened)


def open_archives(host: Run, digests: Sequence[str], stack: contextlib.ExitStack) -> tuple[int, ...]:
    """The archives of these digests, each as it was verified; none at all when one is not there. ``stack`` closes them."""
    fds: list[int] = []
    if len(digests) > _MAX_ARCHIVES:
        return ()
    for digest in digests:
        try:
            fds.append(stack.enter_context(_open_archive(host.archive_path(digest))))
        except FlydError:
            return ()
        if not is_as_recorded(host, digest, fds[-1]):
            return ()
    return tuple(fds)


@contextlib.contextmanager
def _open_archive(path: str) -> Iterator[int]:
    """The archive's descriptor: what is hashed and unpacked is what this one open file holds."""
    with file_errors("opening the archive"):
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            raise OutOfOrder(
                f"the fetched archive {path} is gone",
                hint="run flyd_fetch again: it finds that out and downloads the archive again",
            ) from None
    try:
        yield fd
    finally:
        os.close(fd)

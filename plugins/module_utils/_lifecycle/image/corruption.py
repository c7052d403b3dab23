# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An archive that was corrupted after it was fetched, by a failing disk or by another program.

Invariant: only a file whose digest, computed now, is not the one in its name is removed. Otherwise flyd_fetch would find it and never
download an intact one.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Sequence

from ..._errors import Untrusted
from ..._host.files.durable import file_errors
from ..run import Run
from .seals import remove_archive

_CHUNK_BYTES = 1 << 20


@contextlib.contextmanager
def rot_removed(host: Run, archives: Sequence[tuple[int, str]]) -> Iterator[None]:
    """When the block finds one of the open ``archives`` not to be trusted, see which has rotted, and remove it.

    Each is a descriptor and the SHA-256 that its content had when it was fetched.
    """
    try:
        yield
    except Untrusted as error:
        for fd, sha256 in archives:
            found = _sha256(fd)
            if found != sha256:
                with host.store.transaction():
                    remove_archive(host, sha256)
                raise _changed(host.archive_path(sha256), sha256, found, error) from error
        raise


def _changed(path: str, sha256: str, found: str, error: Untrusted) -> Untrusted:
    return Untrusted(
        f"the archive {path} has changed since it was fetched: it has sha256:{found} now, and was removed ({error.msg})",
        hint="run flyd_fetch again: it downloads the archive again; see `dmesg` for a failing disk, and who else can write there",
        expected=f"sha256:{sha256}",
        found=f"sha256:{found}",
    )


def _sha256(fd: int) -> str:
    digest, at = hashlib.sha256(), 0
    with file_errors("reading the archive"):
        while chunk := os.pread(fd, _CHUNK_BYTES, at):
            digest.update(chunk)
            at += len(chunk)
    return digest.hexdigest()

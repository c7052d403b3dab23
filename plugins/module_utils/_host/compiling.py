# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compile the collection's code once for all modules of this host; ``_engine.py`` reads what is written here.

Invariant: the engine is whole and on disk before it has its name, and each of its codes was compiled from the source of which it has the CRC.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import json
import marshal
import os
import zlib
from collections.abc import Iterator, Mapping

from .. import _engine
from .files.durable import sync_directory

_MODE = 0o644


def install(path: str, sources: Mapping[str, str]) -> bool:
    """Have the engine in the file ``path`` made of ``sources``, by their paths in the package; says whether that changed it.

    Where another user than root can write to a directory above, the modules would not read it, and none is written.
    """
    wanted = {name: text.encode() for name, text in sources.items()}
    with _locked(os.path.dirname(path)):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(_new(path))  # of a run that was killed
        present = {name: row[:2] for name, row in _engine.open_engine(path).files.items()}
        if present == {name: [zlib.crc32(text), len(text)] for name, text in wanted.items()}:
            return False
        if _engine.unsafe_parent(path) is not None:
            return False
        _replace(path, packed(wanted))
        return True


def packed(sources: Mapping[str, bytes]) -> bytes:
    """What the engine of these sources holds, for the Python that runs this."""
    codes = [
        marshal.dumps(compile(text, f"{_engine.PATH}/{name}", "exec", dont_inherit=True, optimize=0))
        for name, text in sources.items()
    ]
    files, begin = {}, 0
    for (name, text), code in zip(sources.items(), codes):
        files[name] = [zlib.crc32(text), len(text), begin, begin + len(code)]
        begin += len(code)
    head = json.dumps({"magic": importlib.util.MAGIC_NUMBER.hex(), "files": files}).encode()
    rest = b"\n".join((head, b"".join(codes)))
    return b"%0*x" % (_engine.CRC_DIGITS, zlib.crc32(rest)) + rest


def _new(path: str) -> str:
    return f"{path}.new"


def _replace(path: str, data: bytes) -> None:
    new = _new(path)
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
    with open(fd, "wb") as file:
        os.fchmod(fd, _MODE)
        file.write(data)
        file.flush()
        os.fsync(fd)
    os.rename(new, path)
    sync_directory(os.path.dirname(path))


@contextlib.contextmanager
def _locked(directory: str) -> Iterator[None]:
    """Be the only one at work in ``directory``: the role takes the same lock while it makes the virtual environment."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)

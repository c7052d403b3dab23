# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of the host that are put into a base beside what the image has: an init, a key, a configuration.

Invariant: each is a regular file at the moment of reading, and what is recorded of it is the digest of the bytes that were written.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..._errors import BadInput
from ..._host.files.durable import file_errors
from ..._image.tar.making import AddedFile, tar_of
from ..._names import printable, size_text
from ..outcome import Facts

MOST_BYTES = 256 << 20  # of all files together, which are held in memory
_MOST_ID = 2**32 - 2


class Injected(NamedTuple):
    """One file: where it is on the host, where it goes, its permission bits (-1: the file's own) and numeric owner."""

    src: str
    dest: str
    mode: int = -1
    uid: int = 0
    gid: int = 0

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> Injected:
        """From the sub-options; raises ``BadInput`` that names the one that is wrong."""
        src, dest = str(given.get("src") or ""), str(given.get("dest") or "")
        if not os.path.isabs(src):
            raise BadInput(f"inject: src is {printable(src)!r}", hint="give the absolute path of a file on the host")
        parts = dest.split("/")
        if (
            not dest.startswith("/")
            or dest.endswith("/")
            or any(part in ("", ".", "..") for part in parts[1:])
            or "\0" in dest
        ):
            raise BadInput(
                f"inject: dest is {printable(dest)!r}, which is not the path of a file in the image",
                hint="give an absolute path without . and .., such as /sbin/init",
            )
        owner, group = (_id(name, given.get(name)) for name in ("owner", "group"))
        return cls(src, dest, _mode(given.get("mode")), owner, group)


def _id(name: str, value: Any) -> int:
    if value is None:
        return 0
    if not 0 <= int(value) <= _MOST_ID:
        raise BadInput(
            f"inject: {name} is {value}",
            hint=f"set {name} of inject to a number from 0 to {_MOST_ID}, as the image knows it",
        )
    return int(value)


def _mode(value: Any) -> int:
    if value is None or value == "":
        return -1
    try:
        bits = value if isinstance(value, int) else int(str(value), 8)
    except ValueError:
        bits = -1
    if not 0 <= bits <= 0o7777:
        raise BadInput(
            f"inject: mode is {printable(str(value))!r}, which is not an octal mode",
            hint="set mode of inject to an octal number in quotes, such as '0755'",
        )
    return bits


def read_files(injected: Sequence[Injected]) -> list[AddedFile]:
    """The files as they are now; raises ``BadInput`` for one that is missing, is no file, or when all together are too large."""
    found: list[AddedFile] = []
    left_bytes = MOST_BYTES
    for one in injected:
        content, mode = _read(one, left_bytes)
        left_bytes -= len(content)
        found.append(
            AddedFile(os.fsencode(one.dest.lstrip("/")), content, mode if one.mode < 0 else one.mode, one.uid, one.gid)
        )
    return found


def _read(one: Injected, left_bytes: int) -> tuple[bytes, int]:
    with file_errors(f"reading {one.src} (inject)"):
        try:
            fd = os.open(one.src, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            raise BadInput(
                f"inject: src is {printable(one.src)}, which does not exist on the host",
                hint="copy it to the host first (ansible.builtin.copy), or correct the path",
            ) from None
        with contextlib.ExitStack() as stack:
            stack.callback(os.close, fd)
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise BadInput(
                    f"inject: src is {printable(one.src)}, which is no regular file", hint="give the path of a file"
                )
            content = stack.enter_context(open(fd, "rb", closefd=False)).read(left_bytes + 1)
    if len(content) > left_bytes:
        raise BadInput(
            f"the files of inject have more than {size_text(MOST_BYTES)} together",
            hint="inject small files only; put large ones into the image, or on a volume of their own",
        )
    return content, stat.S_IMODE(status.st_mode)


def described(files: Sequence[AddedFile]) -> list[Facts]:
    """What is recorded of them, and shown in results."""
    return [
        {
            "dest": "/" + os.fsdecode(file.name),
            "sha256": hashlib.sha256(file.content).hexdigest(),
            "mode": f"{file.mode:04o}",
            "owner": file.uid,
            "group": file.gid,
        }
        for file in files
    ]


@contextlib.contextmanager
def layer_of(files: Sequence[AddedFile]) -> Iterator[int]:
    """The descriptor of a nameless file with the layer that has them; -1 for none."""
    if not files:
        yield -1
        return
    fd = os.memfd_create("flyd-inject", os.MFD_CLOEXEC)
    with os.fdopen(fd, "wb") as file:
        for piece in tar_of(files):
            file.write(piece)
        file.flush()
        yield fd

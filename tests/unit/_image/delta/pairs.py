# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random pairs of images, the second like a rebuild of the first, and their trees: written fresh, and by applying the difference.

Invariant: a pair follows from its number alone, so that a failure names all that it takes to see it again.
"""

from __future__ import annotations

import contextlib
import os
import random
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from module_utils._image.pipeline.broker import Broker
from module_utils._image.pipeline.offer import Offered
from module_utils._image.pipeline.unpacking import Unpacking, open_image
from tests.tools.tree import Rows, rows_of_directory
from tests.unit._image.unpacked import options
from tests.unit.builders import images, tar

_NAMES = [b"a", b"b", b"c", b"lib", b"usr", b"x", b"y.py", b".flyd-aside"]
_MODES = [0o644, 0o755, 0o600, 0o4755, 0o2755, 0o1777, 0o2775, 0o000, 0o664, 0o700]
_TIMES = [b"1700000000", b"1600000000.123456789", b"-5.5", b"12000000000.5", b"7"]
_KINDS = (
    ["file"] * 16
    + ["directory"] * 10
    + ["symlink"] * 4
    + ["fifo", "device", "device", "sparse", "sparse", "empty", "empty"]
)
_UNDEFINED = 0xFFFFFFFF
_SPARSE_BYTES = 300_000


def _acl(*entries: tuple[int, int, int]) -> bytes:
    """An access control list as the kernel takes it: linux/posix_acl_xattr.h."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


_ACLS = [
    _acl((1, 7, _UNDEFINED), (2, 6, 1000), (4, 5, _UNDEFINED), (16, 7, _UNDEFINED), (32, 4, _UNDEFINED)),
    _acl((1, 6, _UNDEFINED), (4, 4, _UNDEFINED), (8, 7, 50), (16, 7, _UNDEFINED), (32, 0, _UNDEFINED)),
]
_CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")


class Member(NamedTuple):
    """One member of a layer."""

    kind: str
    name: bytes
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    mtime: bytes = b"7"
    body: bytes = b""  # content, target, or the place of a sparse file's data
    xattrs: tuple[tuple[bytes, bytes], ...] = ()

    def packed(self) -> bytes:
        """The member as it stands in a tar, with its extended header."""
        access: dict[str, Any] = {"mode": self.mode, "uid": self.uid, "gid": self.gid}
        records = [(b"mtime", self.mtime), *((b"SCHILY.xattr." + name, value) for name, value in self.xattrs)]
        if self.kind == "sparse":
            place = b"%d,4096" % (len(self.body) // 4096 % 3 * 65536)
            sparse = [(b"size", b"%d" % _SPARSE_BYTES), (b"numblocks", b"1"), (b"map", place)]
            records += [(b"GNU.sparse." + key, value) for key, value in sparse]
        return tar.pax(*records) + self._without_header(access)

    def _without_header(self, access: dict[str, Any]) -> bytes:
        if self.kind == "directory":
            return tar.directory(self.name, **access)
        if self.kind == "symlink":
            return tar.symlink(self.name, self.body, uid=self.uid, gid=self.gid)
        if self.kind == "link":
            return tar.hard_link(self.name, self.body)
        if self.kind == "fifo":
            return tar.fifo(self.name, **access)
        if self.kind == "device":
            return tar.device(self.name, b"34"[self.uid > 0 :][:1], 1 + self.gid % 5, 3, **access)
        return tar.file(self.name, self.body[:4096] if self.kind == "sparse" else self.body, **access)


class Pair(NamedTuple):
    """The layers of both images, lowest first."""

    first: tuple[bytes, ...]
    second: tuple[bytes, ...]


def pair(number: int) -> Pair:
    """The pair of that number: the second image keeps some layers, has others with small changes, and others instead."""
    chance = random.Random(number)
    first = [_layer(chance, chance.randrange(3, 30)) for _layer_number in range(chance.randrange(1, 4))]
    second = [_next(chance, layer) for layer in first]
    if chance.random() < 0.3:
        second.append(_layer(chance, 10))
    return Pair(tuple(map(_packed, first)), tuple(map(_packed, second)))


def related(number: int) -> Pair:
    """Two images of different origin: the second has all layers of the first, and layers of its own among and above them."""
    chance = random.Random(f"related {number}")
    first = [_layer(chance, chance.randrange(3, 30)) for _layer_number in range(chance.randrange(1, 4))]
    second = list(first)
    for _layer_number in range(chance.randrange(1, 4)):
        second.insert(chance.randrange(len(second) + 1), _layer(chance, chance.randrange(3, 20)))
    return Pair(tuple(map(_packed, first)), tuple(map(_packed, second)))


def _packed(layer: Sequence[Member]) -> bytes:
    return tar.tar(*(member.packed() for member in layer))


def _next(chance: random.Random, layer: list[Member]) -> list[Member]:
    what = chance.random()
    if what < 0.35:
        return layer
    return list(_rebuilt(chance, layer)) if what < 0.75 else _layer(chance, chance.randrange(3, 30))


def _rebuilt(chance: random.Random, layer: list[Member]) -> Iterator[Member]:
    """The same members with a few changes behind them."""
    targets = {member.body for member in layer if member.kind == "link"}
    for member in layer:
        what = chance.random()
        if what < 0.08 and member.name not in targets:
            continue
        if what > 0.95:
            yield member._replace(mtime=b"77.25")
        elif what > 0.86:
            yield member._replace(mode=member.mode ^ 0o010, gid=chance.choice((0, 50)))
        elif what > 0.78 and member.kind == "file" and member.body:
            yield member._replace(body=member.body[:-1] + b"!")
        elif what > 0.74 and member.kind in ("file", "directory"):
            yield member._replace(xattrs=_xattrs(chance, member.kind))
        else:
            yield member


def _layer(chance: random.Random, count: int) -> list[Member]:
    made: list[Member] = []
    if chance.random() < 0.4:
        root = Member("directory", b"./", chance.choice((0o755, 0o2775)), gid=chance.choice((0, 50)))
        made.append(root._replace(mtime=chance.choice(_TIMES), xattrs=_xattrs(chance, "directory")))
    last = b""  # a link follows what it links to: what stands between could take it away
    for _number in range(count):
        parents = [chance.choice(_NAMES) for _depth in range(chance.randrange(3))]
        name = b"/".join([*parents, chance.choice(_NAMES)])
        what = chance.random()
        if what < 0.06:
            last = b""
            made.append(Member("file", b"/".join([*parents, b".wh." + chance.choice((*_NAMES, b".wh..opq"))])))
        elif what < 0.4 and last not in (b"", name):
            made.append(Member("link", name, body=last))
            last = name
        else:
            made.append(_member(chance, name))
            last = name if made[-1].kind != "directory" else b""
    return made


def _member(chance: random.Random, name: bytes) -> Member:
    kind = chance.choice(_KINDS)
    owner = chance.choice((0, 0, 0, 7, 1000)), chance.choice((0, 0, 0, 50, 1000))
    member = Member(kind, name, chance.choice(_MODES), *owner, chance.choice(_TIMES))
    if kind == "symlink":
        return member._replace(body=chance.choice((b"a", b"../b", b"/usr", b"lib/x", b"nowhere", b".")))
    if kind == "sparse":
        return member._replace(body=chance.choice((b"q", b"w")) * 4096 * chance.choice((1, 2, 3)))
    if kind == "file":
        same = (b"1", b"2" * 5000, b"3" * 5000, b"4" * 70000, b"5" * 70000)
        body = chance.choice((*same, bytes([chance.randrange(256)]) * chance.choice((1, 100, 4096, 300_000))))
        return member._replace(body=body, xattrs=_xattrs(chance, kind))
    return member._replace(xattrs=_xattrs(chance, kind)) if kind == "directory" else member


def _xattrs(chance: random.Random, kind: str) -> tuple[tuple[bytes, bytes], ...]:
    """Those that a member of a kind may have; most have none."""
    found = {}
    if chance.random() < 0.12:
        found[b"system.posix_acl_access"] = chance.choice(_ACLS)
    if chance.random() < 0.1:
        found[b"user.k"] = chance.choice((b"v", b"w" * 200))
    if kind == "directory" and chance.random() < 0.25:
        found[b"system.posix_acl_default"] = chance.choice(_ACLS)
    if kind == "file" and chance.random() < 0.1:
        found[b"security.capability"] = _CAPABILITY
    return tuple(found.items())


class Trees(NamedTuple):
    """The tree of the second image, made in both ways, and how much of its content was not written.

    ``unsure`` are the files that had to be compared with the first tree.
    """

    fresh: Rows
    changed: Rows
    reused_bytes: int
    unread_layers: int
    unsure: int


def trees(made: Pair, directory: Path, *, is_sealed: bool = False, by_archive: bool = False) -> Trees:
    """Write both images of ``made`` into the empty ``directory``; raises ``FlydError`` for an image that is refused.

    With ``is_sealed`` the layers that both have are not read a second time, where nothing of them is needed; with ``by_archive`` the archive
    of the first image is at hand for the second.
    """
    with contextlib.ExitStack() as stack:
        first, second = (
            stack.enter_context(_archive(layers, directory / name))
            for layers, name in ((made.first, "1"), (made.second, "2"))
        )
        manifest = stack.enter_context(open(os.memfd_create("manifest"), "wb")).fileno()
        _unpack(first, directory / "changed", options(directory, processes=1, manifest_fd=manifest))
        _unpack(second, directory / "fresh", options(directory, processes=1))
        onto = options(directory, processes=1, is_sealed=is_sealed, asks_origin=True)
        offered = Offered(manifest, is_sealed, (first,) if by_archive else ())
        with _read(second, onto, Broker(onto, [second], lambda _layers: offered)) as unpacking:
            summary = _written(directory / "changed", unpacking.write_onto)
            unsure = len(unpacking.origin.matching.unsure) if unpacking.origin else 0
    fresh, changed = (rows_of_directory(directory / name, exact=True) for name in ("fresh", "changed"))
    return Trees(fresh, changed, summary.reused_bytes, summary.unread_layers, unsure)


def _unpack(archive: int, root: Path, chosen: Any) -> None:
    root.mkdir()
    with open_image(archive, chosen) as unpacking:
        _written(root, unpacking.write_into)


def _written(root: Path, write: Callable[[int], Any]) -> Any:
    root_fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return write(root_fd)
    finally:
        os.close(root_fd)


@contextlib.contextmanager
def _read(archive: int, chosen: Any, broker: Broker) -> Iterator[Unpacking]:
    with contextlib.closing(broker), open_image(archive, chosen, broker.answer) as unpacking:
        yield unpacking


@contextlib.contextmanager
def _archive(layers: Sequence[bytes], path: Path) -> Iterator[int]:
    path.write_bytes(images.docker_archive(layers))
    with path.open("rb") as file:
        yield file.fileno()


@contextlib.contextmanager
def opened(layers: Sequence[bytes], directory: Path, chosen: Any) -> Iterator[Unpacking]:
    """The image of ``layers``, read in this process, from a file in ``directory``."""
    with _archive(layers, directory / "archive") as fd, open_image(fd, chosen) as unpacking:
        yield unpacking

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Archives that are mutated from valid ones and stay valid deep inside: checksums, sizes, digests and counts are put right again.

A recipe is any bytes. They are read as choices: how many layers, which members each begins with, what is done to them, how they are
packed and compressed. So the one that changes a bit of a recipe (a fuzzer, Hypothesis) gets an archive that differs in one choice, and what
stands behind the door (merging, whiteouts, links, writing) is reached instead of the first checksum.

Invariant: the same recipe always gives the same archive.
"""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from tests.unit.builders import images, tar

Thing = TypeVar("Thing")

COMPONENTS = (*(b"a", b"b", b"c", b"d", b"etc") * 20, b".", b"", b"\xff", b"n" * 90)
HOSTILE = (b"..", b".wh.", b".wh..wh..opq", b".wh.a", b"", b".wh..wh.plnk")
LINKED = (*(b"a", b"b", b"c", b"d", b"etc", b"/a", b"a/b", b"b/a", b"c/d", b"./a") * 3, b"a//b/", b"", b"../a")
TARGETS = (
    *LINKED,
    b"../a",
    b"../b",
    b"..",
    b"../..",
    b"/",
    b".",
    b"c/..",
    b"/etc",
    b"/proc/self/cwd",
    b"../../../../../tmp",
    b"d/d",
)
NUMBERS: tuple[int | bytes, ...] = (
    *(0, 1, 7, 0o644, 0o4755, 0o7777, 511, 512, 513, 1024, 2**31, 2**32 - 2, 2**33 - 1),
    *(
        -1,
        -512,
        2**62,
        b"",
        b"        ",
        b"9",
        b"0x10",
        b"\0" * 8,
        b"\xff" * 8,
        b"\x80" + b"\0" * 6 + b"\x05",
        b" 7 ",
        b"7777777",
    ),
)
KINDS = (
    b"0",
    b"\0",
    b"1",
    b"2",
    b"3",
    b"4",
    b"5",
    b"6",
    b"7",
    b"x",
    b"g",
    b"L",
    b"K",
    b"S",
    b"D",
    b"V",
    b"X",
    b"M",
    b"Z",
)
FIELDS = ("mode", "uid", "gid", "size", "mtime", "major", "minor")
KEYS = (
    *(b"path", b"linkpath", b"size", b"uid", b"gid", b"mtime", b"comment", b"hdrcharset"),
    *(b"SCHILY.xattr.user.x", b"SCHILY.xattr.security.capability", b"LIBARCHIVE.xattr.user.y", b"SCHILY.acl.access"),
    *(b"GNU.sparse.major", b"GNU.sparse.minor", b"GNU.sparse.realsize", b"GNU.sparse.size", b"GNU.sparse.numblocks"),
    *(
        b"GNU.sparse.map",
        b"GNU.sparse.offset",
        b"GNU.sparse.numbytes",
        b"GNU.sparse.name",
        b"SCHILY.xattr.system.posix_acl_access",
    ),
)
VALUES = (
    *(
        b"",
        b"0",
        b"1",
        b"5",
        b"512",
        b"1024",
        b"-1",
        b"1.5",
        b"99999999999999999999",
        b"a",
        b"a/b",
        b"../x",
        b".wh.a",
        b"/",
        b"NaN",
    ),
    *(
        b"0,5",
        b"0,1,2,3",
        b"\0",
        b"x\0y",
        b"a" * 300,
        b"AAAA",
        b"\x00\x00\x00\x02" + b"\0" * 16,
        b"\x01\x00\x00\x02" + b"\xff" * 16,
    ),
)
DOCUMENT_VALUES: tuple[Any, ...] = (
    None,
    0,
    -1,
    2**70,
    1.5,
    "",
    "a",
    "../x",
    [],
    {},
    [None],
    True,
    ["x"] * 3,
    "sha256:" + "0" * 64,
)


class Choices:
    """Reads a recipe byte by byte; behind its end every choice is the first one."""

    def __init__(self, recipe: bytes) -> None:
        self._recipe = recipe
        self._at = 0

    def number(self, below: int) -> int:
        """A number from 0 up to ``below``, without it."""
        byte = self._recipe[self._at] if self._at < len(self._recipe) else 0
        self._at += 1
        if below > 256:
            return (byte << 8 | self.number(256)) % below
        return byte % below

    def of(self, things: Sequence[Thing]) -> Thing:
        """One of ``things``."""
        return things[self.number(len(things))]

    @property
    def over(self) -> bool:
        """Whether the recipe has been read to its end."""
        return self._at >= len(self._recipe)


@dataclass(frozen=True)
class Dish:
    """What a recipe gives: the files to unpack (one archive, or the layers of a family), and the tars that are its layers."""

    form: str
    files: tuple[bytes, ...]
    layers: tuple[bytes, ...]
    is_intact: bool  # nothing was damaged behind the digests


def _name(choose: Choices) -> bytes:
    return b"/".join(choose.of(COMPONENTS) for _ in range(1 + choose.number(3)))[:99]


def _file(choose: Choices) -> bytes:
    return tar.file(_name(choose), b"x" * choose.of((0, 1, 511, 512, 513, 1500)), mode=choose.of((0o644, 0o4711, 0)))


def _odd_header(choose: Choices) -> bytes:
    data = b"y" * choose.of((0, 5, 512, 700))
    fields: dict[str, Any] = {"size": len(data), choose.of(FIELDS): choose.of(NUMBERS)}
    fields = {
        key: value[:8] if isinstance(value, bytes) and key not in ("size", "mtime") else value
        for key, value in fields.items()
    }
    magic = choose.of((tar.POSIX, tar.GNU, tar.V7, b"garbage!"))
    kind, link = choose.of(KINDS), choose.of(TARGETS)
    header = tar.header(_name(choose), kind, link=link, magic=magic, **fields)
    return header + tar.padded(data)


def _pax(choose: Choices) -> bytes:
    records = [(choose.of(KEYS), choose.of(VALUES)) for _ in range(1 + choose.number(4))]
    return tar.pax(*records, kind=choose.of((b"x", b"g", b"X")))


def _sparse(choose: Choices) -> bytes:
    numbers = [choose.of((0, 1, 5, 512, 600, 4096)) for _ in range(4)]
    size, data = choose.of((0, 600, 5000)), b"z" * choose.of((0, 6, 512, 1112))
    if choose.number(2):
        tail = (
            bytes(41)
            + b"".join(tar.octal(number, 12) for number in numbers).ljust(96, b"\0")
            + b"\0"
            + tar.octal(size, 12)
        )
        return tar.header(_name(choose), b"S", len(data), magic=tar.GNU, tail=tail) + tar.padded(data)
    text = (b"2\n" + b"".join(b"%d\n" % number for number in numbers)).ljust(512, b"\0") + data
    keys = ((b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.realsize", b"%d" % size))
    return tar.pax(*keys) + tar.file(_name(choose), text)


def _directory(choose: Choices) -> bytes:
    return tar.directory(_name(choose)[:98] + b"/", mode=choose.of((0o755, 0o1777, 0)))


def _symlink(choose: Choices) -> bytes:
    return tar.symlink(_name(choose), choose.of(TARGETS))


def _special(choose: Choices) -> bytes:
    if choose.number(2):
        return tar.fifo(_name(choose))
    return tar.device(_name(choose), choose.of((b"3", b"4")), choose.of((1, 8, 4096)), choose.of((3, 2**20)))


def _long_name(choose: Choices) -> bytes:
    long = choose.of((_name(choose), b"long/" * 40 + b"x", b""))
    return tar.long_name(long, choose.of((b"L", b"K"))) + choose.of((b"", _file(choose), _symlink(choose)))


def _pax_and_file(choose: Choices) -> bytes:
    return tar.pax((choose.of(KEYS), choose.of(VALUES))) + _file(choose)


def _whiteout(choose: Choices) -> bytes:
    parent = choose.of((b"", b"", _name(choose)[:60] + b"/"))
    return tar.file(parent + choose.of((b".wh.a", b".wh.b", b".wh.c", b".wh..wh..opq", b".wh..wh.aufs")))


def _hostile_name(choose: Choices) -> bytes:
    name = _name(choose)[:40] + b"/" + choose.of(HOSTILE) + choose.of((b"", b"/" + _name(choose)[:40]))
    return choose.of((tar.file(name, b"x"), tar.directory(name), tar.symlink(name, b"a"), tar.hard_link(name, b"a")))


def _hard_link(choose: Choices) -> bytes:
    return tar.hard_link(_name(choose), choose.of(LINKED))


COMMON: tuple[Callable[[Choices], bytes], ...] = (
    _file,
    _file,
    _directory,
    _symlink,
    _hard_link,
    _symlink,
    _whiteout,
    _whiteout,
)
RARE = (_hostile_name, _special, _odd_header, _pax, _pax_and_file, _long_name, _sparse)


def _layer(choose: Choices) -> bytes:
    members = [bytearray(choose.of((*COMMON * 8, *RARE))(choose)) for _ in range(1 + choose.number(12))]
    for _ in range(choose.of((0, 0, 0, 0, 1, 2))):
        at, what = choose.number(len(members)), choose.number(5)
        if what == 0:
            members[at][choose.number(512)] ^= 1 << choose.number(8)
            _mend(members[at])
        elif what == 1:
            members[at][choose.number(len(members[at]))] ^= 1 << choose.number(8)
        elif what == 2:
            members.insert(choose.number(len(members)), members[at])
        elif what == 3:
            members[at] = members[at][: choose.number(len(members[at])) // 512 * 512] or members[at]
        else:
            members.append(bytearray(bytes(512)))
    end = choose.of((*[tar.END] * 12, b"", bytes(512), tar.END + bytes(5000), tar.END + b"x"))
    return tar.tar(*map(bytes, members), end=end)


def _mend(member: bytearray) -> None:
    """Put the checksum of a member's first header right."""
    member[148:156] = b"        "
    member[148:156] = b"%06o\0 " % sum(member[:512])


def _packs() -> tuple[images.Pack, ...]:
    packs = [images.as_it_is, images.as_it_is, gzip.compress, bz2.compress, lambda data: lzma.compress(data, preset=0)]
    try:
        import zstandard
    except ImportError:
        return tuple(packs)
    return (
        *packs,
        zstandard.ZstdCompressor().compress,
        lambda data: gzip.compress(data[:512]) + gzip.compress(data[512:]),
    )


PACKS = _packs()


def _documents_changed(choose: Choices, members: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """Put something else in the place of a value of a document, and give the blob the name and the descriptor that it must have now."""
    names = [name for name, data in members.items() if data[:1] in (b"{", b"[")]
    name = choose.of(names)
    value = json.loads(members[name])
    place = value
    while isinstance(place, (dict, list)) and place:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = choose.of(keys)
        if not isinstance(place[key], (dict, list)) or not place[key] or not choose.number(3):
            place[key] = choose.of(DOCUMENT_VALUES)
            break
        place = place[key]
    data = json.dumps(value).encode()
    changed = {**members, name: data}
    if name.startswith(b"blobs/"):
        del changed[name]
        changed[images.blob_name(data)] = data
        for other, text in list(changed.items()):
            if other != images.blob_name(data) and text[:1] == b"{":
                old = json.dumps(images.descriptor(members[name])).encode()[1:-1]
                changed[other] = text.replace(old, json.dumps(images.descriptor(data)).encode()[1:-1])
    return changed


def cook(recipe: bytes) -> Dish:
    """The archive that ``recipe`` describes."""
    choose = Choices(recipe)
    layers = tuple(_layer(choose) for _ in range(1 + choose.number(3)))
    form, pack = choose.of(("docker", "oci", "family")), choose.of(PACKS)
    if form == "family":
        files = tuple(pack(layer) for layer in layers)
    else:
        members = (images.docker_members if form == "docker" else images.oci_members)(layers, pack)
        if choose.number(4) == 3:
            members = _documents_changed(choose, members)
        files = (choose.of((images.as_it_is, images.as_it_is, *PACKS))(images.archive(members)),)
    if choose.number(8) != 7:
        return Dish(form, files, layers, is_intact=True)
    damaged = bytearray(files[0])
    for _ in range(1 + choose.number(3)):
        damaged[choose.number(len(damaged))] ^= 1 << choose.number(8)
    return Dish(form, (bytes(damaged[: len(damaged) - choose.of((0, 0, 1, 512))]), *files[1:]), layers, is_intact=False)

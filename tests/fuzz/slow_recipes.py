# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Archives of 10 MB at most, each made to take the slowest way through one stage of unpacking.

A recipe gives the files of a family (layers, lowest first) or one archive. ``count`` scales all of them: a tenth is enough to see that each
is well formed, the whole to see that the limits hold.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tests.unit.builders import images, tar

Make = Callable[[int], list[bytes]]
_CHUNK = 1000


@dataclass(frozen=True)
class Slow:
    """``make`` gives the files for a count, ``stage`` is what they are aimed at."""

    name: str
    stage: str
    count: int
    make: Make
    is_archive: bool = False


RECIPES: list[Slow] = []


def _recipe(name: str, stage: str, count: int) -> Callable[[Make], Make]:
    def add(make: Make) -> Make:
        RECIPES.append(Slow(name, stage, count, make, stage == "documents"))
        return make

    return add


def packed(*chunks: bytes | Iterable[bytes], end: bytes = tar.END) -> bytes:
    """The tar of ``chunks``, in gzip."""
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    parts: list[bytes] = []
    for chunk in (*chunks, end):
        for piece in [chunk] if isinstance(chunk, bytes) else chunk:
            parts.append(packer.compress(piece))  # noqa: PERF401 - two loops
    return b"".join(parts) + packer.flush()


def again(chunk: bytes, times: int) -> list[bytes]:
    """``chunk`` so many times."""
    return [chunk] * times


def _links_to(last: bytes, hops: int = 5, climbs: int = 780) -> bytes:
    links: list[bytes] = []
    for hop in range(hops):
        following = b"s%d" % (hop + 1) if hop + 1 < hops else last
        links += [tar.long_name(b"d/../" * climbs + following, b"K"), tar.symlink(b"s%d" % hop, b"x")]
    return tar.directory(b"d") + b"".join(links)


# Links and paths


@_recipe("hard links through links that lead nowhere", "links", 20_000)
def _(count: int) -> list[bytes]:
    waiting = (tar.hard_link(b"w/%d" % at, b"s0/x") for at in range(count))
    chain = b"".join(tar.hard_link(b"c%02d" % at, b"c%02d" % (at + 1)) for at in range(39))
    return [packed(_links_to(b"f"), tar.file(b"f", b"x"), chain, waiting, tar.file(b"c39", b"y"))]


@_recipe("hard links that wait for hard links, the first for the last", "links", 20_000)
def _(count: int) -> list[bytes]:
    waiting = (
        tar.hard_link(b"w%d-%d" % (turn, at), b"w%d-%d" % (turn + 1, at))
        for turn in range(39)
        for at in range(count // 39)
    )
    return [packed(waiting, (tar.file(b"w39-%d" % at, b"") for at in range(count // 39)))]


@_recipe("hard links that wait for too many others", "links", 20_000)
def _(count: int) -> list[bytes]:
    return [packed((tar.hard_link(b"w%d" % at, b"w%d" % (at + 1)) for at in range(count)), tar.file(b"w%d" % count))]


@_recipe("hard links to the end of a long path", "links", 8_000)
def _(count: int) -> list[bytes]:
    long = tar.long_name(b"d/" * 400 + b"f", b"K")
    waiting = (long + tar.hard_link(b"w%d" % at, b"") for at in range(count))
    return [packed(waiting, tar.long_name(b"d/" * 400 + b"f"), tar.file(b"f"))]


@_recipe("hard links to one file by as many names as ext4 takes", "links", 64_000)
def _(count: int) -> list[bytes]:
    return [packed(tar.file(b"f"), (tar.hard_link(b"%d" % at, b"f") for at in range(count)))]


@_recipe("files below links that go round in a circle", "links", 20_000)
def _(count: int) -> list[bytes]:
    return [packed(tar.symlink(b"a", b"b"), tar.symlink(b"b", b"a"), again(tar.file(b"a/f"), count))]


@_recipe("files below five links of 4,000 bytes", "links", 20_000)
def _(count: int) -> list[bytes]:
    files = (tar.file(b"s0/f%d" % at) + tar.file(b"d/f%d" % at) for at in range(count))
    return [packed(_links_to(b"d"), files)]


@_recipe("files below forty links", "links", 60_000)
def _(count: int) -> list[bytes]:
    links = b"".join(tar.symlink(b"s%d" % at, b"s%d" % (at + 1)) for at in range(38))
    files = (tar.file(b"s0/%d" % at) + tar.file(b"%d" % at) for at in range(count // 2))
    return [packed(tar.directory(b"s38"), links, files)]


@_recipe("links that climb above the root", "links", 20_000)
def _(count: int) -> list[bytes]:
    up = tar.long_name(b"../" * 1300 + b"d", b"K") + tar.symlink(b"up", b"")
    return [packed(tar.directory(b"d"), up, (tar.file(b"up/%d" % at) + tar.file(b"%d" % at) for at in range(count)))]


@_recipe("two deep directories in turn", "paths", 20_000)
def _(count: int) -> list[bytes]:
    ways = (b"a/" * 500, b"b/" * 500)
    return [packed(tar.long_name(ways[at & 1] + b"%d" % at) + tar.file(b"f") for at in range(count))]


@_recipe("paths of 16,000 bytes that are one name", "paths", 8_000)
def _(count: int) -> list[bytes]:
    return [packed(again(tar.long_name(b"./" * 8000 + b"f") + tar.file(b"f"), count))]


@_recipe("directories that no member is, side by side", "paths", 99_000)
def _(count: int) -> list[bytes]:
    return [packed(tar.file(b"%d/f" % at) for at in range(count))]


@_recipe("directories that no member is, deep", "paths", 190)
def _(count: int) -> list[bytes]:
    return [packed(tar.long_name(b"%d/" % at + b"d/" * 500 + b"f") + tar.file(b"f") for at in range(count))]


@_recipe("names of 255 bytes", "paths", 50_000)
def _(count: int) -> list[bytes]:
    return [packed(tar.long_name(b"%0255d" % at) + tar.file(b"f") for at in range(count))]


@_recipe("names that are equal but for their ends", "paths", 100_000)
def _(count: int) -> list[bytes]:
    return [packed(tar.file(b"n" * 90 + b"%08d" % at) for at in range(count))]


@_recipe("sixty components of 255 bytes", "paths", 10_000)
def _(count: int) -> list[bytes]:
    way = (b"n" * 255 + b"/") * 60
    return [packed(tar.long_name(way + b"%d" % at) + tar.file(b"f") for at in range(count))]


# Replacing and removing


@_recipe("whiteouts in a wide directory", "whiteouts", 60_000)
def _(count: int) -> list[bytes]:
    lower = packed(tar.file(b"d/%d" % at) for at in range(count))
    return [lower, packed(tar.file(b"d/.wh.%d" % at) for at in range(count))]


@_recipe("whiteouts at the end of deep paths", "whiteouts", 20_000)
def _(count: int) -> list[bytes]:
    deep = b"d/" * 500
    upper = (tar.long_name(deep + b".wh.%d" % at) + tar.file(b"f") for at in range(count))
    return [packed(tar.long_name(deep + b"f") + tar.file(b"f")), packed(upper)]


@_recipe("whiteouts through links that lead nowhere", "whiteouts", 60_000)
def _(count: int) -> list[bytes]:
    return [packed(_links_to(b"f"), tar.file(b"f")), packed(tar.file(b"s0/.wh.%d" % at) for at in range(count))]


@_recipe("markers behind 8,000 components", "whiteouts", 8_000)
def _(count: int) -> list[bytes]:
    return [packed(again(tar.long_name(b"x/" * 8000 + b".wh.f") + tar.file(b"f"), count))]


@_recipe("opaque markers, all for one directory", "whiteouts", 200_000)
def _(count: int) -> list[bytes]:
    lower = packed(tar.file(b"d/%d" % at) for at in range(1000))
    return [lower, packed(again(tar.file(b"d/.wh..wh..opq") * _CHUNK, count // _CHUNK))]


@_recipe("opaque markers through links", "whiteouts", 20_000)
def _(count: int) -> list[bytes]:
    return [packed(_links_to(b"d")), packed(again(tar.file(b"s0/.wh..wh..opq") * 100, count // 100))]


@_recipe("what aufs leaves behind", "whiteouts", 200_000)
def _(count: int) -> list[bytes]:
    return [packed(again(tar.file(b"d/.wh..wh.plnk/x") * _CHUNK, count // _CHUNK))]


@_recipe("a huge directory that is replaced again and again", "replacing", 100)
def _(count: int) -> list[bytes]:
    huge = b"".join(tar.file(b"d/%d" % at) for at in range(1000))
    return [packed(again(huge + tar.file(b"d") + tar.directory(b"d"), count))]


@_recipe("a huge directory that each layer empties and fills", "replacing", 100)
def _(count: int) -> list[bytes]:
    layer = packed(tar.file(b"d/.wh..wh..opq"), b"".join(tar.file(b"d/%d" % at) for at in range(1000)))
    return [layer] * count


@_recipe("a deep directory that is replaced again and again", "replacing", 1_000)
def _(count: int) -> list[bytes]:
    deep = tar.long_name(b"d/" * 500 + b"f") + tar.file(b"f")
    return [packed(again(deep + tar.file(b"d"), min(count, 199)))]


@_recipe("one name, again and again", "replacing", 300_000)
def _(count: int) -> list[bytes]:
    return [packed(again(tar.file(b"f") * _CHUNK, count // _CHUNK))]


@_recipe("one directory, again and again", "replacing", 300_000)
def _(count: int) -> list[bytes]:
    return [packed(again(tar.directory(b"d/e/f") * _CHUNK, count // _CHUNK))]


@_recipe("as many layers as are allowed", "layers", 512)
def _(count: int) -> list[bytes]:
    return [packed(b"".join(tar.file(b"%d/%d" % (at % 7, name)) for name in range(150))) for at in range(count)]


@_recipe("one layer, as often as is allowed", "documents", 512)
def _(count: int) -> list[bytes]:
    layer = tar.tar(*(tar.file(b"d/%d" % at) for at in range(2000)))
    members = images.docker_members([layer] * count, lambda _data: b"")
    manifest = json.loads(members[b"manifest.json"])
    manifest[0]["Layers"] = ["layer0/layer.tar"] * count
    kept = {name: data for name, data in members.items() if data and name != b"manifest.json"}
    return [images.archive({**kept, b"layer0/layer.tar": layer, b"manifest.json": json.dumps(manifest).encode()})]


# Headers


@_recipe("an owner for each file", "headers", 100_000)
def _(count: int) -> list[bytes]:
    return [packed(tar.file(b"%d" % at, uid=at, gid=at * 7919 % 2**21) for at in range(count))]


@_recipe("owners whose hashes collide", "headers", 100_000)
def _(count: int) -> list[bytes]:
    return [packed(tar.file(b"%d" % at, uid=at << 16, gid=at << 15, mode=0o644) for at in range(count))]


@_recipe("a time for each file", "headers", 100_000)
def _(count: int) -> list[bytes]:
    return [packed(tar.file(b"%d" % at, mtime=at * 104729 % 2**33) for at in range(count))]


@_recipe("names of bytes that are no ASCII", "headers", 100_000)
def _(count: int) -> list[bytes]:
    return [packed(tar.file(b"\xff\xfe%d" % at) for at in range(count))]


@_recipe("checksums of signed bytes", "headers", 60_000)
def _(count: int) -> list[bytes]:
    block = bytearray(tar.file(b"\xff" * 90))
    signed = sum(byte - 256 if byte > 127 else byte for byte in bytes(block[:148]) + b" " * 8 + bytes(block[156:]))
    block[148:156] = b"%06o\0 " % signed
    return [packed(again(bytes(block) * 100, count // 100))]


@_recipe("numbers in base 256", "headers", 100_000)
def _(count: int) -> list[bytes]:
    member = tar.file(b"f", mtime=tar.base256(2**33, 12), uid=tar.base256(2**31, 8))
    return [packed(again(member * 100, count // 100))]


@_recipe("PAX headers of a million bytes, of the smallest records", "PAX", 150)
def _(count: int) -> list[bytes]:
    return [packed(again(tar.raw_pax(b"6 a=b\n" * 174_000) + tar.file(b"f"), count))]


@_recipe("PAX headers of attributes", "PAX", 350)
def _(count: int) -> list[bytes]:
    records = [(b"SCHILY.xattr.user.%d" % at, b"v") for at in range(10_000)]
    return [packed(again(tar.pax(*records) + tar.file(b"f"), count))]


@_recipe("PAX headers of attributes in base 64", "PAX", 150)
def _(count: int) -> list[bytes]:
    records = [(b"LIBARCHIVE.xattr.user.%%41%d" % at, b"dmFsdWU") for at in range(10_000)]
    return [packed(again(tar.pax(*records) + tar.file(b"f"), count))]


@_recipe("a small PAX header for each file", "PAX", 60_000)
def _(count: int) -> list[bytes]:
    return [packed((tar.pax((b"mtime", b"1.5")) + tar.file(b"%d" % at)) for at in range(count))]


@_recipe("times with a million digits", "PAX", 150)
def _(count: int) -> list[bytes]:
    return [packed(again(tar.pax((b"mtime", b"1." + b"0" * 1_000_000 + b"1")) + tar.file(b"f"), count))]


@_recipe("global headers without a member", "PAX", 200_000)
def _(count: int) -> list[bytes]:
    return [packed(again(tar.pax(kind=b"g") * _CHUNK, count // _CHUNK))]


@_recipe("global headers that concern all members", "PAX", 100_000)
def _(count: int) -> list[bytes]:
    return [packed(tar.pax((b"uid", b"7"), (b"mtime", b"1.25"), kind=b"g"), again(tar.file(b"f") * 100, count // 100))]


@_recipe("labels without a member", "headers", 200_000)
def _(count: int) -> list[bytes]:
    return [packed(again(tar.header(b"label", b"V", magic=tar.GNU) * _CHUNK, count // _CHUNK))]


@_recipe("hard links with content", "headers", 60)
def _(count: int) -> list[bytes]:
    member = tar.header(b"l", b"1", size=1 << 20, link=b"f") + b"x" * (1 << 20)
    return [packed(tar.file(b"f"), again(member, count))]


@_recipe("old GNU maps of a million bytes", "sparse", 100)
def _(count: int) -> list[bytes]:
    pair = tar.octal(0, 12) + tar.octal(0, 12)
    table = (pair * 21).ljust(504, b"\0")
    tail = bytes(41) + pair * 4 + b"\1" + tar.octal(0, 12)
    extension = (table + b"\1".ljust(8, b"\0")) * 2000 + table + bytes(8)
    return [packed(again(tar.header(b"f", b"S", 0, magic=tar.GNU, tail=tail) + extension, count))]


@_recipe("PAX 0.0 maps of empty ranges", "sparse", 100)
def _(count: int) -> list[bytes]:
    pair = tar.record(b"GNU.sparse.offset", b"0") + tar.record(b"GNU.sparse.numbytes", b"0")
    pairs = 1_000_000 // len(pair)
    data = tar.record(b"GNU.sparse.size", b"0") + tar.record(b"GNU.sparse.numblocks", b"%d" % pairs) + pair * pairs
    return [packed(again(tar.raw_pax(data) + tar.file(b"f"), count))]


@_recipe("PAX 0.1 maps of empty ranges", "sparse", 100)
def _(count: int) -> list[bytes]:
    ranges = (b"GNU.sparse.map", b",".join([b"0,0"] * 250_000))
    header = tar.pax((b"GNU.sparse.size", b"0"), (b"GNU.sparse.numblocks", b"250000"), ranges)
    return [packed(again(header + tar.file(b"f"), count))]


@_recipe("PAX 1.0 maps of empty ranges", "sparse", 100)
def _(count: int) -> list[bytes]:
    version = (b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.realsize", b"0")
    text = tar.padded(b"250000\n" + b"0\n0\n" * 250_000)
    return [packed(again(tar.pax(*version) + tar.file(b"f", text), count))]


@_recipe("a file of many ranges", "sparse", 80_000)
def _(count: int) -> list[bytes]:
    ranges = b"".join(b"%d\n1\n" % (at * 8192) for at in range(count))
    text = tar.padded(b"%d\n" % count + ranges) + b"x" * count
    version = (b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.realsize", b"%d" % (count * 8192))
    return [packed(tar.pax(*version) + tar.file(b"f", text))]


@_recipe("zeros behind the end", "headers", 60)
def _(count: int) -> list[bytes]:
    return [packed(tar.file(b"f"), again(bytes(1 << 20), count))]


# Documents


def _packed_archive(members: dict[bytes, bytes]) -> list[bytes]:
    return [packed(*(tar.file(name, data) for name, data in members.items()))]


@_recipe("an index of a thousand manifests", "documents", 1_000)
def _(count: int) -> list[bytes]:
    config = images.config([])
    manifests = [
        json.dumps({"config": images.descriptor(config), "layers": [], "x": [str(at)] * 10_000}).encode()
        for at in range(count)
    ]
    listed = [
        images.descriptor(data, platform={"os": "linux", "architecture": f"a{at}"}) for at, data in enumerate(manifests)
    ]
    index = json.dumps({"manifests": listed}).encode()
    blobs = {images.blob_name(data): data for data in (config, *manifests)}
    return _packed_archive({b"oci-layout": b"{}", b"index.json": index, **blobs})


@_recipe("indexes within indexes", "documents", 250)
def _(count: int) -> list[bytes]:
    members: dict[bytes, bytes] = {}
    below = [images.descriptor(b"%d" % at) for at in range(count)]
    for _level in range(4):
        indexes = [json.dumps({"manifests": below, "x": at}).encode() for at in range(count // 4)]
        members.update({images.blob_name(data): data for data in indexes})
        below = [images.descriptor(data) for data in indexes]
    return _packed_archive({b"oci-layout": b"{}", b"index.json": json.dumps({"manifests": below}).encode(), **members})


def _with_config(config: bytes, **manifest: object) -> list[bytes]:
    return _packed_archive(
        {b"manifest.json": json.dumps([{"Config": "c", "Layers": [], **manifest}]).encode(), b"c": config}
    )


def _document(name: str, count: int, make: Callable[[int], bytes]) -> None:
    RECIPES.append(Slow(name, "documents", count, lambda size: _with_config(make(size)), is_archive=True))


_document("a configuration of empty lists", 1_300_000, lambda count: b"[" + b"[]," * count + b"0]")
_document("a configuration of empty objects", 490_000, lambda count: b'{"a": [' + b"{}," * count + b"0]}")
_document("a configuration of escapes", 690_000, lambda count: b'{"a": "' + rb"\u0041" * count + b'"}')
_document("a configuration of surrogates", 340_000, lambda count: b'{"a": "' + rb"\ud83d\ude00" * count + b'"}')
_document("a configuration that is one number", 4_000_000, lambda count: b'{"a": ' + b"1" * count + b"}")
_document("a configuration that is deep", 2_000_000, lambda count: b"[" * count + b"]" * count)
_document(
    "a configuration of keys", 240_000, lambda count: b"{" + b",".join(b'"%d":1' % at for at in range(count)) + b"}"
)


@_recipe("manifest.json of many images", "documents", 20_000)
def _(count: int) -> list[bytes]:
    entries = [{"Config": "c", "RepoTags": [f"i:{at}"], "Layers": []} for at in range(count)]
    return _packed_archive({b"manifest.json": json.dumps(entries).encode(), b"c": images.config([])})


@_recipe("a layer's name, many times, through links", "documents", 50_000)
def _(count: int) -> list[bytes]:
    links = b"".join(tar.symlink(b"l%d" % at, b"l%d" % (at + 1)) for at in range(8))
    config = json.dumps({"rootfs": {"diff_ids": ["sha256:" + "0" * 64] * count}}).encode()
    manifest = json.dumps([{"Config": "c", "Layers": ["l0"] * count}]).encode()
    return [packed(links, tar.file(b"l8"), tar.file(b"c", config), tar.file(b"manifest.json", manifest))]


@_recipe("parents of four million bytes", "documents", 60)
def _(count: int) -> list[bytes]:
    members = {b"repositories": b'{"i": {"latest": "0"}}'}
    for at in range(count):
        members[b"%d/json" % at] = json.dumps({"parent": f"{at + 1}", "x": ["y"] * 400_000}).encode()
        members[b"%d/layer.tar" % at] = tar.END
    return _packed_archive(members)


@_recipe("many tags, each with many parents", "documents", 20_000)
def _(count: int) -> list[bytes]:
    members = {b"repositories": json.dumps({"i": {f"{at}": f"{at % 400}" for at in range(count)}}).encode()}
    members |= images.docker_members([tar.END])
    for at in range(400):
        members[b"%d/json" % at] = json.dumps({"parent": f"{at + 1}" if at < 399 else ""}).encode()
        members[b"%d/layer.tar" % at] = tar.END
    return _packed_archive(members)


@_recipe("an archive of many members at its top", "documents", 150_000)
def _(count: int) -> list[bytes]:
    return [packed((tar.file(b"%d" % at) for at in range(count)), tar.file(b"manifest.json", b"[]"))]


# Writing


@_recipe("many directories to write", "writing", 90_000)
def _(count: int) -> list[bytes]:
    return [packed(tar.directory(b"%d/%d" % (at % 300, at), mtime=at) for at in range(count))]


@_recipe("deep directories to write", "writing", 60)
def _(count: int) -> list[bytes]:
    return [packed(tar.long_name(b"%d/" % at + b"d/" * 500) + tar.directory(b"d") for at in range(count))]


@_recipe("files that jump between deep directories", "writing", 30_000)
def _(count: int) -> list[bytes]:
    return [
        packed(
            tar.long_name(b"%d/" % (at % 64) + b"d/" * 400 + b"%d" % at) + tar.file(b"f", b"x") for at in range(count)
        )
    ]


@_recipe("hard links between deep directories", "writing", 30_000)
def _(count: int) -> list[bytes]:
    way = b"d/" * 400
    files = (tar.long_name(b"%d/" % (at % 64) + way + b"f%d" % at) + tar.file(b"f") for at in range(64))
    links = (
        tar.long_name(b"%d/" % (at * 31 % 64) + way + b"l%d" % at)
        + tar.long_name(b"%d/" % (at % 64) + way + b"f%d" % (at % 64), b"K")
        + tar.hard_link(b"l", b"f")
        for at in range(count)
    )
    return [packed(files, links)]


@_recipe("many small files", "writing", 100_000)
def _(count: int) -> list[bytes]:
    return [packed(tar.file(b"%d/%d" % (at % 100, at), b"x", uid=1000, mode=0o4755) for at in range(count))]


@_recipe("many attributes to write", "writing", 2_000)
def _(count: int) -> list[bytes]:
    records = [(b"SCHILY.xattr.user.%d" % at, b"value") for at in range(100)]
    return [packed((tar.pax(*records) + tar.file(b"%d" % at)) for at in range(count))]


@_recipe("many links of 4,000 bytes to write", "writing", 20_000)
def _(count: int) -> list[bytes]:
    long = tar.long_name(b"t" * 4000, b"K")
    return [packed((long + tar.symlink(b"%d" % at, b"")) for at in range(count))]


@_recipe("many FIFOs", "writing", 60_000)
def _(count: int) -> list[bytes]:
    return [packed(tar.fifo(b"%d" % at) for at in range(count))]

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Generations of images, real and made up: with another application, with a layer that was rebuilt, with an update.

Invariant: the same layers always give the same generations.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench.harness.measuring import BenchError
from tests.unit.builders import tar

_APPLICATION_FILES, _APPLICATION_FILE_BYTES = 423, 10_000
_SYSTEM_FILES, _SYSTEM_FILE_BYTES = 2000, 10_000
_FIRST, _LATER = 1_600_000_000, 1_700_000_000
_CHANGED_OF_APPLICATION, _CHANGED_OF_UPDATE, _TOUCHED = 0.12, 0.06, 0.3
Layers = Sequence[bytes]


class Lineage(NamedTuple):
    """Generations of an image: ``first``, and by what is new the others, each made of it; ``other`` is another image with the same lowest layer."""

    first: Layers
    later: Sequence[tuple[str, Layers]]
    other: Layers = ()


class Changed(NamedTuple):
    """Regular files that are new or have other bytes."""

    files: int
    bytes: int


def python_lineages(directory: Path) -> Iterator[Lineage]:
    """What the lab has built as layers with Python (tests/vm/disks/python_layers.py), an application on top; and the same without it, flat."""
    layer = {path.stem: path.read_bytes() for path in sorted(directory.glob("*.tar"))}
    first, base = application(later=False), layer["base"]
    yield Lineage(
        [base, layer["python"], first],
        [
            ("another application", [base, layer["python"], application(later=True)]),
            ("the Python layer built again, same packages", [base, layer["python-rebuilt"], first]),
            ("the Python layer with security updates", [base, layer["python-updated"], first]),
        ],
        [base, layer["other"]],
    )
    yield Lineage([layer["flat"]], [("the security updates, all layers in one", [layer["flat-updated"]])])


def changed(first: Layers, later: Layers) -> Changed:
    """What ``later`` has in layers of its own that is not the same in those that only ``first`` has."""
    before = _digests(layer for layer in first if layer not in later)
    after = _digests(layer for layer in later if layer not in first)
    sizes = [size for name, (digest, size) in after.items() if before.get(name, (b"", 0))[0] != digest]
    return Changed(len(sizes), sum(sizes))


def _digests(layers: Iterator[bytes]) -> dict[str, tuple[bytes, int]]:
    found = {}
    for layer in layers:
        with tarfile.open(fileobj=io.BytesIO(layer)) as opened:
            for member in opened:
                if member.isreg():
                    found[member.name] = (hashlib.sha256(_member(opened, member).read()).digest(), member.size)
    return found


def application(*, later: bool) -> bytes:
    """The layer of an application; a later one has new times, and other bytes in some files."""
    chance = random.Random(1)
    members = [tar.directory(b"srv", mtime=_FIRST)]
    for number in range(_APPLICATION_FILES):
        is_changed = later and chance.random() < _CHANGED_OF_APPLICATION
        content = random.Random(f"{number} {is_changed}").randbytes(_APPLICATION_FILE_BYTES)
        members.append(tar.file(b"srv/d%d/f%d" % (number % 20, number), content, mtime=_LATER if later else _FIRST))
    return tar.tar(*members)


def rebuilt(layer: bytes, change: float) -> bytes:
    """``layer`` as another build makes it: some files have new times, and a part ``change`` of them other bytes."""
    chance, out = random.Random(2), io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(layer)) as old,
        tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for member in old:
            content = old.extractfile(member).read() if member.isreg() else b""  # type: ignore[union-attr]
            if chance.random() < _TOUCHED:
                member.mtime = _LATER
            if member.isreg() and chance.random() < change:
                content = random.Random(member.name).randbytes(len(content))
            new.addfile(member, io.BytesIO(content) if member.isreg() else None)
    return out.getvalue()


def redis_lineages(archive: Path) -> Iterator[Lineage]:
    """The image of the lab in ``archive`` with an application on top, and generations that are made up of its layers."""
    (_, first), *later = generations(layers_of(archive))
    yield Lineage(first, later)


def layers_of(archive: Path) -> list[bytes]:
    """The layers of an archive that docker save has written, uncompressed ones."""
    with tarfile.open(archive) as outer:
        listed = json.load(_member(outer, "manifest.json"))[0]["Layers"]
        return [_member(outer, name).read() for name in listed]


def _member(outer: tarfile.TarFile, name: str | tarfile.TarInfo) -> Any:
    found = outer.extractfile(name)
    if found is None:
        raise BenchError(f"{name} is no file in the archive")
    return found


def chain(count: int) -> Iterator[Layers]:
    """``count`` generations, each made of the one before: a new application every time, an update of the system below it every tenth."""
    for generation in range(count):
        system = _evolved(b"usr", _SYSTEM_FILES, _SYSTEM_FILE_BYTES, generation // 10, _CHANGED_OF_UPDATE)
        yield [system, _evolved(b"srv", _APPLICATION_FILES, 4_000, generation, _CHANGED_OF_APPLICATION)]


def _evolved(top: bytes, files: int, file_bytes: int, version: int, change: float) -> bytes:
    """A layer whose files each have the content of the last version up to ``version`` that changed them; all times are new."""
    members = [tar.directory(top, mtime=_FIRST)]
    for number in range(files):
        versions = range(1, version + 1)
        at = max((one for one in versions if random.Random(f"{top!r} {number} {one}").random() < change), default=0)
        chance = random.Random(f"{top!r} {number} content {at}")
        content = chance.randbytes(chance.randrange(2 * file_bytes))
        members.append(tar.file(top + b"/d%d/f%d" % (number % 20, number), content, mtime=_FIRST + 3600 * version))
    return tar.tar(*members)


def generations(layers: Layers) -> Iterator[tuple[str, Layers]]:
    """The first generation, and by what is new the others, each made of the first."""
    first = application(later=False)
    largest = max(range(len(layers)), key=lambda number: len(layers[number]))

    def with_largest(change: float) -> list[bytes]:
        return [*layers[:largest], rebuilt(layers[largest], change), *layers[largest + 1 :], first]

    yield "first", [*layers, first]
    yield "another application", [*layers, application(later=True)]
    yield "its largest layer rebuilt without a change", with_largest(0)
    yield "an update of its largest layer", with_largest(_CHANGED_OF_UPDATE)

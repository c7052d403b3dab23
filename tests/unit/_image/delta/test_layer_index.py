# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A layer that an earlier base has is merged from its index: it is not read, and read again as soon as anything of it is needed."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from module_utils._errors import Untrusted
from module_utils._image.delta.layer_index import Contents, IndexedLayer, LayerIndex, UnfitOrigin, index_of
from module_utils._image.extent import Extent
from module_utils._image.limits import Deadline, Limits
from module_utils._image.pipeline.unpacking import open_family, open_image
from module_utils._image.tar.members import TarReader
from tests.tools.tree import Rows, rows_of_directory
from tests.unit._image.unpacked import needs_root, options
from tests.unit.builders import images, tar

BIG = random.Random(1).randbytes(128 << 10)
LOWER = tar.tar(
    tar.directory(b"d", mode=0o2755),
    tar.file(b"d/big", BIG),
    tar.file(b"d/small", b"s"),
    tar.pax((b"SCHILY.xattr.user.k", b"v")),
    tar.file(b"d/attribute", BIG[:5000]),
    tar.hard_link(b"d/link", b"d/big"),
)
HIDING = tar.tar(tar.file(b"d/.wh.big"), tar.file(b"d/.wh.link"), tar.file(b"new", b"n"))
ONE, OTHER = tar.tar(tar.file(b"app", b"one")), tar.tar(tar.file(b"app", b"other"))


@pytest.fixture
def layer(tmp_path: Path) -> Iterator[Extent]:
    path = tmp_path / "layer"
    path.write_bytes(LOWER)
    fd = os.open(path, os.O_RDONLY)
    yield Extent.whole(fd)
    os.close(fd)


def contents_of(layer: Extent) -> Contents:
    found = Contents()
    for member in TarReader(layer, Limits(), terminated=False, is_covered=True, deadline=Deadline(Limits())):
        if member.stored >= 2048:
            found.add(member.data, member.stored)
    return found


def made(layer: Extent) -> LayerIndex:
    index = index_of(layer, contents_of(layer))
    assert index is not None
    return index


def test_what_is_read_is_what_stands_there_or_nothing(layer: Extent) -> None:
    index = made(layer)
    indexed, contents = IndexedLayer(index), index.contents
    for at in range(0, layer.size, 512):
        if any(begin <= at < end for begin, end in zip(contents.begins, contents.ends)):
            with pytest.raises(UnfitOrigin):
                indexed.read(at, 512)
        else:
            found = indexed.read(at, 4096)
            assert len(found) >= 512
            assert found == layer.read(at, len(found))
    assert indexed.read(layer.size, 512) == b""


def test_an_index_is_a_small_part_of_its_layer(layer: Extent) -> None:
    assert len(made(layer).packed) < layer.size / 100


def test_a_layer_of_small_files_has_none(tmp_path: Path) -> None:
    path = tmp_path / "layer"
    path.write_bytes(tar.tar(*(tar.file(b"%d" % number, b"s") for number in range(200))))
    with open(path, "rb") as file:
        layer = Extent.whole(file.fileno())
        assert index_of(layer, contents_of(layer)) is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda index: index._replace(packed=index.packed[:-1]),
        lambda index: index._replace(packed=index.packed + b"x"),
        lambda index: index._replace(packed=index.packed[:20] + b"x" + index.packed[21:]),
        lambda index: index._replace(size=index.size + 512),
        lambda index: index._replace(size=1 << 50),
        lambda index: index._replace(contents=Contents()),
    ],
    ids=["cut", "longer", "flipped", "larger", "huge", "without contents"],
)
def test_an_index_that_is_damaged_is_refused(layer: Extent, damage: Any) -> None:
    with pytest.raises(UnfitOrigin):
        IndexedLayer(damage(made(layer)))


def test_ranges_out_of_order_are_refused(layer: Extent) -> None:
    index = made(layer)
    for column in (index.contents.begins, index.contents.ends):
        column[0], column[1] = column[1], column[0]
    with pytest.raises(UnfitOrigin):
        IndexedLayer(index)


# Images


class Place:
    """A directory whose tree goes from generation to generation."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.root = directory / "root"
        self.root.mkdir()
        self._manifest_fd = -1

    def unpack(self, archive: bytes, *, is_sealed: bool = True, families: Sequence[bytes] = ()) -> tuple[int, Rows]:
        """Unpack over what is there; returns how many layers were not read, and the tree."""
        manifest_fd = os.memfd_create("manifest")
        with contextlib.ExitStack() as stack:
            root_fd = os.open(self.root, os.O_RDONLY)
            stack.callback(os.close, root_fd)
            given = {"manifest_fd": manifest_fd, "origin_fd": self._manifest_fd, "is_sealed": is_sealed}
            chosen = options(self.directory, processes=1, **given)
            fds = [self._stored(number, data, stack) for number, data in enumerate(families or [archive])]
            digests = [hashlib.sha256(data).hexdigest() for data in families]
            opened = open_family(fds, chosen, digests) if families else open_image(fds[0], chosen)
            unpacking = stack.enter_context(opened)
            summary = (unpacking.write_into if self._manifest_fd < 0 else unpacking.write_onto)(root_fd)
        if self._manifest_fd >= 0:
            os.close(self._manifest_fd)
        self._manifest_fd = manifest_fd
        return summary.unread_layers, rows_of_directory(self.root, exact=True)

    def _stored(self, number: int, data: bytes, stack: contextlib.ExitStack) -> int:
        path = self.directory / f"stored-{number}"
        path.write_bytes(data)
        fd = os.open(path, os.O_RDONLY)
        stack.callback(os.close, fd)
        return fd


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "one").mkdir()
    return Place(tmp_path / "one")


def fresh(directory: Path, layers: Sequence[bytes]) -> Rows:
    below = directory / "fresh"
    below.mkdir()
    return Place(below).unpack(images.docker_archive(layers))[1]


def damaged(archive: bytes) -> bytes:
    """``archive`` with another byte in the content of the lowest layer."""
    at = archive.index(BIG[:4096]) + 600
    return archive[:at] + b"X" + archive[at + 1 :]


@needs_root
@pytest.mark.parametrize("form", ["docker", "oci", "docker gzip", "oci gzip"])
def test_a_layer_that_is_there_is_not_read(place: Place, tmp_path: Path, form: str) -> None:
    build = images.docker_archive if form.startswith("docker") else images.oci_archive
    pack = (lambda data: gzip.compress(data, mtime=0)) if "gzip" in form else images.as_it_is
    place.unpack(build([LOWER, ONE], pack))
    archive = build([LOWER, OTHER], pack)
    stored = pack(LOWER)
    at = archive.index(stored) + len(stored) - 600
    touched = archive[:at] + bytes([archive[at] ^ 1]) + archive[at + 1 :]
    assert place.unpack(touched) == (1, fresh(tmp_path, [LOWER, OTHER]))


@needs_root
def test_it_is_read_when_the_archive_was_touched(place: Place) -> None:
    place.unpack(images.docker_archive([LOWER, ONE]))
    archive = images.docker_archive([LOWER, OTHER])
    with pytest.raises(Untrusted, match="sha256"):
        place.unpack(damaged(archive), is_sealed=False)


@needs_root
def test_the_layers_that_are_read_are_verified(place: Place) -> None:
    place.unpack(images.docker_archive([LOWER, ONE]))
    archive = images.docker_archive([LOWER, OTHER])
    at = archive.index(b"other")
    with pytest.raises(Untrusted, match="sha256"):
        place.unpack(archive[:at] + b"O" + archive[at + 1 :])


@needs_root
def test_an_index_goes_from_base_to_base(place: Place, tmp_path: Path) -> None:
    for layers in ([LOWER, ONE], [LOWER, OTHER], [LOWER, ONE, OTHER]):
        unread, rows = place.unpack(images.docker_archive(layers))
    assert (unread, rows) == (1, fresh(tmp_path, [LOWER, ONE, OTHER]))


@needs_root
def test_a_file_that_comes_to_light_is_read(place: Place, tmp_path: Path) -> None:
    """It is in a layer that the earlier base was made with, and not in that base."""
    place.unpack(images.docker_archive([LOWER, HIDING]))
    assert place.unpack(images.docker_archive([LOWER, ONE])) == (0, fresh(tmp_path, [LOWER, ONE]))


@needs_root
def test_what_is_read_after_all_is_verified(place: Place) -> None:
    place.unpack(images.docker_archive([LOWER, HIDING]))
    with pytest.raises(Untrusted, match="sha256"):
        place.unpack(damaged(images.docker_archive([LOWER, ONE])))


@needs_root
def test_a_layer_that_is_a_file_of_its_own_is_not_read(place: Place, tmp_path: Path) -> None:
    place.unpack(b"", families=[LOWER, ONE])
    unread, rows = place.unpack(b"", families=[LOWER, OTHER])
    assert (unread, rows) == (1, fresh(tmp_path, [LOWER, OTHER]))


@needs_root
def test_a_manifest_of_a_layer_that_is_listed_twice(place: Place, tmp_path: Path) -> None:
    place.unpack(images.docker_archive([LOWER, ONE, LOWER]))
    unread, rows = place.unpack(images.docker_archive([LOWER, OTHER, LOWER]))
    assert (unread, rows) == (1, fresh(tmp_path, [LOWER, OTHER, LOWER]))

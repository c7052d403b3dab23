# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Manifests: what is read is what was written, and whatever else is read is refused."""

from __future__ import annotations

import contextlib
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from module_utils._image.delta.layer_index import UnfitOrigin
from module_utils._image.delta.manifest import Manifest, manifest_of
from module_utils._image.delta.manifest_file import dump, load
from module_utils._image.limits import Limits
from module_utils._image.merge.inodes import Directory
from tests.unit._image.delta.pairs import opened, pair
from tests.unit._image.unpacked import options
from tests.unit.builders import tar

LAYERS = (
    tar.tar(tar.directory(b"d", mode=0o2755), tar.file(b"d/f", b"content"), tar.hard_link(b"d/g", b"d/f")),
    tar.tar(tar.symlink(b"s", b"d/f"), tar.fifo(b"p"), tar.device(b"c", b"3", 1, 3), tar.file(b"late", mtime=1 << 34)),
)


def manifest(directory: Path, layers: tuple[bytes, ...] = LAYERS) -> Manifest:
    with opened(layers, directory, options(directory)) as unpacking:
        return manifest_of(unpacking.plan, unpacking.identities)


def columns(made: Manifest) -> dict[str, Any]:
    """All that is in it, for comparison."""
    found = {name: getattr(made, name) for name in ("layers", "accesses", "link_parents", "link_names", "link_leaves")}
    for owner in ("directories", "leaves"):
        found.update({f"{owner}.{name}": value for name, value in vars(getattr(made, owner)).items()})
    return found


@pytest.mark.parametrize("number", range(8))
def test_what_is_read_is_what_was_written(tmp_path: Path, number: int) -> None:
    made = manifest(tmp_path, pair(number).first)
    assert columns(load(dump(made), Limits())) == columns(made)


def test_a_layer_is_known_by_its_digest(tmp_path: Path) -> None:
    made = manifest(tmp_path)
    assert [len(layer) for layer in made.layers] == [len("sha256:") + 64] * 2


def test_every_prefix_is_refused(tmp_path: Path) -> None:
    data = dump(manifest(tmp_path))
    for length in range(len(data)):
        with pytest.raises(UnfitOrigin):
            load(data[:length], Limits())


def test_what_stands_behind_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnfitOrigin):
        load(dump(manifest(tmp_path)) + b"more", Limits())


def test_a_byte_that_flips_is_refused(tmp_path: Path) -> None:
    """But for one that changes nothing, such as the level in zlib's header."""
    made = manifest(tmp_path)
    data, same = dump(made), 0
    for at in range(len(data)):
        flipped = data[:at] + bytes([data[at] ^ 0x40]) + data[at + 1 :]
        with contextlib.suppress(UnfitOrigin):
            assert columns(load(flipped, Limits())) == columns(made)
            same += 1
    assert same < 9


def test_a_bomb_takes_no_more_than_the_limits_allow(tmp_path: Path) -> None:
    data = dump(manifest(tmp_path))
    magic, _newline, _rest = data.partition(b"\n")
    limits = Limits(entries=1000, implied_directories=1000, metadata_bytes=1000)
    with pytest.raises(UnfitOrigin):
        load(magic + b"\n" + zlib.compress(bytes(64 << 20)), limits)


def test_an_image_beyond_the_limits_is_refused(tmp_path: Path) -> None:
    many = tuple(tar.tar(*(tar.file(b"a%d/%d" % (layer, at)) for at in range(400))) for layer in range(3))
    data = dump(manifest(tmp_path, many))
    load(data, Limits())
    with pytest.raises(UnfitOrigin):
        load(data, Limits(entries=100, implied_directories=10, metadata_bytes=100))


def _set(made: Any, path: str, at: int, value: Any) -> None:
    owner, _dot, name = path.rpartition(".")
    getattr(getattr(made, owner) if owner else made, name)[at] = value


WRONG: dict[str, Callable[[Manifest], object]] = {
    "a directory before its parent": lambda made: _set(made, "directories.parents", 1, 1),
    "a root with a name": lambda made: _set(made, "directories.names", 0, b"x"),
    "a leaf in no directory": lambda made: _set(made, "leaves.parents", 0, 99),
    "an owner that is not there": lambda made: _set(made, "leaves.accesses", 0, 99),
    "a layer that is not there": lambda made: _set(made, "leaves.layers", list(made.leaves.kinds).index(0), 99),
    "a kind that is not there": lambda made: _set(made, "leaves.kinds", 0, 7),
    "a name that leads up": lambda made: _set(made, "leaves.names", 0, b".."),
    "a name that is a path": lambda made: _set(made, "leaves.names", 0, b"a/b"),
    "a name that is too long": lambda made: _set(made, "directories.names", 1, b"n" * 256),
    "a name of nothing": lambda made: _set(made, "link_names", 0, b""),
    "a link to nothing": lambda made: _set(made, "link_leaves", 0, 99),
    "a link in no directory": lambda made: _set(made, "link_parents", 0, 99),
    "a symbolic link without a target": lambda made: made.leaves.targets.clear(),
    "attributes of nothing": lambda made: _set(made, "leaves.xattrs", 99, ()),
    "a column that is short": lambda made: made.leaves.sizes.pop(),
    "two directories of one name": lambda made: made.directories.add(0, made.directories.names[1], 0, Directory()),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_numbers_and_names_that_lead_elsewhere_are_refused(tmp_path: Path, wrong: str) -> None:
    made = manifest(tmp_path)
    load(dump(made), Limits())
    WRONG[wrong](made)
    with pytest.raises(UnfitOrigin):
        load(dump(made), Limits())


@pytest.mark.parametrize(
    "header",
    [
        [],
        {},
        {"layers": [1], "accesses": [], "names": [], "sizes": []},
        {"layers": [], "accesses": [], "names": [0, 0, 0], "sizes": [-1, 1]},
        {"layers": [], "accesses": [[0, 0, "0"]], "names": [0, 0, 0], "sizes": []},
    ],
)
def test_a_header_of_another_shape_is_refused(tmp_path: Path, header: Any) -> None:
    magic, _newline, _rest = dump(manifest(tmp_path)).partition(b"\n")
    text = json.dumps(header).encode()
    body = len(text).to_bytes(8, "little") + text
    with pytest.raises(UnfitOrigin):
        load(magic + b"\n" + zlib.compress(body), Limits())

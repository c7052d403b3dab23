# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compressed layers are decompressed side by side; what goes wrong in one of them is reported, and ends the others."""

from __future__ import annotations

import gzip
import os
import random
import threading
from pathlib import Path

import pytest

from module_utils._errors import NoSpace, Untrusted
from module_utils._image.limits import Limits
from module_utils._image.options import Options
from module_utils._image.pipeline.unpacking import open_image
from tests.unit.builders import images, tar

pytestmark = pytest.mark.slow
MIB = 1 << 20


def layer(number: int, size_bytes: int = 3 * MIB) -> bytes:
    """A layer with one file of its own that hardly compresses."""
    return tar.tar(tar.file(b"file%d" % number, random.Random(number).randbytes(size_bytes)))


def packed(data: bytes) -> bytes:
    return gzip.compress(data, 1)


def opened(tmp_path: Path, archive: bytes, limits: Limits | None = None) -> list[bytes]:
    """The names that an archive unpacks to."""
    path = tmp_path / "archive.tar"
    path.write_bytes(archive)
    fd = os.open(path, os.O_RDONLY)
    try:
        with open_image(fd, Options(limits=limits or Limits(), spool_directory=str(tmp_path))) as unpacking:
            return sorted(unpacking.plan.leaves.names)
    finally:
        os.close(fd)


def test_all_layers_come_out_in_their_order(tmp_path: Path) -> None:
    assert opened(tmp_path, images.oci_archive([layer(at) for at in range(5)], packed)) == [
        b"file%d" % at for at in range(5)
    ]


def test_a_damaged_layer_is_named_and_no_thread_is_left(tmp_path: Path) -> None:
    members = images.docker_members([layer(at) for at in range(4)], packed)
    damaged = bytearray(members[b"layer2/layer.tar"])
    damaged[2 * MIB] ^= 1
    members[b"layer2/layer.tar"] = bytes(damaged)
    with pytest.raises(Untrusted, match="layer2"):
        opened(tmp_path, images.archive(members))
    assert threading.active_count() == 1


def test_the_limit_of_bytes_is_for_all_layers_together(tmp_path: Path) -> None:
    archive = images.oci_archive([layer(at) for at in range(3)], packed)
    assert len(opened(tmp_path, archive, Limits(decompressed_bytes=10 * MIB))) == 3
    with pytest.raises(Untrusted, match="decompressed_bytes"):
        opened(tmp_path, archive, Limits(decompressed_bytes=8 * MIB))


def test_the_limit_of_entries_is_for_all_layers_together(tmp_path: Path) -> None:
    crowd = [tar.tar(*(tar.file(b"%d-%d" % (at, name)) for name in range(2000))) for at in range(2)]
    archive = images.oci_archive(crowd, packed)
    assert len(opened(tmp_path, archive, Limits(entries=4000))) == 4000
    with pytest.raises(Untrusted, match="the limit entries is 3999"):
        opened(tmp_path, archive, Limits(entries=3999))


def test_a_full_spool_is_no_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "module_utils._image.compression.spool.Spool.new_file", lambda _self: os.open("/dev/full", os.O_RDWR)
    )
    with pytest.raises(NoSpace):
        opened(tmp_path, images.oci_archive([layer(1)], packed))

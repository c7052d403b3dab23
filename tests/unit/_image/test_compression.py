"""Layers and archives in every compression, whole, padded, in pieces, and damaged."""

from __future__ import annotations

import bz2
import gzip
import lzma
import random
from pathlib import Path

import pytest

from module_utils._errors import Unsupported, Untrusted
from module_utils._image import compression
from module_utils._image.compression import Compression, sniff
from tests.unit._image.unpacked import plan_of
from tests.unit.builders import images, tar

LAYER = tar.tar(tar.file(b"f", random.Random(7).randbytes(200_000)))


def zstd(data: bytes) -> bytes:
    """``data`` in one zstd frame."""
    zstandard = pytest.importorskip("zstandard", reason="the Python package zstandard is not installed")
    packed: bytes = zstandard.ZstdCompressor().compress(data)
    return packed


PACKS: dict[str, images.Pack] = {"gzip": gzip.compress, "xz": lzma.compress, "bzip2": bz2.compress, "zstd": zstd}


@pytest.fixture(params=PACKS)
def pack(request: pytest.FixtureRequest) -> images.Pack:
    """Each way to compress."""
    return PACKS[request.param]


@pytest.fixture(params=["fast", "standard library"])
def zlib_used(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the faster zlib, where this Python has it, and without it."""
    if request.param == "fast":
        pytest.importorskip("isal", reason="the Python package isal is not installed")
    else:
        monkeypatch.setattr(compression, "_fast_zlib", None)


def names(directory: Path, archive: bytes) -> list[bytes]:
    """The names in the image."""
    return plan_of(directory, archive).leaves.names


@pytest.mark.usefixtures("zlib_used")
def test_compressed_layers_and_archives_are_read(tmp_path: Path, pack: images.Pack) -> None:
    assert names(tmp_path, images.docker_archive([LAYER], pack)) == [b"f"]
    assert names(tmp_path, images.oci_archive([LAYER], pack)) == [b"f"]
    assert names(tmp_path, pack(images.docker_archive([LAYER]))) == [b"f"]
    assert names(tmp_path, pack(images.docker_archive([LAYER], pack))) == [b"f"]


@pytest.mark.usefixtures("zlib_used")
def test_several_members_are_one_stream(tmp_path: Path, pack: images.Pack) -> None:
    def in_pieces(data: bytes) -> bytes:
        return pack(data[:1000]) + pack(b"") + pack(data[1000:])

    assert names(tmp_path, images.docker_archive([LAYER], in_pieces)) == [b"f"]


@pytest.mark.usefixtures("zlib_used")
def test_zeros_behind_gzip_are_padding(tmp_path: Path) -> None:
    def padded(data: bytes) -> bytes:
        return gzip.compress(data) + bytes(600_000)

    assert names(tmp_path, images.docker_archive([LAYER], padded)) == [b"f"]


@pytest.mark.usefixtures("zlib_used")
@pytest.mark.parametrize("behind", [b"x", bytes(4) + b"x", bytes(600_000) + b"x", b"\x1f\x8b", gzip.compress(b"")[:-1]])
def test_anything_else_behind_gzip_is_refused(tmp_path: Path, behind: bytes) -> None:
    with pytest.raises(Untrusted, match="compressed data"):
        plan_of(tmp_path, images.docker_archive([LAYER], lambda data: gzip.compress(data) + behind))


@pytest.mark.usefixtures("zlib_used")
@pytest.mark.parametrize("left", [1, 10, 100, -1, -8])
def test_cut_data_is_refused(tmp_path: Path, pack: images.Pack, left: int) -> None:
    with pytest.raises(Untrusted):
        plan_of(tmp_path, images.docker_archive([LAYER], lambda data: pack(data)[:left]))
    with pytest.raises(Untrusted):
        plan_of(tmp_path, pack(images.docker_archive([LAYER]))[:left])


@pytest.mark.usefixtures("zlib_used")
@pytest.mark.parametrize("at", [20, 200, 1000, -6])
def test_a_flipped_bit_is_refused(tmp_path: Path, pack: images.Pack, at: int) -> None:
    def damaged(data: bytes) -> bytes:
        packed = bytearray(pack(data))
        packed[at] ^= 0x10
        return bytes(packed)

    with pytest.raises(Untrusted):
        plan_of(tmp_path, images.docker_archive([LAYER], damaged))


def test_frames_that_are_to_be_skipped_are(tmp_path: Path) -> None:
    skippable = b"\x5a\x2a\x4d\x18\x04\x00\x00\x00toc!"
    assert names(tmp_path, images.docker_archive([LAYER], lambda data: skippable + zstd(data) + skippable)) == [b"f"]


def test_compression_is_told_by_magic_and_not_mistaken_for_a_tars_first_name() -> None:
    assert sniff(tar.file(b"BZhello")) is Compression.NONE
    assert sniff(b"BZh9") is Compression.BZIP2
    assert sniff(b"") is Compression.NONE


def test_zstd_without_the_package_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = images.docker_archive([LAYER], zstd)
    monkeypatch.setattr(compression, "_zstandard", None)
    with pytest.raises(Unsupported, match="zstd") as caught:
        plan_of(tmp_path, archive)
    assert "zstandard" in caught.value.hint


def test_a_bomb_in_a_bomb_is_not_opened_twice(tmp_path: Path) -> None:
    with pytest.raises(Untrusted):
        plan_of(tmp_path, gzip.compress(gzip.compress(images.docker_archive([LAYER]))))


def test_a_compressed_empty_layer_is_empty(tmp_path: Path, pack: images.Pack) -> None:
    assert plan_of(tmp_path, images.docker_archive([b""], pack)).entries == 0
    assert plan_of(tmp_path, images.docker_archive([b""])).entries == 0

"""Layers and archives in every compression, whole, padded, in pieces, and damaged."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import random
import time
import zlib
from pathlib import Path
from typing import cast

import pytest

from module_utils._errors import Unsupported, Untrusted
from module_utils._image.compression import choice as compression
from module_utils._image.compression import spooling
from module_utils._image.compression import zstd as zstd_streams
from module_utils._image.compression.sniffing import Compression, sniff
from module_utils._image.limits import Limits
from module_utils._image.pipeline.unpacking import open_family
from tests.unit._image.unpacked import options, plan_of
from tests.unit.builders import images, tar

LAYER = tar.tar(tar.file(b"f", random.Random(7).randbytes(200_000)))


def zstd(data: bytes) -> bytes:
    """``data`` in one zstd frame."""
    zstandard = pytest.importorskip("zstandard", reason="the Python package zstandard is not installed")
    packed: bytes = zstandard.ZstdCompressor(write_checksum=True).compress(data)
    return packed


PACKS: dict[str, images.Pack] = {"gzip": gzip.compress, "xz": lzma.compress, "bzip2": bz2.compress, "zstd": zstd}


@pytest.fixture(params=PACKS)
def pack(request: pytest.FixtureRequest) -> images.Pack:
    """Each way to compress."""
    return PACKS[request.param]


@pytest.fixture(params=["package", "own module", "library"])
def zstd_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each way to undo zstd; what is no way here is skipped."""
    if request.param != "package":
        monkeypatch.setattr(zstd_streams, "_package", lambda: None)
    elif zstd_streams._package() is None:
        pytest.skip("the Python package zstandard is not installed")
    if request.param == "own module" and zstd_streams._own_module() is None:
        pytest.skip("neither Python 3.14 nor the Python package backports.zstd")
    if request.param == "library":
        monkeypatch.setattr(zstd_streams, "_own_module", lambda: None)
        if zstd_streams._library() is None:
            pytest.skip("the library libzstd is not installed")
    return str(request.param)


@pytest.fixture(params=["fast", "standard library"])
def zlib_used(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the faster zlib, where this Python has it, and without it."""
    if request.param == "fast":
        pytest.importorskip("isal", reason="the Python package isal is not installed")
    else:
        monkeypatch.setattr(compression, "_fastest_zlib", lambda: zlib)


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


def test_zstd_is_read_in_each_way(tmp_path: Path, zstd_way: str) -> None:
    def in_pieces(data: bytes) -> bytes:
        return zstd(data[:1000]) + zstd(b"") + zstd(data[1000:])

    skippable = b"\x5a\x2a\x4d\x18\x04\x00\x00\x00toc!"
    for pack in (zstd, in_pieces, lambda data: skippable + zstd(data) + skippable):
        archive = images.docker_archive([LAYER], pack)
        assert plan_of(tmp_path, archive).leaves.names == [b"f"]
        assert plan_of(tmp_path, pack(archive)).leaves.names == [b"f"]


def cut(data: bytes) -> bytes:
    return zstd(data)[:-3]


def behind(data: bytes) -> bytes:
    return zstd(data) + b"no frame"


def flipped(data: bytes) -> bytes:
    packed = bytearray(zstd(data))
    packed[1000] ^= 1
    return bytes(packed)


@pytest.mark.parametrize("damage", [cut, behind, flipped])
def test_damaged_zstd_is_refused_in_each_way_though_no_digest_covers_it(
    tmp_path: Path, zstd_way: str, damage: images.Pack
) -> None:
    (tmp_path / "layer").write_bytes(damage(LAYER))
    with (
        open(tmp_path / "layer", "rb") as layer,
        pytest.raises(Untrusted, match="compressed data"),
        open_family([layer.fileno()], options(tmp_path)),
    ):
        pass


@pytest.mark.parametrize(
    ("header", "window_mib"),
    [
        (b"\x00\x90", 256),
        (b"\x00\xa8", 2048),
        (b"\xa0" + (1 << 28).to_bytes(4, "little"), 256),  # one segment of this length
    ],
)
@pytest.mark.usefixtures("zstd_way")
def test_a_zstd_frame_that_needs_more_than_the_memory_of_all_decoders_names_the_limit_that_suffices(
    tmp_path: Path, header: bytes, window_mib: int
) -> None:
    frame = b"\x28\xb5\x2f\xfd" + header + b"\x01\x00\x00"  # RFC 8878, 3.1.1.1
    for data in (frame, zstd(b"before") + frame + bytes(1 << 20)):
        archive = images.archive(images.docker_members([LAYER]) | {b"layer0/layer.tar": data})
        with pytest.raises(Untrusted, match="the limit decoder_memory_bytes is 268435456") as caught:
            plan_of(tmp_path, archive)
        needed = int(cast("int", caught.value.details["met"]))
        assert window_mib < needed >> 20 < window_mib + 32
        with pytest.raises(
            Untrusted, match=r"digest|damaged|compressed data"
        ):  # with the limit raised the frame is looked at
            plan_of(tmp_path, archive, limits=Limits(decoder_memory_bytes=needed))


@pytest.mark.usefixtures("zstd_way")
def test_a_zstd_frame_with_a_dictionary_is_unsupported_in_each_way(tmp_path: Path) -> None:
    frame = b"\x28\xb5\x2f\xfd\x01\x58\x07\x01\x00\x00"
    archive = images.archive(images.docker_members([LAYER]) | {b"layer0/layer.tar": frame})
    with pytest.raises(Unsupported, match="a dictionary, which it does not hold"):
        plan_of(tmp_path, archive)


@pytest.mark.parametrize("header", [b"\x00\xa9", b"\x00\xff"])
def test_a_zstd_window_that_no_compressor_makes_is_refused_in_each_way(
    tmp_path: Path, zstd_way: str, header: bytes
) -> None:
    frame = b"\x28\xb5\x2f\xfd" + header + b"\x01\x00\x00"
    with pytest.raises(Untrusted, match="damaged: it asks for a window"):
        plan_of(tmp_path, images.docker_archive([LAYER], lambda _: frame))


def test_the_largest_zstd_window_that_needs_no_option_is_read_in_each_way(tmp_path: Path, zstd_way: str) -> None:
    frame = b"\x28\xb5\x2f\xfd\x00\x88" + b"\x01\x00\x00"  # 128 MiB, and a last block of nothing
    assert plan_of(tmp_path, images.docker_archive([b""], lambda _: frame)).entries == 0


def test_zstd_that_is_damaged_at_its_beginning_is_refused_without_a_wait(tmp_path: Path, zstd_way: str) -> None:
    # Large enough that the program's input never ends: it gives up in the first block.
    packed = bytearray(zstd(random.Random(5).randbytes(2 << 20)))
    packed[9:12] = b"\xff\xff\xff"
    begun = time.monotonic()
    with pytest.raises(Untrusted, match="damaged"):
        plan_of(tmp_path, images.docker_archive([LAYER], lambda _: bytes(packed)))
    assert time.monotonic() - begun < 5


def test_a_zstd_bomb_is_stopped_at_its_limit_in_each_way(
    tmp_path: Path, zstd_way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spooling, "_RATIO_FREE_BYTES", 64 << 20)
    bomb = zstd(bytes(72 << 20))
    before = descriptors_and_children()
    with pytest.raises(Untrusted, match="limit ratio"):
        plan_of(tmp_path, images.docker_archive([LAYER], lambda _: bomb))
    assert descriptors_and_children() == before


def descriptors_and_children() -> tuple[list[str], str]:
    """What this process has open, and what it has started."""
    return os.listdir("/proc/self/fd"), Path(f"/proc/self/task/{os.getpid()}/children").read_text()


def test_compression_is_found_by_magic_and_not_mistaken_for_a_tars_first_name() -> None:
    assert sniff(tar.file(b"BZhello")) is Compression.NONE
    assert sniff(b"BZh9") is Compression.BZIP2
    assert sniff(b"") is Compression.NONE


def test_zstd_without_package_and_library_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = images.docker_archive([LAYER], zstd)
    for name in ("_package", "_own_module", "_library"):
        monkeypatch.setattr(zstd_streams, name, lambda: None)
    with pytest.raises(
        Unsupported, match=r"neither the Python package zstandard nor the library libzstd\.so\.1"
    ) as caught:
        plan_of(tmp_path, archive)
    assert "libzstd1" in caught.value.hint


def test_a_bomb_in_a_bomb_is_not_opened_twice(tmp_path: Path) -> None:
    with pytest.raises(Untrusted):
        plan_of(tmp_path, gzip.compress(gzip.compress(images.docker_archive([LAYER]))))


def test_a_compressed_empty_layer_is_empty(tmp_path: Path, pack: images.Pack) -> None:
    assert plan_of(tmp_path, images.docker_archive([b""], pack)).entries == 0
    assert plan_of(tmp_path, images.docker_archive([b""])).entries == 0


@pytest.mark.parametrize("step", [1, 3, 1000, 1 << 20])
def test_the_end_of_a_zstd_frame_is_known_wherever_reads_end(step: int) -> None:
    zstandard = pytest.importorskip("zstandard", reason="the Python package zstandard is not installed")
    chance = random.Random(step)
    for at in range(40):
        data = chance.randbytes(chance.choice([0, 1, 300])) + bytes(chance.choice([0, 10, 400_000]))
        packer = zstandard.ZstdCompressor(
            level=at % 20, write_checksum=bool(at & 1), write_content_size=bool(at & 2), threads=0
        )
        packed = packer.compress(data)
        for cut_off in (0, 1, 3, 4, len(packed) - 1):
            source = io.BytesIO(packed[: len(packed) - cut_off])
            frames = zstd_streams._Frames(source, "it", 1 << 30)
            while frames.read(step):
                pass
            assert frames.is_between is (cut_off == 0)

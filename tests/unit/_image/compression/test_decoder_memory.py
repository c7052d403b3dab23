"""All decoders together keep one budget of memory, whatever the compression and however many processors there are."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest

from module_utils._errors import Untrusted
from module_utils._image.compression.decoder_process import PROCESS_BYTES
from module_utils._image.compression.sharing import Need, rounds
from module_utils._image.compression.sniffing import Compression
from module_utils._image.compression.windows import memory_bytes
from module_utils._image.limits import Limits
from tests.unit._image.unpacked import needs_root, plan_of
from tests.unit.builders import images, tar
from tests.unit.support import memory

pytestmark = pytest.mark.slow
MIB = 1 << 20
BUDGET = Limits().decoder_memory_bytes


def xz(data: bytes, dictionary_bytes: int = 96 * MIB) -> bytes:
    """``data`` in one xz stream with a large dictionary, which decoders take as a whole."""
    how = {
        "id": lzma.FILTER_LZMA2,
        "dict_size": dictionary_bytes,
        "mode": lzma.MODE_FAST,
        "mf": lzma.MF_HC3,
        "depth": 1,
    }
    return lzma.compress(data, filters=[{**how, "nice_len": 273}])


def zstd(data: bytes) -> bytes:
    """``data`` in one zstd frame with a window of 64 MiB."""
    zstandard = pytest.importorskip("zstandard", reason="the Python package zstandard is not installed")
    how = zstandard.ZstdCompressionParameters(window_log=26, strategy=1, write_content_size=0)
    packer = zstandard.ZstdCompressor(compression_params=how).compressobj()
    return bytes(packer.compress(data) + packer.flush())


PACKS: dict[str, Callable[[bytes], bytes]] = {"xz": xz, "zstd": zstd, "bzip2": bz2.compress, "gzip": gzip.compress}


@needs_root
@pytest.mark.parametrize("kind", PACKS)
def test_all_processes_together_stay_within_the_budget(tmp_path: Path, kind: str) -> None:
    layer = PACKS[kind](tar.tar(tar.file(b"f", bytes(40 * MIB))))
    archive = tmp_path / "archive.tar"
    archive.write_bytes(
        images.archive(images.docker_members([tar.tar(tar.file(b"f", bytes(40 * MIB)))] * 4, lambda _: layer))
    )
    (tmp_path / "tree").mkdir()
    taken = memory.unpack(archive, tmp_path / "tree", tmp_path, 16, "ratio=100000000")
    assert json.loads(taken.stdout).get("layers") == 4
    assert taken.peak_bytes < BUDGET


@pytest.mark.parametrize("processors", [1, 2, 3, 4, 8, 16, 64, 512])
@pytest.mark.parametrize("budget_mib", [16, 17, 64, 100, 256, 4096])
def test_no_round_takes_more_than_the_budget_and_each_stream_gets_what_it_needs(
    processors: int, budget_mib: int
) -> None:
    limits = Limits(decoder_memory_bytes=budget_mib * MIB)
    sizes = [size for size in (4, 5, 12, 68, 132, 200) if size * MIB + PROCESS_BYTES <= limits.decoder_memory_bytes]
    needs = [Need(at, "it", size * MIB, at, is_checked=bool(at % 3)) for at, size in enumerate(sizes * 7)]
    found = rounds(needs, limits, processors)
    assert sorted(at for one in found for at in one.streams) == list(range(len(needs)))
    for one in found:
        assert 1 <= one.processes <= processors
        assert one.processes * (one.memory_bytes + PROCESS_BYTES) <= limits.decoder_memory_bytes
        assert all(needs[at].memory_bytes <= one.memory_bytes for at in one.streams)
        assert not one.once or one.processes == len(one.streams)
        assert one.once or all(needs[at].is_checked for at in one.streams)


def test_a_stream_that_needs_more_than_the_budget_is_refused_with_what_suffices(tmp_path: Path) -> None:
    archive = images.docker_archive([tar.tar(tar.file(b"f"))], lambda data: xz(data, 300 * MIB))
    with pytest.raises(Untrusted, match="the limit decoder_memory_bytes is 268435456") as caught:
        plan_of(tmp_path, archive)
    assert "decoder_memory_bytes" in caught.value.hint
    enough = int(str(caught.value.details["met"]))
    assert plan_of(tmp_path, archive, limits=Limits(decoder_memory_bytes=enough)).leaves.names == [b"f"]


def test_a_block_with_a_larger_dictionary_than_the_first_is_decompressed_once_more_with_more_memory(
    tmp_path: Path,
) -> None:
    def in_two(data: bytes) -> bytes:
        return xz(data[:700], MIB) + xz(data[700:], 128 * MIB)

    archive = images.docker_archive([tar.tar(tar.file(b"f%d" % at)) for at in range(3)], in_two)
    assert sorted(plan_of(tmp_path, archive).leaves.names) == [b"f0", b"f1", b"f2"]
    with pytest.raises(Untrusted, match="the limit decoder_memory_bytes"):
        plan_of(tmp_path, archive, limits=Limits(decoder_memory_bytes=64 * MIB))


def test_the_kernel_limits_a_decoder_whose_header_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("module_utils._image.compression.windows._xz_dictionary_bytes", lambda _head: 0)
    monkeypatch.setattr("module_utils._image.compression.choice._memory_limit", lambda _bytes: 1 << 62)
    archive = images.docker_archive([tar.tar(tar.file(b"f"))], lambda data: xz(data, 400 * MIB))
    with pytest.raises(Untrusted, match="the limit decoder_memory_bytes"):
        plan_of(tmp_path, archive)


@pytest.mark.parametrize("exponent", range(12, 30))
def test_the_dictionary_of_xz_is_read_from_its_header(exponent: int) -> None:
    packed = xz(b"x", 1 << exponent)
    assert memory_bytes(Compression.XZ, packed[:1024]) == (4 << 20) + (1 << exponent)


@pytest.mark.parametrize("window_log", range(10, 28))
def test_the_window_of_zstd_is_read_from_its_header(window_log: int) -> None:
    zstandard = pytest.importorskip("zstandard", reason="the Python package zstandard is not installed")
    how = zstandard.ZstdCompressionParameters(window_log=window_log, write_content_size=0)
    packed = zstandard.ZstdCompressor(compression_params=how).compressobj()
    data = packed.compress(bytes(4 << 20)) + packed.flush()
    skippable = b"\x5a\x2a\x4d\x18\x04\x00\x00\x00toc!"
    assert memory_bytes(Compression.ZSTD, (skippable + data)[:1024]) == (4 << 20) + (1 << window_log)


@pytest.mark.parametrize("length", range(40))
def test_a_header_that_ends_early_is_no_error_here(length: int) -> None:
    for pack, kind in ((xz, Compression.XZ), (zstd, Compression.ZSTD)):
        assert memory_bytes(kind, pack(b"x")[:length]) >= 4 << 20

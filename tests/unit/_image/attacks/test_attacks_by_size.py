"""Bombs: archives that are small and want to become large. Each is refused at its limit, early, and with little memory."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from module_utils._errors import Untrusted
from module_utils._image.compression import spooling
from module_utils._image.extent import Extent
from module_utils._image.limits import Limits
from module_utils._image.merge import tree
from module_utils._image.merge.entry_counter import EntryCounter
from tests.unit._image.unpacked import Playground, needs_root, plan_of
from tests.unit.builders import images, tar

ROOT = Path(__file__).parents[4]
pytestmark = needs_root


def refusal(directory: Path, archive: bytes, **limits: int) -> Untrusted:
    """The error with which ``archive`` is refused under ``limits``."""
    with pytest.raises(Untrusted) as caught:
        plan_of(directory, archive, limits=Limits(**limits))
    return caught.value


def refused_in(
    playground: Playground,
    form: str,
    *members: bytes,
    pack: images.Pack = images.as_it_is,
    limits: Limits | None = None,
) -> Untrusted:
    """The error with which an image of one layer is refused under ``limits``, in one of the forms."""
    with pytest.raises(Untrusted) as caught:
        playground.unpack(form, [tar.tar(*members)], pack, limits=limits or Limits())
    assert list(playground.root.iterdir()) == []
    return caught.value


def layer_of(*members: bytes) -> bytes:
    """A docker archive of one layer."""
    return images.docker_archive([tar.tar(*members)])


@pytest.mark.parametrize(
    ("limit", "allowed", "members"),
    [
        ("entries", 3, [tar.file(b"f%d" % at) for at in range(4)]),
        ("content_bytes", 1000, [tar.file(b"a", b"x" * 600), tar.file(b"b", b"x" * 600)]),
        ("file_bytes", 100, [tar.file(b"a", b"x" * 101)]),
        ("implied_directories", 3, [tar.file(b"a/b/f"), tar.file(b"c/d/f")]),
        ("depth", 3, [tar.file(b"a/b/c/d")]),
        ("path_bytes", 10, [tar.file(b"a" * 11)]),
        ("header_bytes", 600, [tar.pax((b"comment", b"x" * 700)), tar.file(b"a")]),
        ("metadata_bytes", 100, [tar.file(b"a" * 60), tar.symlink(b"b", b"c" * 60)]),
        ("hard_links", 2, [tar.file(b"a"), tar.hard_link(b"b", b"a"), tar.hard_link(b"c", b"a")]),
    ],
)
def test_a_limit_is_named_with_the_value_met(
    playground: Playground, form: str, limit: str, allowed: int, members: list[bytes]
) -> None:
    error = refused_in(playground, form, *members, limits=Limits(**{limit: allowed}))
    assert (error.details["limit"], error.details["allowed"]) == (limit, allowed)
    met = int(error.details["met"])
    assert met > allowed
    assert f"{limit} is {allowed}, and the archive needs {met}" in error.msg
    assert limit in error.hint


def test_layers_are_limited_and_counted_together(tmp_path: Path) -> None:
    layers = [tar.tar(tar.file(b"f%d" % at, b"x" * 100)) for at in range(5)]
    archive = images.docker_archive(layers)
    assert refusal(tmp_path, archive, layers=4).details["limit"] == "layers"
    assert refusal(tmp_path, archive, content_bytes=499).details["limit"] == "content_bytes"


def test_global_headers_are_counted_together(tmp_path: Path) -> None:
    comments = [tar.pax((b"comment", b"x" * 300), kind=b"g")] * 4
    error = refusal(tmp_path, layer_of(*comments, tar.file(b"f")), header_bytes=1000)
    assert error.details["limit"] == "header_bytes"


def test_names_of_the_outer_archive_are_counted_too(tmp_path: Path) -> None:
    members = [tar.file(b"d%d/" % at + b"n" * 60) for at in range(10)]
    error = refusal(tmp_path, tar.tar(*members), metadata_bytes=500)
    assert error.details["limit"] == "metadata_bytes"


def test_links_that_take_long_to_follow_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "MAX_ALL_STEPS", 5000)
    links = [tar.directory(b"d")]
    for at in range(7):
        links += [tar.long_name(b"./" * 1000 + b"d", b"K"), tar.symlink(b"l%d" % at, b"")]
    files = [tar.file(b"l%d/f" % at) for at in range(7)]
    assert "too many steps" in refusal(tmp_path, layer_of(*links, *files)).msg


def test_depth_is_counted_through_links_too(tmp_path: Path) -> None:
    members = [tar.directory(b"a/b/c"), tar.symlink(b"s", b"a/b/c"), tar.file(b"s/d/e/f")]
    assert refusal(tmp_path, layer_of(*members), depth=4).details["limit"] == "depth"


def test_a_hundred_thousand_directories_deep_is_refused(playground: Playground, form: str) -> None:
    deep = tar.pax((b"path", b"d/" * 100_000 + b"f"))
    assert refused_in(playground, form, deep, tar.file(b"f")).details["limit"] == "path_bytes"


def packed_zeros(pack: Callable[[io.BytesIO], Any], size: int) -> bytes:
    """``size`` zeros, packed piece by piece."""
    out = io.BytesIO()
    file = pack(out)
    chunk = bytes(1 << 20)
    for _ in range(size >> 20):
        file.write(chunk)
    file.close()
    return out.getvalue()


@pytest.fixture
def low_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ratio is judged from 64 MiB on: a test need not write a gigabyte."""
    monkeypatch.setattr(spooling, "_RATIO_FREE_BYTES", 64 << 20)


PACKERS: dict[str, Callable[[io.BytesIO], Any]] = {
    "gzip": lambda out: gzip.GzipFile(fileobj=out, mode="wb", compresslevel=1),
    "xz": lambda out: lzma.LZMAFile(out, "wb", preset=0),  # noqa: SIM115 - packed_zeros closes it
    "bzip2": lambda out: bz2.BZ2File(out, "wb"),
}


@pytest.mark.usefixtures("low_floor")
@pytest.mark.parametrize("name", PACKERS)
def test_a_layer_that_grows_beyond_the_ratio_is_refused(playground: Playground, form: str, name: str) -> None:
    bomb = packed_zeros(PACKERS[name], 90 << 20)
    error = refused_in(playground, form, tar.file(b"a"), pack=lambda _: bomb)
    assert error.details["limit"] == "ratio"
    assert "layer" in error.msg


def test_output_is_counted_over_all_layers(tmp_path: Path) -> None:
    layers = [tar.tar(tar.file(b"f%d" % at, b"x" * 9000)) for at in range(3)]
    error = refusal(tmp_path, images.docker_archive(layers, pack=gzip.compress), decompressed_bytes=25_000)
    assert error.details["limit"] == "decompressed_bytes"


@pytest.mark.usefixtures("low_floor")
def test_many_gzip_members_are_counted_as_one(playground: Playground, form: str) -> None:
    member = gzip.compress(bytes(1 << 20))
    assert refused_in(playground, form, tar.file(b"a"), pack=lambda _: member * 100).details["limit"] == "ratio"


@pytest.mark.usefixtures("low_floor")
def test_a_whole_archive_that_is_a_bomb_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, packed_zeros(PACKERS["gzip"], 90 << 20)).details["limit"] == "ratio"


def test_time_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(0, 10**9, 100))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(ticks)))
    assert refusal(tmp_path, layer_of(tar.file(b"a")), seconds=50).details["limit"] == "seconds"


MEASURED = """
import os
import sys
sys.path[:0] = ["plugins", "."]
from pathlib import Path
from module_utils._errors import Untrusted
from module_utils._image.limits import Limits
from module_utils._image.pipeline.unpacking import open_image
from tests.unit._image.unpacked import options
fd = os.open(sys.argv[1], os.O_RDONLY)
try:
    with open_image(fd, options(Path(sys.argv[2]), limits=Limits.parse(sys.argv[3]))):
        print("planned")
except Untrusted as error:
    print(error.details["limit"])
# Not ru_maxrss: it begins with the size of the process that we were forked from.
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""


def limit_and_mebibytes(directory: Path, archive: Path, limits: str = "") -> tuple[str, int]:
    """The limit that refuses ``archive``, and the peak memory of the process that found it."""
    command = [sys.executable, "-c", MEASURED, str(archive), str(directory), limits]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    limit, kibibytes = done.stdout.split()
    return limit, int(kibibytes) // 1024


def test_a_pax_header_of_80_mib_in_80_kb_of_gzip_costs_no_memory(tmp_path: Path) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    head = packer.compress(tar.header(b"bomb", b"x", 80 << 20))
    packed = head + b"".join(packer.compress(bytes(1 << 20)) for _ in range(80)) + packer.flush()
    assert len(packed) < 90_000
    (tmp_path / "bomb").write_bytes(packed)
    limit, mebibytes = limit_and_mebibytes(tmp_path, tmp_path / "bomb")
    assert limit == "header_bytes"
    assert mebibytes < 60


def test_too_many_empty_members_are_refused_by_counting(tmp_path: Path) -> None:
    (tmp_path / "bomb").write_bytes(tar.tar(tar.file(b"etc/x") * 1000))
    with open(tmp_path / "bomb", "rb") as file:
        tar_extent = Extent.whole(file.fileno())
        for allowed in (1000, 999):
            census = EntryCounter(Limits(entries=allowed))
            census.next_tar()
            if allowed == 1000:
                census.look(tar_extent)
            else:
                with pytest.raises(Untrusted, match="entries is 999, and the archive needs 1000"):
                    census.look(tar_extent)


def test_several_tars_are_counted_together_as_they_grow(tmp_path: Path) -> None:
    (tmp_path / "bomb").write_bytes(tar.tar(tar.file(b"etc/x") * 1000))
    census = EntryCounter(Limits(entries=1499))
    with open(tmp_path / "bomb", "rb") as file:
        for _ in range(2):
            census.next_tar()
            for size in (100_000, 300_000, 500 * 512):
                census.look(Extent(file.fileno(), 0, size))
        with pytest.raises(Untrusted, match="entries"):
            census.look(Extent.whole(file.fileno()))


def test_members_that_escape_the_count_are_counted_when_they_are_read(tmp_path: Path) -> None:
    odd = tar.pax((b"size", b"0")) + tar.header(b"odd", size=b"no number")
    error = refusal(tmp_path, layer_of(odd, *(tar.file(b"f%d" % at) for at in range(9))), entries=9)
    assert (error.details["limit"], error.details["met"]) == ("entries", 10)


def test_memory_stays_small_for_many_members(tmp_path: Path) -> None:
    members = b"".join(tar.file(b"usr/lib/some/where/%d/file-%d" % (at // 100, at)) for at in range(8_000))
    (tmp_path / "archive").write_bytes(images.docker_archive([members + tar.END]))
    limit, mebibytes = limit_and_mebibytes(tmp_path, tmp_path / "archive")
    assert limit == "planned"
    assert mebibytes < 40

"""Real images from other projects, against their golden trees. FLYD_SAMPLE_IMAGES names the directory that has them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from module_utils._errors import Unsupported, Untrusted
from tests.tools.tree import differences, rows_of_directory, rows_of_file
from tests.unit._image.unpacked import Playground, needs_root, plan_of

SAMPLES = Path(os.environ.get("FLYD_SAMPLE_IMAGES", ""))
pytestmark = [
    needs_root,
    pytest.mark.skipif(
        "FLYD_SAMPLE_IMAGES" not in os.environ, reason="FLYD_SAMPLE_IMAGES names no directory of images"
    ),
]

UNPACK = {
    "alpine-3.10.tar.gz": "",
    "busybox-14-layers.tar": "",
    "same-tree-uncompressed.tar": "linux/arm64",
    "same-tree-gzip.tar": "linux/arm64",
    "same-tree-zstd.tar": "linux/arm64",
    "same-tree-estargz.tar": "linux/arm64",
    "hello-world-docker25.tar": "",
    "whiteout-dir.tar": "",
}


@pytest.mark.parametrize("name", UNPACK)
def test_a_real_image_becomes_its_golden_tree(playground: Playground, name: str) -> None:
    if "zstd" in name:
        pytest.importorskip("zstandard", reason="the Python package zstandard is not installed")
    playground.unpack_archive((SAMPLES / name).read_bytes(), platform=UNPACK[name])
    golden = rows_of_file(SAMPLES / f"{name}.tsv")
    assert golden
    assert differences(rows_of_directory(playground.root), golden) == []


def test_two_images_are_refused_unless_one_is_selected(tmp_path: Path) -> None:
    archive = (SAMPLES / "two-images.tar.xz").read_bytes()
    with pytest.raises(Untrusted, match=r"example\.com/empty:latest, example\.com/empty/but:different"):
        plan_of(tmp_path, archive)
    for selector in ("example.com/empty", "example.com/empty/but:different", "1"):
        assert plan_of(tmp_path, archive, image_name=selector).inodes > 0


def cuts_of(data: bytes, count: int) -> list[int]:
    """Lengths to cut ``data`` to: every multiple of 512, or ``count`` of them spread evenly."""
    lengths = range(0, len(data), 512)
    return list(lengths[:: max(1, len(lengths) // count)])


@pytest.mark.parametrize("name", ["busybox-14-layers.tar", "whiteout-dir.tar", "hello-world-docker25.tar"])
def test_a_cut_image_is_refused_or_still_whole(tmp_path: Path, name: str) -> None:
    data = (SAMPLES / name).read_bytes()
    whole = plan_of(tmp_path, data)
    for length in cuts_of(data, 100):
        try:
            plan = plan_of(tmp_path, data[:length])
        except (Untrusted, Unsupported):
            continue
        # What was cut off was padding, or a member that nothing refers to.
        assert (plan.entries, plan.content_bytes) == (whole.entries, whole.content_bytes)

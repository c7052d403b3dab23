"""Real images from other projects, against their golden trees. FLYD_SAMPLE_IMAGES names the directory that has them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from module_utils._errors import Untrusted
from tests.fuzz import damage
from tests.tools.tree import differences, rows_of_directory, rows_of_file
from tests.unit._image.unpacked import Playground, needs_root, plan_of

SAMPLES = Path(os.environ.get("FLYD_SAMPLE_IMAGES", ""))
pytestmark = [
    needs_root,
    pytest.mark.skipif(
        "FLYD_SAMPLE_IMAGES" not in os.environ, reason="FLYD_SAMPLE_IMAGES names no directory of images"
    ),
]

TOOL = Path(__file__).parents[3] / "tools" / "unpack.py"
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


@pytest.mark.parametrize("name", UNPACK)
def test_the_tool_makes_the_golden_tree_of_a_real_image_without_options(tmp_path: Path, name: str) -> None:
    target = tmp_path / "tree"
    target.mkdir()
    done = subprocess.run([sys.executable, TOOL, SAMPLES / name, target], capture_output=True, check=True)
    assert done.stderr == b""
    golden = rows_of_file(SAMPLES / f"{name}.tsv")
    assert json.loads(done.stdout)["entries"] == len(golden.keys() - {"/"})
    assert differences(rows_of_directory(target), golden) == []


def test_the_tool_refuses_two_images_with_their_names(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    command = [sys.executable, str(TOOL), str(SAMPLES / "two-images.tar.xz"), f"{tmp_path}/tree"]
    done = subprocess.run(command, capture_output=True, check=False)
    answer = json.loads(done.stdout)
    assert (done.returncode, done.stderr, answer["error_kind"]) == (1, b"", "untrusted")
    assert "example.com/empty:latest" in answer["msg"]


def test_two_images_are_refused_unless_one_is_selected(tmp_path: Path) -> None:
    archive = (SAMPLES / "two-images.tar.xz").read_bytes()
    with pytest.raises(Untrusted, match=r"example\.com/empty:latest, example\.com/empty/but:different"):
        plan_of(tmp_path, archive)
    for selector in ("example.com/empty", "example.com/empty/but:different", "1"):
        assert plan_of(tmp_path, archive, image_name=selector).inodes > 0


@pytest.mark.parametrize("sample", damage.samples(), ids=lambda sample: sample.name)
def test_a_real_image_that_was_cut_or_changed_is_refused_or_becomes_its_tree(sample: damage.Sample) -> None:
    """A few of each; `make damage` does all of them."""
    print("\n".join(damage.report(sample, 12)))

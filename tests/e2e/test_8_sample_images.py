# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real images from other projects, from the bucket to a device that holds their golden trees. FLYD_SAMPLE_IMAGES names the directory."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.campaigns.harness.target import HOME, Step, Target
from tests.e2e.machine import Machine
from tests.tools.tree import differences, rows_of_file

SAMPLES = Path(os.environ.get("FLYD_SAMPLE_IMAGES", ""))
pytestmark = [
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        "FLYD_SAMPLE_IMAGES" not in os.environ, reason="FLYD_SAMPLE_IMAGES names no directory of images"
    ),
]
ARM = {"platform": "linux/arm64"}
PLATFORMS = {
    "alpine-3.10.tar.gz": {},
    "busybox-14-layers.tar": {},
    "same-tree-uncompressed.tar": ARM,
    "same-tree-gzip.tar": ARM,
    "same-tree-zstd.tar": ARM,
    "same-tree-estargz.tar": ARM,
    "hello-world-docker25.tar": {},
    "whiteout-dir.tar": {},
}


@pytest.mark.parametrize("name", PLATFORMS)
def test_a_real_image_becomes_a_device_with_its_golden_tree(
    prepared: Machine, target: Target, upload: Callable[[str, bytes], None], tmp_path: Path, name: str
) -> None:
    key = f"samples/{name}"
    upload(key, (SAMPLES / name).read_bytes())
    named = {"key": key}
    results = target.drive(
        [
            Step("flyd_pool", {}),
            Step("flyd_fetch", {**named, **prepared.s3_options()}),
            Step("flyd_unpack", {**named, **PLATFORMS[name]}),
            Step("flyd_snapshot", named),
        ]
    )
    assert [result["driven"] for result in results] == [0, 0, 0, 0], results[-1]
    rows = tmp_path / "rows"
    rows.write_text(
        target.ssh(
            f"mkdir -p /mnt/sample && mount -o ro,noload,nodev,nosuid {results[-1]['device']} /mnt/sample"
            f" && python3 {HOME}/tools/tree.py /mnt/sample; umount /mnt/sample"
        )
    )
    golden = rows_of_file(SAMPLES / f"{name}.tsv")
    assert golden
    assert differences(rows_of_file(rows), golden) == []
    absent = {**named, "state": "absent"}
    removed = target.drive([Step(module, absent) for module in ("flyd_snapshot", "flyd_unpack", "flyd_fetch")])
    assert [result["driven"] for result in removed] == [0, 0, 0], removed[-1]

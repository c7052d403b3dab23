"""The benchmarks run, verify what they measured, and print their tables. How fast anything is, is not asked here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.builders import images, tar
from tests.unit.support.real import needs_loops

ROOT = Path(__file__).parents[2]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    layer = tar.tar(tar.directory(b"etc"), tar.file(b"etc/motd", b"hello\n" * 1000), tar.symlink(b"motd", b"etc/motd"))
    path = tmp_path / "tiny.tar"
    path.write_bytes(
        images.docker_archive([layer, tar.tar(tar.directory(b"etc"), tar.file(b"etc/.wh.motd"), tar.file(b"etc/two"))])
    )
    return path


def bench(module: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", f"bench.{module}", *map(str, arguments)]
    env = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'plugins'}:{ROOT / 'tests/vm'}"}
    return subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=100)


@needs_loops
def test_unpacking_is_verified_and_measured(archive: Path) -> None:
    done = bench("unpack", "--installed", "--rounds", "1", "--image", archive)
    assert (done.returncode, done.stderr) == (0, "")
    tables = done.stdout.split("tiny, ")[1:]
    assert [table.partition("\n")[0] for table in tables] == ["plain layers", "gzip layers"]
    for table in tables:
        assert "| flyd.lite" in table
        assert "GNU tar, layers flat" in table


@needs_loops
def test_an_image_that_is_made_up_is_raced_without_gzip() -> None:
    done = bench("unpack", "--installed", "--rounds", "1", "--plain", "--image", "entries-200", "--image", "mb-2")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line for line in done.stdout.splitlines() if line.endswith(" layers")] == [
        "entries-200, plain layers",
        "mb-2, plain layers",
    ]


@needs_loops
def test_growth_is_measured() -> None:
    done = bench("growth", "--rounds", "1", "--entries", "100", "200", "--megabytes", "1", "2")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[1] for line in done.stdout.splitlines() if line.startswith("| ")] == [
        *("entries", "100", "200"),
        *("MB", "1", "2"),
    ]

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""kill -9 at ten points of a download: the next run fetches only what is missing, and says how many bytes that is.

FLYD_KILL_MIB is the size of the object: a small one by default, 512 in ``make test-kills``.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from module_utils._names import ObjectKey
from tests.faults import kinds
from tests.faults.proxy import FaultProxy
from tests.s3.conftest import Stored
from tests.s3.modules.test_fetch_tool import ENVIRONMENT, command, in_flight, run
from tests.s3.server import PUBLIC_BUCKET

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

MIB = 1 << 20
SIZE_MIB = int(os.environ.get("FLYD_KILL_MIB", "16"))
SECONDS = max(1.0, SIZE_MIB / 64)  # how long an undisturbed download takes
POINTS = range(5, 100, 10)  # percent


@pytest.fixture(scope="module")
def stored(admin: S3Client) -> Stored:
    """One object for all tests: the server has no room for one each."""
    found = Stored(admin, ObjectKey("archives/killed.tar"), b"", PUBLIC_BUCKET)
    found.replace(os.urandom(SIZE_MIB * MIB))
    return found


def interrupted(argv: list[str], proxy: FaultProxy, after_bytes: int) -> None:
    """Begin the download, kill it when that many bytes have gone out, and wait until the proxy has seen that."""
    before = set(proxy.lines)
    proxy.plan(kinds.slowed(SIZE_MIB * MIB / SECONDS / 4), times=-1)
    with subprocess.Popen(argv, env=ENVIRONMENT, stdout=subprocess.DEVNULL) as running:
        in_flight(proxy, after_bytes, running)
        running.send_signal(signal.SIGKILL)
    until = time.monotonic() + 60
    while set(proxy.lines) - before and time.monotonic() < until:
        time.sleep(0.01)


@pytest.mark.parametrize("percent", POINTS)
def test_f13_a_download_killed_at_any_of_ten_points_is_resumed(
    proxy: FaultProxy, stored: Stored, tmp_path: Path, percent: int
) -> None:
    size_bytes = len(stored.content)
    argv = command(proxy, stored.key.value, tmp_path / "archive", "--streams", "4", bucket=PUBLIC_BUCKET)
    interrupted(argv, proxy, size_bytes * percent // 100)
    sent_bytes = proxy.sent_bytes()
    assert "archive" not in os.listdir(tmp_path)
    recorded = _recorded_bytes(tmp_path / "archive.part.state")
    assert recorded or percent < 90, "what came is worth something, though some of what was sent may not have come yet"
    proxy.clear()
    code, said = run([*argv, "--checksum", f"sha256:{stored.sha256}"])
    assert (code, said["sha256"], said["resumed_bytes"]) == (0, stored.sha256, recorded)
    assert proxy.sent_bytes() == size_bytes - recorded, "not a byte of what is here comes again"
    assert os.listdir(tmp_path) == ["archive"]
    print(
        f"killed after {sent_bytes:>11} bytes were sent: {recorded:>11} are gone on with, {size_bytes - recorded:>11} come"
    )


def test_f13_a_download_killed_ten_times_still_ends_with_the_right_bytes(
    proxy: FaultProxy, stored: Stored, tmp_path: Path
) -> None:
    size_bytes, sent_bytes = len(stored.content), 0
    argv = command(proxy, stored.key.value, tmp_path / "archive", "--streams", "4", bucket=PUBLIC_BUCKET)
    for _ in POINTS:
        interrupted(argv, proxy, size_bytes // 16)
        sent_bytes += proxy.sent_bytes()
        proxy.clear()
    code, said = run(argv)
    assert (code, said["sha256"]) == (0, stored.sha256)
    assert proxy.sent_bytes() == size_bytes - said["resumed_bytes"]
    print(f"killed ten times: {sent_bytes + proxy.sent_bytes()} bytes came for {size_bytes}")


def _recorded_bytes(state: Path) -> int:
    return int(json.loads(state.read_text())["received_bytes"]) if state.exists() else 0

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of examples/microvm: a container image becomes a microVM that boots, with redis answering from inside it.

The snapshot is made in the VM, and its bytes are copied to this host, where QEMU runs: emulation inside of emulation takes many minutes.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.campaigns.harness.target import Step, Target
from tests.e2e.conftest import REDIS_KEY
from tests.e2e.machine import LAB, ROOT, Machine, lab

pytestmark = pytest.mark.timeout(1800)

EXAMPLE = ROOT / "examples/microvm"
HOME = "/root/microvm"
INSTANCE = "/run/flyd/instances/redis"
INJECT = [
    {"src": f"{HOME}/init", "dest": "/sbin/flyd-init", "mode": "0755"},
    {"src": f"{HOME}/beside", "dest": "/sbin/flyd-beside", "mode": "0755"},
    {"src": "/bin/busybox", "dest": "/sbin/busybox", "mode": "0755"},
]


def copy_out(machine: Machine, paths: list[str], directory: Path) -> Path:
    """Copy files and the bytes of devices out of the VM into ``directory``, without their zeros."""
    copies = "".join(f"dd if={path} of={Path(path).name} bs=64K conv=sparse status=none && " for path in paths)
    names = " ".join(Path(path).name for path in paths)
    command = f"mkdir -p {HOME}/out && cd {HOME}/out && {copies} tar --sparse -c {names} && rm {names}"
    with subprocess.Popen([*LAB, "ssh", machine.name, "--", command], stdout=subprocess.PIPE) as reader:
        subprocess.run(["tar", "-x", "-C", directory], stdin=reader.stdout, check=True)
    assert reader.returncode == 0, command
    return directory


@pytest.fixture(scope="module")
def instance(prepared: Machine, target: Target) -> str:
    """An instance of the redis image, with the example's files in its base."""
    prepared.ssh(f"mkdir -p {HOME}")
    for name in ("init", "beside", "make-initramfs"):
        prepared.put(EXAMPLE / name, f"{HOME}/{name}")
    key: dict[str, Any] = {"key": REDIS_KEY}
    steps = [
        Step("flyd_pool", {"data_size": "4G"}),
        Step("flyd_fetch", {**key, **prepared.s3_options()}),
        Step("flyd_unpack", {**key, "inject": INJECT, "free_size": "64M"}),
        Step("flyd_instance", {**key, "name": "redis"}),
    ]
    results = target.drive(steps)
    assert [one.get("driven") for one in results] == [0] * len(steps), results
    return INSTANCE


def test_the_image_boots_and_redis_answers_from_inside(prepared: Machine, instance: str, tmp_path: Path) -> None:
    prepared.ssh(f"bash {HOME}/make-initramfs {HOME}/initramfs")
    copied = tmp_path / "redis"
    copied.mkdir()
    copy_out(prepared, [f"{HOME}/initramfs", f"{instance}/config.json", f"{instance}/device"], copied)
    done = subprocess.run(
        [EXAMPLE / "boot", copied, lab("kernel").strip(), copied / "initramfs"],
        env={**os.environ, "ACCELERATOR": "tcg"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert "redis says PONG" in done.stdout, done.stdout[-3000:] + done.stderr
    assert done.returncode == 0, done.stderr
    print("\n".join(line for line in done.stdout.splitlines() if "PONG" in line or "Ready" in line))

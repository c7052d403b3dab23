# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""On a machine with a device mapper: what volumes are estimated to take of a pool beside what they take, and many snapshots.

    room.py estimates DIRECTORY       one JSON object for each size of block and image
    room.py snapshots DIRECTORY N     N snapshots in a default pool, each written to in 17 places; one object a hundred

Runs beside the collection that tests.campaigns.harness.target has brought into the machine.
"""

from __future__ import annotations

import hashlib
import io
import json
import mmap
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "site"))  # with the packages that hosts need
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "site/ansible_collections/flyd/lite/plugins"))

from module_utils._host.processes.command import Runner
from module_utils._image.options import Options
from module_utils._image.pipeline.unpacking import Limits, open_image
from module_utils._lifecycle.pool.ensure import ensure_pool
from module_utils._lifecycle.pool.request import PoolRequest
from module_utils._lifecycle.run import Run, open_host
from module_utils._lifecycle.settings import Settings
from module_utils._lifecycle.store.records import OperationKind, Volume
from module_utils._lifecycle.volumes.room import require_room
from module_utils._lifecycle.volumes.volumes import active_pool, create_volume, map_thin, new_volume_ulid, unmap
from module_utils._names import ShortName
from module_utils._thin.ext4.filesystem import make_ext4, populate, syncing
from module_utils._thin.ext4.sizing import default_free_bytes, volume_bytes_for, written_bytes_for
from module_utils._thin.pool.health import status

POOL_BLOCKS = [(64 << 10) << order for order in range(5)]
POOL_BYTES = 3 << 30
SECTOR_BYTES = 512
PLACES = 17  # blocks of a pool that a snapshot changes
STEP_BYTES = 1 << 20


# Images


def small_files() -> Iterator[tuple[str, int]]:
    """Files of up to 9 KB in thirty directories."""
    return ((f"d{number % 30}/f{number}", number * 37 % 9000) for number in range(400))


def aligned_files() -> Iterator[tuple[str, int]]:
    """Files that just do not fit the power of two below them."""
    return ((f"d{number % 30}/f{number}", 66_000 + number * 311 % 70_000) for number in range(80))


def large_files() -> Iterator[tuple[str, int]]:
    """A few files of some megabytes."""
    return ((f"f{number}", 4_300_000 + number * 1_234_567) for number in range(3))


def huge_directory() -> Iterator[tuple[str, int]]:
    """Long names in one directory."""
    return (("d/" + str(number).ljust(200, "n"), 0) for number in range(1000))


IMAGES = {one.__name__: one for one in (small_files, aligned_files, large_files, huge_directory)}


def archive(path: Path, files: Iterator[tuple[str, int]]) -> None:
    """Write the docker archive of an image with one layer."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for name, size in files:
            _add(tar, name, b"x" * size)
    data = layer.getvalue()
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    machine = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    rootfs = {"type": "layers", "diff_ids": [digest]}
    config = json.dumps({"architecture": machine, "os": "linux", "rootfs": rootfs}).encode()
    name = hashlib.sha256(config).hexdigest() + ".json"
    manifest = json.dumps([{"Config": name, "RepoTags": None, "Layers": ["layer.tar"]}]).encode()
    with tarfile.open(path, "w") as tar:
        for member, content in (("layer.tar", data), (name, config), ("manifest.json", manifest)):
            _add(tar, member, content)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


# Estimates


def estimates(directory: Path) -> None:
    """Print, for each size of block and each image, what was estimated and what ``dmsetup status`` counts."""
    for name, files in IMAGES.items():
        archive(directory / "archive", files())
        for block_bytes in POOL_BLOCKS:
            pool = _Pool(directory, block_bytes)
            try:
                estimated, taken = _unpacked(directory, pool)
            finally:
                pool.remove()
            print(json.dumps({"block": block_bytes, "image": name, "estimated": estimated, "taken": taken}), flush=True)


class _Pool:
    """A pool on sparse files, made by dmsetup alone, with one volume."""

    def __init__(self, directory: Path, block_bytes: int) -> None:
        self.block_bytes = block_bytes
        self._loops = []
        for name, size_bytes in (("metadata", 16 << 20), ("data", POOL_BYTES)):
            with (directory / name).open("wb") as file:
                file.truncate(size_bytes)
            self._loops.append(_said("losetup", "--find", "--show", str(directory / name)))
        table = f"0 {POOL_BYTES // 512} thin-pool {' '.join(self._loops)} {block_bytes // 512} 0 1 error_if_no_space"
        _said("dmsetup", "create", "room-pool", "--table", table)

    def volume(self, size_bytes: int) -> str:
        """A new thin volume's device."""
        _said("dmsetup", "message", "room-pool", "0", "create_thin 0")
        table = f"0 {size_bytes // 512} thin /dev/mapper/room-pool 0"
        _said("dmsetup", "create", "room-volume", "--table", table)
        return "/dev/mapper/room-volume"

    @property
    def taken_bytes(self) -> int:
        """The data blocks that the pool has given out."""
        return int(_said("dmsetup", "status", "room-pool").split()[5].split("/")[0]) * self.block_bytes

    def remove(self) -> None:
        """Undo it."""
        for name in ("room-volume", "room-pool"):
            subprocess.run(["dmsetup", "remove", "--retry", name], check=False, stderr=subprocess.DEVNULL)
        for loop in self._loops:
            _said("losetup", "--detach", loop)


def _unpacked(directory: Path, pool: _Pool) -> tuple[int, int]:
    options = Options(limits=Limits(), spool_directory=str(directory))
    mount_point = directory / "mnt"
    mount_point.mkdir(exist_ok=True)
    with (directory / "archive").open("rb") as file, open_image(file.fileno(), options) as image:
        plan = image.plan
        free_bytes = default_free_bytes(plan.volume_blocks)
        size = volume_bytes_for(plan.volume_blocks, plan.inodes, free_bytes=free_bytes, round_to_bytes=1 << 20)
        estimated = written_bytes_for(plan.volume_blocks, plan.inodes, size, pool.block_bytes, plan.scattered_bytes)
        path = pool.volume(size)
        make_ext4(Runner(), path, inodes=plan.inodes)
        populate(path, str(mount_point), lambda fd: image.write_into(fd, lambda: syncing(fd)).to_json())
        return estimated, pool.taken_bytes


def _said(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()


# Snapshots


def snapshots(directory: Path, count: int) -> None:
    """Make ``count`` snapshots in a pool of default sizes, each as flyd_snapshot makes it, and write to each."""
    settings = Settings(str(directory / "state"), ShortName("room"), 60.0, 120.0, 0, 0.5)
    with open_host(settings, dry_run=False) as host:
        ensure_pool(host, PoolRequest(ShortName("room")))
        base = _volume(host, "base", 256 << 20)
        make_ext4(host.runner, map_thin(host, active_pool(host, "room"), base).path, inodes=100)
        unmap(host, base)
        for number in range(1, count + 1):
            require_room(host, active_pool(host, "room"), 0, snapshots=1)
            snapshot = _volume(host, "snap", 256 << 20, base)
            _write(map_thin(host, active_pool(host, "room"), snapshot).path, number)
            unmap(host, snapshot)
            if number % 100 == 0 or number == count:
                print(json.dumps(_counted(host, number)), flush=True)


def _volume(host: Run, kind: str, size_bytes: int, origin: Volume | None = None) -> Volume:
    operation = host.begin(OperationKind.SNAPSHOT, kind, volume_ulid=new_volume_ulid())
    pool = active_pool(host, "room")
    made = create_volume(host, pool, operation, kind=kind, sectors=size_bytes // SECTOR_BYTES, origin=origin)
    with host.store.transaction():
        host.store.drop(operation)
    return made


def _write(path: str, number: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_DIRECT)
    try:
        with mmap.mmap(-1, mmap.PAGESIZE) as page:  # aligned, as O_DIRECT wants it
            page.write(number.to_bytes(8, "little") * (mmap.PAGESIZE // 8))
            for place in range(PLACES):
                os.pwrite(fd, page, place * STEP_BYTES * 13)
        os.fsync(fd)
    finally:
        os.close(fd)


def _counted(host: Run, number: int) -> dict[str, Any]:
    now = status(host.dm, "room")
    return {
        "snapshots": number,
        "metadata_blocks": now.used_metadata_blocks,
        "of": now.total_metadata_blocks,
        "data_blocks": now.used_data_blocks,
        "mode": now.mode.value,
    }


def main() -> None:
    """Entry point."""
    directory = Path(sys.argv[2])
    directory.mkdir(parents=True, exist_ok=True)
    if sys.argv[1] == "estimates":
        estimates(directory)
    else:
        snapshots(directory, int(sys.argv[3]))


if __name__ == "__main__":
    main()

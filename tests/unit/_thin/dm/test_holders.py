"""Who keeps a device busy, in words."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from module_utils._thin.dm.holders import who_holds
from tests.unit.support.real import needs_loops


def process(proc: Path, pid: int, namespace: str, mounts: str = "") -> None:
    directory = proc / str(pid)
    (directory / "ns").mkdir(parents=True)
    (directory / "fd").mkdir()
    (directory / "ns/mnt").symlink_to(f"mnt:[{namespace}]")
    (directory / "mountinfo").write_text(mounts)


def test_a_mount_is_named_once_however_many_processes_see_it(tmp_path: Path) -> None:
    line = "36 35 253:1 / /mnt/image rw,nosuid - ext4 /dev/mapper/base rw\n"
    process(tmp_path, 4000001, "1", line)
    process(tmp_path, 4000002, "1", line)
    process(
        tmp_path, 4000003, "2", line + "37 35 253:1 / /second rw - ext4 x rw\n36 35 253:10 / /other rw - ext4 x rw\n"
    )
    assert who_holds(253, 1, sysfs="/nonesuch", proc=str(tmp_path)) == (
        "a mount on /mnt/image (seen by process 4000001 (kernel))",
        "a mount on /second (seen by process 4000003 (kernel))",
    )


def test_devices_on_top_are_named_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "dev/block/253:0/holders/dm-1").mkdir(parents=True)
    (tmp_path / "block/dm-1/dm").mkdir(parents=True)
    (tmp_path / "block/dm-1/dm/name").write_text("base-x\n")
    assert who_holds(253, 0, sysfs=str(tmp_path), proc="/nonesuch") == ("device base-x",)


def test_an_empty_owner_is_no_owner(tmp_path: Path) -> None:
    assert who_holds(253, 0, sysfs=str(tmp_path), proc=str(tmp_path)) == ()


@needs_loops
def test_real_an_open_file_is_found(tmp_path: Path) -> None:
    backing = tmp_path / "backing"
    backing.write_bytes(bytes(1 << 20))
    loop = subprocess.run(
        ["losetup", "--find", "--show", str(backing)], capture_output=True, text=True, check=True
    ).stdout.strip()
    try:
        number = os.stat(loop).st_rdev
        assert who_holds(os.major(number), os.minor(number)) == ()
        with open(loop, "rb"):
            (holder,) = who_holds(os.major(number), os.minor(number))
        assert holder.startswith(f"process {os.getpid()} (")
    finally:
        subprocess.run(["losetup", "--detach", loop], check=True)

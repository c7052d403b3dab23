"""ext4, made and filled for real on a loop device; the mount is seen by no one and gone afterwards."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from module_utils._errors import BadInput, CommandFailed, FlydError, NoSpace, Unsupported, Untrusted
from module_utils._host.processes.child import in_child
from module_utils._host.processes.command import Runner
from module_utils._thin.dm.device import requests_done
from module_utils._thin.ext4 import filesystem
from module_utils._thin.ext4.filesystem import check, grow, make_ext4, populate, syncing
from module_utils._thin.ext4.sizing import MIB, inodes_with_room, volume_bytes_for, written_bytes_for
from tests.unit.fakes.host import FakeHost
from tests.unit.support.processes import assert_ends, runs
from tests.unit.support.real import needs_loops

pytestmark = pytest.mark.slow

UUID = "8bd0d7a5-7f3e-4c2b-9d0e-9f3a4c6f1a11"


def test_a_volume_leaves_a_quarter_and_at_least_64_mib() -> None:
    assert volume_bytes_for(0, 1) > 64 * MIB
    assert volume_bytes_for((10 << 30) // 4096, 1) > 12.5 * (1 << 30)


def test_a_volume_is_a_multiple_of_what_is_asked_for() -> None:
    assert volume_bytes_for(123, 67) % MIB == 0
    assert volume_bytes_for(123, 67, round_to_bytes=3 << 20) % (3 << 20) == 0


def test_more_content_never_needs_less() -> None:
    sizes = [volume_bytes_for(content << 8, 1000) for content in (1, 100, 800, 1000, 8000, 9000)]
    assert sizes == sorted(sizes)


def test_room_for_inodes() -> None:
    assert [inodes_with_room(inodes) for inodes in (0, 4, 100_000)] == [4096, 4100, 125_000]


def test_a_mkfs_that_fails_is_an_error_with_its_words(fake_host: FakeHost) -> None:
    device = fake_host.dm.create("one", "FLYD-1", "0 2048 error")
    fake_host.refuse("mkfs.ext4", 5)
    with pytest.raises(CommandFailed, match="Input/output error"):
        make_ext4(fake_host.runner, device.path, inodes=1)


def test_what_is_no_file_system_is_not_clean(fake_host: FakeHost) -> None:
    device = fake_host.dm.create("one", "FLYD-1", "0 2048 error")
    with pytest.raises(CommandFailed, match=r"is not clean.*Bad magic"):
        check(fake_host.runner, device.path)


# From here on for real.


class Disk:
    """A loop device of a given size on a sparse file, and an empty directory to mount it on."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "disk"
        self.file.touch()
        self.mount_point = str(directory / "mnt")
        os.mkdir(self.mount_point)
        self.path = ""

    def attach(self, size_bytes: int) -> str:
        os.truncate(self.file, size_bytes)
        argv = ["losetup", "--find", "--show", str(self.file)]
        self.path = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()
        return self.path

    def detach(self) -> None:
        if self.path:
            subprocess.run(["losetup", "--detach", self.path], check=True)

    def superblock(self) -> dict[str, str]:
        text = subprocess.run(["dumpe2fs", "-h", self.path], capture_output=True, text=True, check=True).stdout
        return dict(re.findall(r"^([^:\n]+):\s+(.*)$", text, re.MULTILINE))

    def is_mounted(self) -> bool:
        return self.path in Path("/proc/mounts").read_text()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    made = Disk(tmp_path)
    yield made
    made.detach()


@needs_loops
def test_real_nothing_is_left_for_the_kernel_to_initialise(disk: Disk) -> None:
    make_ext4(Runner(), disk.attach(300 * MIB), inodes=1000, label="flyd", uuid=UUID)
    facts = disk.superblock()
    assert (facts["Filesystem volume name"], facts["Filesystem UUID"]) == ("flyd", UUID)
    assert facts["Reserved block count"] == "0"
    assert int(facts["Inode count"]) >= inodes_with_room(1000)
    assert "metadata_csum" in facts["Filesystem features"]
    assert "orphan_file" not in facts["Filesystem features"]
    groups = subprocess.run(["dumpe2fs", disk.path], capture_output=True, text=True, check=True).stdout
    tables = re.findall(r"^Group \d+:.*\[(.*)\]", groups, re.MULTILINE)
    assert tables
    assert all("ITABLE_ZEROED" in flags for flags in tables)


@needs_loops
def test_real_a_tree_is_written_and_the_file_system_is_clean(disk: Disk) -> None:
    make_ext4(Runner(), disk.attach(100 * MIB), inodes=10)

    def work(root_fd: int) -> dict[str, object]:
        os.fchdir(root_fd)
        os.chroot(".")
        Path("/file").write_bytes(b"content")
        return {"names": sorted(os.listdir("/"))}

    assert populate(disk.path, disk.mount_point, work) == {"names": ["file"]}, "no lost+found"
    check(Runner(), disk.path)
    assert not disk.is_mounted()
    assert populate(disk.path, disk.mount_point, lambda fd: os.listdir(fd)) == ["file"]


@needs_loops
def test_real_the_mount_is_hardened_and_seen_by_no_other_process(disk: Disk) -> None:
    make_ext4(Runner(), disk.attach(100 * MIB), inodes=10)
    outside = os.getpid()

    def work(root_fd: int) -> list[int | str]:
        seen = [pid for pid in (outside, os.getpid()) if disk.path in Path(f"/proc/{pid}/mounts").read_text()]
        return [os.fstatvfs(root_fd).f_flag, *seen]

    flags, *seen = populate(disk.path, disk.mount_point, work)
    wanted = os.ST_NOSUID | os.ST_NODEV | os.ST_NOEXEC | os.ST_NOATIME
    assert flags & wanted == wanted
    assert seen == []


@needs_loops
def test_real_nothing_is_above_the_root_of_the_volume_but_an_empty_place(disk: Disk) -> None:
    make_ext4(Runner(), disk.attach(100 * MIB), inodes=10)

    def work(root_fd: int) -> list[object]:
        above = os.open("..", os.O_RDONLY | os.O_DIRECTORY, dir_fd=root_fd)
        higher = os.open("../../../..", os.O_RDONLY | os.O_DIRECTORY, dir_fd=root_fd)
        found: list[object] = [os.listdir(above), os.path.samestat(os.fstat(above), os.fstat(higher))]
        for attempt in (
            lambda: os.mkdir("new", dir_fd=above),
            lambda: os.open("new", os.O_CREAT | os.O_EXCL | os.O_WRONLY, dir_fd=above),
            lambda: os.open("../../../../etc", os.O_RDONLY, dir_fd=root_fd),
        ):
            with pytest.raises(OSError) as caught:  # noqa: PT011 - which one is asked below
                attempt()
            found.append(errno.errorcode[caught.value.errno or 0])
        return found

    found = populate(disk.path, disk.mount_point, work)
    assert found == [["volume"], True, "EROFS", "EROFS", "ENOENT"]


@needs_loops
def test_real_the_volume_is_not_unmounted_while_a_process_holds_it(disk: Disk) -> None:
    make_ext4(Runner(), disk.attach(100 * MIB), inodes=10)
    holders: list[int] = []

    def hold(root_fd: int) -> int:
        holder = os.fork()
        if holder == 0:
            try:
                os.fchdir(root_fd)
                os.setsid()
                os.closerange(0, 256)
                time.sleep(600)
            finally:
                os._exit(0)
        (Path(disk.mount_point).parent / "holder").write_text(str(holder))
        return holder

    try:
        with pytest.raises(FlydError, match="busy"):
            populate(disk.path, disk.mount_point, hold)
    finally:
        holders.append(int((Path(disk.mount_point).parent / "holder").read_text()))
        os.kill(holders[0], signal.SIGKILL)
        assert_ends(str(holders[0]))
    assert populate(disk.path, disk.mount_point, lambda _fd: "mounted again") == "mounted again"


@needs_loops
def test_real_an_error_of_the_work_is_raised_and_the_mount_is_gone(disk: Disk) -> None:
    make_ext4(Runner(), disk.attach(100 * MIB), inodes=10)

    def work(_: int) -> None:
        raise BadInput("this archive", hint="is bad")

    with pytest.raises(BadInput, match="this archive"):
        populate(disk.path, disk.mount_point, work)
    disk.detach()
    attached = subprocess.run(["losetup", "--associated", str(disk.file)], capture_output=True, text=True).stdout
    disk.path = ""
    assert attached == "", "nobody holds the device any more"


@needs_loops
def test_real_a_full_file_system_is_no_space(disk: Disk) -> None:
    make_ext4(Runner(), disk.attach(20 * MIB), inodes=10)

    def work(root_fd: int) -> None:
        fd = os.open("large", os.O_CREAT | os.O_WRONLY, dir_fd=root_fd)
        while True:
            os.write(fd, bytes(MIB))

    with pytest.raises(NoSpace):
        populate(disk.path, disk.mount_point, work)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Disk]:
    """A disk of which the host's own disk holds 8 MiB only: what is written beyond is lost, after write(2) has returned."""
    host = tmp_path / "host"
    host.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8M", "tmpfs", str(host)], check=True)
    made = Disk(host)
    yield made
    made.detach()
    subprocess.run(["umount", str(host)], check=True)


@needs_loops
def test_real_what_was_lost_after_it_was_written_is_an_error(small_disk: Disk) -> None:
    make_ext4(Runner(), small_disk.attach(100 * MIB), inodes=10)

    def work(root_fd: int) -> str:
        fd = os.open("large", os.O_CREAT | os.O_WRONLY, dir_fd=root_fd)
        os.write(fd, os.urandom(20 * MIB))
        return "written"

    with pytest.raises(CommandFailed, match="syncfs: Input/output error"):
        populate(small_disk.path, small_disk.mount_point, work)


@needs_loops
def test_real_what_an_early_sync_reports_is_not_forgotten(small_disk: Disk) -> None:
    """The kernel tells of it once: the last sync would find nothing wrong."""
    make_ext4(Runner(), small_disk.attach(100 * MIB), inodes=10)

    def work(root_fd: int) -> str:
        fd = os.open("large", os.O_CREAT | os.O_WRONLY, dir_fd=root_fd)
        os.write(fd, os.urandom(20 * MIB))
        with syncing(root_fd):
            return "written"

    with pytest.raises(CommandFailed, match="syncfs: Input/output error"):
        populate(small_disk.path, small_disk.mount_point, work)


def test_what_failed_beside_an_early_sync_is_reported_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_fd: int) -> None:
        raise Unsupported("syncfs: Input/output error", hint="see dmesg")

    monkeypatch.setattr(filesystem, "sync_filesystem", fail)
    with pytest.raises(Untrusted, match="a wrong digest"), syncing(-1):
        raise Untrusted("a wrong digest", hint="fetch it again")


@needs_loops
def test_real_what_is_no_file_system_cannot_be_mounted(disk: Disk) -> None:
    disk.attach(20 * MIB)
    with pytest.raises(Unsupported, match="filling the volume"):
        populate(disk.path, disk.mount_point, lambda _: None)


@needs_loops
def test_real_work_that_comes_to_a_standstill_is_ended_and_its_mount_is_gone(disk: Disk) -> None:
    make_ext4(Runner(), disk.attach(100 * MIB), inodes=10)
    with pytest.raises(CommandFailed, match=r"filling the volume made no progress for 1 s and was killed") as caught:
        # From a process that has no other children.
        in_child(
            lambda: populate(disk.path, disk.mount_point, lambda _: time.sleep(600), stalled_seconds=1.0),
            what="filling",
        )
    assert caught.value.retryable
    check(Runner(), disk.path)  # no one has it mounted


@needs_loops
def test_real_what_a_device_has_done_can_be_seen(disk: Disk) -> None:
    before = requests_done(disk.attach(20 * MIB))
    fd = os.open(disk.path, os.O_RDWR | os.O_DSYNC)
    os.write(fd, bytes(4096))
    os.close(fd)
    assert (len(before), before != requests_done(disk.path)) == (7, True)


def test_a_file_is_no_device_that_does_anything(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert requests_done(str(tmp_path / "file")) == ()


@needs_loops
def test_real_a_killed_run_leaves_no_mount_and_no_process(disk: Disk, tmp_path: Path) -> None:
    make_ext4(Runner(), disk.attach(100 * MIB), inodes=10)
    ready = tmp_path / "ready"

    def work(_: int) -> None:
        ready.write_text(str(os.getpid()))
        time.sleep(60)

    runner = os.fork()
    if runner == 0:
        populate(disk.path, disk.mount_point, work)
        os._exit(0)
    until = time.monotonic() + 20
    while not (ready.exists() and ready.read_text()):
        assert time.monotonic() < until
        time.sleep(0.02)
    os.kill(runner, signal.SIGKILL)
    os.waitpid(runner, 0)
    while not _is_free(disk.path):
        assert time.monotonic() < until, "the device is still held"
        time.sleep(0.05)
    assert not runs(ready.read_text())
    assert not disk.is_mounted()


@needs_loops
def test_real_damage_is_found_by_the_check(disk: Disk) -> None:
    make_ext4(Runner(), disk.attach(100 * MIB), inodes=10)
    populate(disk.path, disk.mount_point, lambda fd: os.mkdir("directory", dir_fd=fd))
    with open(disk.path, "r+b") as file:
        file.seek(int(re.findall(r"Inode table at (\d+)", _dump(disk.path))[0]) * 4096)
        file.write(b"\xff" * 4096)
    with pytest.raises(CommandFailed, match="is not clean"):
        check(Runner(), disk.path)


@needs_loops
@pytest.mark.parametrize(("files", "size"), [(1, 100 * MIB), (3000, 5000), (12_000, 10), (20, 4_500_000)])
def test_real_what_was_counted_fits_and_leaves_room(disk: Disk, files: int, size: int) -> None:
    directories = files // 20
    inodes = files + directories + 1
    tree_blocks = files * -(-size // 4096) + 2 * (directories + 1)
    total = volume_bytes_for(tree_blocks, inodes)
    make_ext4(Runner(), disk.attach(total), inodes=inodes)

    def work(root_fd: int) -> list[int]:
        os.fchdir(root_fd)
        for number in range(directories):
            os.mkdir(f"d{number}")
        for number in range(files):
            path = f"d{number % directories}/f{number}" if directories else f"f{number}"
            with open(path, "wb") as file:
                file.write(b"x" * size)
        left = os.statvfs(".")
        return [left.f_bavail * left.f_frsize, left.f_favail]

    free_bytes, free_inodes = populate(disk.path, disk.mount_point, work)
    assert free_bytes >= max(64 * MIB, files * size // 4)
    assert free_inodes >= 4000
    check(Runner(), disk.path)
    assert disk.file.stat().st_blocks * 512 <= written_bytes_for(tree_blocks, inodes, total)


@needs_loops
def test_real_a_file_system_grows_into_a_larger_device(disk: Disk) -> None:
    make_ext4(Runner(), disk.attach(100 * MIB), inodes=10)
    populate(disk.path, disk.mount_point, lambda fd: os.mkdir("directory", dir_fd=fd))
    before = int(disk.superblock()["Block count"])
    os.truncate(disk.file, 200 * MIB)
    subprocess.run(["losetup", "--set-capacity", disk.path], check=True)
    grow(Runner(), disk.path)
    assert int(disk.superblock()["Block count"]) == 2 * before
    check(Runner(), disk.path)


@needs_loops
@pytest.mark.parametrize("has_own", [False, True])
def test_real_a_file_system_grows_and_keeps_the_tree_of_the_image(disk: Disk, *, has_own: bool) -> None:
    make_ext4(Runner(), disk.attach(100 * MIB), inodes=10)

    def work(root_fd: int) -> None:
        os.fchdir(root_fd)
        Path("file").write_bytes(b"content")
        if has_own:
            os.mkdir("lost+found", 0o751)
            os.chown("lost+found", 7, 8)
            Path("lost+found/found").write_bytes(b"the image's")

    populate(disk.path, disk.mount_point, work)
    before = _look(disk)
    os.truncate(disk.file, 900 * MIB)
    subprocess.run(["losetup", "--set-capacity", disk.path], check=True)
    grow(Runner(), disk.path)
    assert _look(disk) == before
    assert ("lost+found" in str(before)) == has_own
    assert int(disk.superblock()["Block count"]) == 900 * MIB // 4096
    check(Runner(), disk.path)


def _look(disk: Disk) -> object:
    """The tree, without what ``populate`` does to an empty lost+found."""
    subprocess.run(["mount", "-o", "ro", disk.path, disk.mount_point], check=True)
    try:
        fd = os.open(disk.mount_point, os.O_RDONLY)
        try:
            return _tree(fd)
        finally:
            os.close(fd)
    finally:
        subprocess.run(["umount", disk.mount_point], check=True)


def _tree(root_fd: int) -> list[list[object]]:
    found: list[list[object]] = []
    for directory, _directories, files, fd in os.fwalk(".", dir_fd=root_fd):
        for name in [".", *files]:
            one = os.stat(name, dir_fd=fd)
            found.append(
                [os.path.join(directory, name), one.st_mode, one.st_uid, one.st_gid, one.st_size, one.st_mtime_ns]
            )
    return sorted(found)


def _dump(device: str) -> str:
    return subprocess.run(["dumpe2fs", device], capture_output=True, text=True, check=True).stdout


def _is_free(device: str) -> bool:
    try:
        os.close(os.open(device, os.O_RDONLY | os.O_EXCL))
    except OSError:
        return False
    return True

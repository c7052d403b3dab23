"""The disk that all virtual machines start from: Debian in an ext4 file system, with its kernel.

Invariant: a base is never written to after it is made. Its name is a hash of everything it is made
from but Debian's own mirrors, so a changed recipe makes a new base beside the old one.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import ssh
from disks.apt_sources import machine_suite
from disks.cache import Cache, discard, made_whole
from disks.guest_files import GuestFile, guest_files, write_tar
from disks.packages import debian_tree, ensure_programs, is_root
from programs import LabError, run

PACKAGES = [
    "linux-image-amd64", "systemd-sysv", "udev", "dbus", "openssh-server",
    "python3", "python3-venv", "python3-apt", "ca-certificates",
    "dmsetup", "e2fsprogs", "thin-provisioning-tools", "util-linux", "sqlite3", "attr", "libcap2-bin",
    "iproute2", "kmod", "procps", "sudo", "strace", "busybox-static",
]  # fmt: skip

# The whole initramfs of Debian takes 150 MB of memory, which would be part of every saved state.
_SMALL_INITRAMFS = """--essential-hook=
mkdir -p "$1/etc/initramfs-tools/conf.d" "$1/usr/share/initramfs-tools/modules.d"
echo MODULES=list > "$1/etc/initramfs-tools/conf.d/lab"
printf '%s\\n' virtio_pci virtio_blk ext4 > "$1/usr/share/initramfs-tools/modules.d/lab"
"""

_DISK_SIZE = "12G"
_BUILD_TIMEOUT_SECONDS = 300.0

# One shell, because without root one fakeroot must see the owners from the unpacking to mke2fs.
_FILL_DISK = """
mkdir "$1"
tar -C "$1" --xattrs --xattrs-include='*' -xpf "$2"
tar -C "$1" -xpf "$3"
chmod 700 "$1/root/.ssh"
mke2fs -q -F -t ext4 -d "$1" "$4" "$5"
"""


@dataclass(frozen=True)
class BaseImage:
    """A directory with a raw disk whose whole is the root file system, and what boots it."""

    directory: Path

    @property
    def disk(self) -> Path:
        return self.directory / "disk.img"

    @property
    def kernel(self) -> Path:
        return self.directory / "vmlinuz"

    @property
    def initrd(self) -> Path:
        return self.directory / "initrd.img"


def base_image(cache: Cache) -> BaseImage:
    """The base image, built first when there is none of this recipe (about a minute and a half)."""
    with cache.lock("base"):
        files = guest_files(ssh.public_key(cache))
        base = BaseImage(cache.root / f"base-{_recipe(files)}")
        if not base.directory.exists():
            with made_whole(base.directory) as part:
                part.mkdir(mode=0o700)
                _build(BaseImage(part), files, cache.directory("logs") / "base.log")
        return base


def _recipe(files: list[GuestFile]) -> str:
    everything = repr((machine_suite(os.environ), PACKAGES, _SMALL_INITRAMFS, _DISK_SIZE, _FILL_DISK, files))
    return hashlib.sha256(everything.encode()).hexdigest()[:12]


def _build(base: BaseImage, files: list[GuestFile], log: Path) -> None:
    ensure_programs("mke2fs", *([] if is_root() else ["fakeroot"]), log=log)
    debian, overlay, tree = (base.directory / name for name in ("debian.tar", "overlay.tar", "tree"))
    suite = machine_suite(os.environ)
    debian_tree(debian, variant="minbase", include=PACKAGES, options=[_SMALL_INITRAMFS], log=log, suite=suite)
    write_tar(files, overlay)
    shell = ["sh", "-euc", _FILL_DISK] if is_root() else ["fakeroot", "sh", "-euc", _FILL_DISK]
    run([*shell, "sh", tree, debian, overlay, base.disk, _DISK_SIZE], timeout_seconds=_BUILD_TIMEOUT_SECONDS, log=log)
    _only(tree / "boot", "vmlinuz-*").rename(base.kernel)
    _only(tree / "boot", "initrd.img-*").rename(base.initrd)
    for scaffold in (debian, overlay, tree):
        discard(scaffold)


def _only(directory: Path, pattern: str) -> Path:
    found = list(directory.glob(pattern))
    if len(found) != 1:
        raise LabError(f"{len(found)} files are named {pattern} in {directory}, where one kernel was to be installed")
    return found[0]

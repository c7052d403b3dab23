"""Debian packages that the lab needs on this host, and Debian trees built from packages.

Invariant: the host is only changed by apt-get, only when a program is missing, and only by root;
any other user gets one line with what to install.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from disks.apt_sources import KEYRING, SUITE, mirror_lines
from programs import LabError, find_program, run

PACKAGE_OF = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "umoci": "umoci",
    "skopeo": "skopeo",
    "bsdtar": "libarchive-tools",
    "containerd": "containerd",
    "ctr": "containerd",
    "fakeroot": "fakeroot",
    "newuidmap": "uidmap",
}

_APT = ("apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300")
_INSTALL_TIMEOUT_SECONDS = 600.0
_DEBSTRAP_TIMEOUT_SECONDS = 1200.0

_HOST_SETTINGS = (
    "Acquire::http::Proxy",
    "Acquire::https::Proxy",
    "Acquire::Check-Valid-Until",
    "Acquire::Check-Date",
)
"""How this host reaches its mirrors holds for the trees that are built from them, too."""


def is_root() -> bool:
    return os.geteuid() == 0


def ensure_programs(*names: str, log: Path) -> None:
    """Have these programs on the host, installing their packages when that is ours to do."""
    missing = sorted({PACKAGE_OF[name] for name in names if find_program(name) is None})
    if not missing:
        return
    if not is_root():
        raise LabError(f"Debian packages are missing: apt-get install --no-install-recommends {' '.join(missing)}")
    run([*_APT, "update"], timeout_seconds=_INSTALL_TIMEOUT_SECONDS, log=log)
    argv = [*_APT, "install", "--yes", "--no-install-recommends", *missing]
    run(argv, timeout_seconds=_INSTALL_TIMEOUT_SECONDS, log=log)


def debian_tree(
    tar: Path,
    *,
    variant: str,
    include: Sequence[str],
    options: Sequence[str] = (),
    log: Path,
    suite: str = SUITE,
    lines: Sequence[str] = (),
) -> None:
    """Write a tree of the Debian release ``suite`` made by mmdebstrap to ``tar``, from this host's own mirrors or those of ``lines``."""
    ensure_programs("mmdebstrap", *([] if is_root() else ["newuidmap"]), log=log)
    if not KEYRING.exists():
        raise LabError(f"{KEYRING} is missing: apt-get install debian-archive-keyring")
    argv: list[str | Path] = ["mmdebstrap", f"--variant={variant}", f"--mode={'root' if is_root() else 'unshare'}"]
    argv += ["--format=tar", *(f"--include={package}" for package in include)]
    argv += [f"--aptopt={setting}" for setting in _host_settings()]
    argv += [*options, suite, tar, *(lines or mirror_lines(os.environ, wanted=suite))]
    run(argv, timeout_seconds=_DEBSTRAP_TIMEOUT_SECONDS, log=log)


def _host_settings() -> list[str]:
    argv = ["apt-config", "dump", "--no-empty", "--format", '%f "%v";%n', *_HOST_SETTINGS]
    return run(argv, timeout_seconds=30).splitlines()

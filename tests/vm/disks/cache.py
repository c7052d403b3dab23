"""Where the lab keeps its files, and how two lab commands share them.

Invariant: a name in the cache is absent or whole. Everything is made under ``NAME.part``, by the
holder of that artefact's lock, and renamed when it is complete; a killed build leaves only a
``.part``, which the next one removes.

    ROOT/            $FLYD_LAB_CACHE, or ~/.cache/flyd-lab
      base-HASH/     disk, kernel and initrd of the virtual machines
      golden-HASH.qcow2   a booted machine, saved
      images/  ssh/  s3/  logs/  locks/
      run/           what dies with this machine: VMs, sockets, ports
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from programs import LabError

LOCK_TIMEOUT_SECONDS = 900.0
"""Longer than a cold build, so that a second command waits for the first one's result."""

_LOCK_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Cache:
    """The cache directory and the places in it."""

    root: Path

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Cache:
        chosen = environment.get("FLYD_LAB_CACHE")
        return cls(Path(chosen).absolute() if chosen else Path.home() / ".cache" / "flyd-lab")

    @property
    def vms(self) -> Path:
        return self.root / "run" / "vms"

    @property
    def inventory(self) -> Path:
        return self.root / "run" / "inventory.yml"

    def directory(self, name: str) -> Path:
        """A directory of the cache, made when missing and closed to other users."""
        path = self.root / name
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold the lock of one artefact; the kernel frees it when this process ends, however it ends."""
        path = self.directory("locks") / f"{name}.lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _wait_for_flock(descriptor, path)
            yield
        finally:
            os.close(descriptor)


def _wait_for_flock(descriptor: int, path: Path) -> None:
    deadline = time.monotonic() + LOCK_TIMEOUT_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                message = f"another lab command holds {path} for {LOCK_TIMEOUT_SECONDS:g} s: end it and try again"
                raise LabError(message) from None
            time.sleep(_LOCK_POLL_SECONDS)


@contextmanager
def made_whole(final: Path) -> Iterator[Path]:
    """Give a ``.part`` path to fill, and rename it to ``final`` when the body ends well."""
    part = final.with_name(f"{final.name}.part")
    discard(part)
    try:
        yield part
        os.replace(part, final)
    except BaseException:
        with suppress(LabError, OSError):  # the first error is the one to tell
            discard(part)
        raise


def discard(path: Path) -> None:
    """Remove a file or a tree of the lab, if there is one; never crosses into a mounted file system."""
    if path.is_dir() and not path.is_symlink():
        refuse_mounts_below(path)
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def refuse_mounts_below(path: Path) -> None:
    """LabError when a file system is mounted on or below ``path``: a killed build may have left the host's /dev there."""
    whole = path.resolve()
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount = Path(line.split()[4])
        if mount.is_relative_to(whole) and mount != Path("/"):
            raise LabError(f"{mount} is a mount inside the lab's {path}: unmount it and try again")

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Loop devices, found by what is behind them.

Invariant: one loop device for a file, known by the file's device and inode; a loop's number is never remembered, because after a
reboot another file may have it. Two loops over one file would show two page caches of the same bytes: refused.
Direct input/output is not asked for: no gain was measured, and not every file system below can do it.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from .._errors import BadInput, Busy, CommandFailed, CorruptStore, DamagedPool, FlydError, ForeignDevice
from .._host.files.directories import check_safe
from .._host.files.durable import file_errors
from .._host.processes.command import Program, Runner
from .._names import exact_size_text, printable
from .dm.holders import who_holds

_COLUMNS = "NAME,BACK-INO,BACK-MAJ:MIN,BACK-FILE,OFFSET,SIZELIMIT,RO"
_REPORTED = ("back-ino", "back-maj:min", "offset", "sizelimit")
_DETACH_SECONDS = 10.0
_POLL_SECONDS = 0.05


class LoopDevice(NamedTuple):
    """A loop device; ``backing_device`` and ``backing_inode`` are st_dev and st_ino of the file behind it."""

    path: str
    backing_device: int
    backing_inode: int

    def __fspath__(self) -> str:
        return self.path


def find_all(runner: Runner, paths: Iterable[str], *, sysfs: str = "/sys") -> dict[str, LoopDevice]:
    """The loop devices over those of ``paths`` that have one; one program is started for all, and none on a host without loops.

    ``ForeignDevice`` when there are two over one path, or one that shows only a part of the file.
    """
    wanted = list(paths)
    rows = _rows(runner, wanted, sysfs) if _attached(sysfs) else []
    found = {path: _over(path, rows) for path in wanted}
    return {path: loop for path, loop in found.items() if loop is not None}


def attach_all(
    runner: Runner, paths: Sequence[str], *, there: dict[str, LoopDevice], sysfs: str = "/sys"
) -> dict[str, LoopDevice]:
    """A loop device over each of ``paths``, whose files were checked: those that were found ``there``, and new ones.

    What was attached here is detached again on failure.
    """
    missing = [path for path in paths if path not in there]
    if not missing:
        return there
    try:
        for path in missing:
            # --nooverlap: should another process have been quicker, its device is taken instead of making a second one.
            runner.run(Program.LOSETUP, "--find", "--show", "--nooverlap", path)
        found = find_all(runner, paths, sysfs=sysfs)
        lost = [path for path in paths if path not in found]
        if lost:
            raise CorruptStore(
                f"losetup attached {printable(lost[0])}, but no loop device shows it",
                hint="see `losetup --list`; the file may have been exchanged",
            )
        return found
    except BaseException:
        with contextlib.suppress(FlydError):  # the first error is the one to report
            detach_all(runner, missing, sysfs=sysfs)
        raise


def take_size(runner: Runner, device: LoopDevice) -> None:
    """Let the loop device see that its file has another size."""
    runner.run(Program.LOSETUP, "--set-capacity", device.path)


def detach_all(runner: Runner, paths: Iterable[str], *, sysfs: str = "/sys") -> bool:
    """Detach the loop devices over ``paths``; says whether there were any.

    The kernel answers a detach of a loop in use with success and does it later (loop.c, LO_FLAGS_AUTOCLEAR): hence the look.
    """
    loops = list(find_all(runner, paths, sysfs=sysfs).values())
    if not loops:
        return False
    runner.run(Program.LOSETUP, "--detach", *(loop.path for loop in loops))
    until = time.monotonic() + _DETACH_SECONDS
    for loop in loops:
        while os.path.basename(loop.path) in _attached(sysfs):
            if time.monotonic() > until:
                raise _still_held(loop, sysfs)
            time.sleep(_POLL_SECONDS)
    return True


def check_backing_file(path: str, expected_bytes: int | None = None) -> None:
    """Refuse a backing file that is missing, no regular file, a symbolic link, not ours, open to others, or of another size.

    And one that another user could exchange, because of the directories on its path (``BadInput``).
    """
    with file_errors("looking at the backing file"):
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            raise DamagedPool(
                f"the backing file {printable(path)} is missing",
                hint="bring it back from where it went; without it the images in the pool are lost",
            ) from None
    check_safe(os.path.dirname(path))
    if not stat.S_ISREG(found.st_mode):
        kind = "a symbolic link" if stat.S_ISLNK(found.st_mode) else "no regular file"
        raise BadInput(
            f"the backing file {printable(path)} is {kind}",
            hint="name the file itself, or use data_device and metadata_device",
        )
    if found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise BadInput(
            f"the backing file {printable(path)} belongs to uid {found.st_uid} with mode {stat.S_IMODE(found.st_mode):04o}: others could change every image",
            hint=f"make sure what it holds, then `chown root: {path}` and `chmod 0600 {path}`",
        )
    if expected_bytes is not None and found.st_size != expected_bytes:
        raise DamagedPool(
            f"the backing file {printable(path)} has {exact_size_text(found.st_size)}, {exact_size_text(expected_bytes)} are expected",
            hint="it was truncated, grown or exchanged: bring the right file back (data_file, metadata_file)",
            path=printable(path),
        )


def _attached(sysfs: str) -> list[str]:
    """Names of the loop devices that have a file."""
    block = os.path.join(sysfs, "block")
    loops = (entry for entry in os.listdir(block) if entry.startswith("loop"))
    return [entry for entry in loops if os.path.isdir(os.path.join(block, entry, "loop"))]


def _over(path: str, rows: list[dict[str, object]]) -> LoopDevice | None:
    try:
        wanted = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return None
    rows = [row for row in rows if _backing(row) == (wanted.st_dev, wanted.st_ino)]
    if len(rows) > 1 or any(_is_partial(row) for row in rows):
        names = ", ".join(str(row["name"]) for row in rows)
        raise ForeignDevice(
            f"{printable(path)} is behind {names}: more than one loop device, or one that shows a part of it only",
            hint="see `losetup --list`; detach those that are not ours with `losetup --detach` once nothing uses them",
            path=printable(path),
        )
    return LoopDevice(str(rows[0]["name"]), wanted.st_dev, wanted.st_ino) if rows else None


def _rows(runner: Runner, paths: Sequence[str], sysfs: str) -> list[dict[str, object]]:
    """What losetup lists. ``--json`` prints nothing at all when there is no loop device.

    A device of which it does not say enough was detached meanwhile, or is over another file and left out; or it may be over
    one of ``paths``, and then nothing can be done before that is known: a second device must not be made (``CommandFailed``).
    """
    text = runner.run(Program.LOSETUP, "--list", "--json", "--output", _COLUMNS).stdout
    rows: list[dict[str, object]] = json.loads(text)["loopdevices"] if text.strip() else []
    without = [row for row in rows if any(row[column] is None for column in _REPORTED)]
    for row in without:
        if row["back-file"] in (None, *paths) and os.path.basename(str(row["name"])) in _attached(sysfs):
            raise CommandFailed(
                f"losetup does not show which file is behind {row['name']}",
                hint="run again; if it stays so, see what `losetup --list` and `dmesg` say of that device",
                retryable=True,
            )
    return [row for row in rows if row not in without]


def _backing(row: dict[str, object]) -> tuple[int, int]:
    major, minor = str(row["back-maj:min"]).strip().split(":")
    return os.makedev(int(major), int(minor)), int(str(row["back-ino"]))


def _is_partial(row: dict[str, object]) -> bool:
    return int(str(row["offset"])) != 0 or int(str(row["sizelimit"])) != 0


def _still_held(loop: LoopDevice, sysfs: str) -> Busy:
    rdev = os.stat(loop.path).st_rdev
    holders = who_holds(os.major(rdev), os.minor(rdev), sysfs=sysfs)
    return Busy(
        f"loop device {loop.path} is held by {', '.join(holders) or 'a process that has closed it since'}",
        hint="end what uses it, then run again",
        device=loop.path,
    )

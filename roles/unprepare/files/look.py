# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look at what the role prepare has left on a host, and change nothing: look.py ROOT STATE_DIR

ROOT is where the host's files begin; an empty STATE_DIR stands for that of the last run of prepare. Prints an object of JSON:

    state_dir     the state directory
    held          each reason to change nothing, as a sentence: devices, loop devices and processes
    stop          units that are there, in the order in which to stop them
    numbers       files that flyd-metrics.service has written
    units         links and files of units, in the order in which to remove them
    reload        whether systemd still has what is no longer there
    remove        other files to remove
    restore       path, content, mode, uid and gid of files to set back to what they were
    kept          files of these names, and in the role's own directory, that the role did not write
    directories   directories that the role made and that are empty without those files
    packages      names of packages that the role installed
    home, record  what is to be removed of the role's own directory, and its record, which goes last
    home_directories, state_directories    directories to remove when they are empty
    program       the program for boots and metrics

Invariant: what neither the record nor a mark in it says to be the role's is never listed as to be removed.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

MARK = "Installed by the role flyd.lite.prepare"
UNITS = (
    "flyd-metrics.timer",
    "flyd-metrics.service",
    "flyd-backup.timer",
    "flyd-backup.service",
    "flyd-grow.service",
    "flyd-restore.service",
)
UNIT_DIRECTORY = "/etc/systemd/system"
PROGRAM = "/usr/local/lib/flyd-host.py"
RULE, MODULES, LVM = "/etc/udev/rules.d/10-flyd.rules", "/etc/modules-load.d/flyd.conf", "/etc/lvm/lvmlocal.conf"
OTHERS = (RULE, "/etc/mdadm/mdadm.conf.d/flyd.conf", "/etc/mdadm.conf.d/flyd.conf", MODULES, PROGRAM)
DIRECTORIES = (
    f"{UNIT_DIRECTORY}/multi-user.target.wants",
    f"{UNIT_DIRECTORY}/timers.target.wants",
    "/etc/mdadm/mdadm.conf.d",
    "/etc/mdadm.conf.d",
)
HOME, DEFAULT_STATE = "/opt/flyd", "/var/lib/flyd"
BLOCK = re.compile(r"^# BEGIN flyd\.lite\n.*?^# END flyd\.lite(\n|\Z)", re.MULTILINE | re.DOTALL)


def text_of(path: str) -> str:
    """Return what a file holds; "" for one that cannot be read as text."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError):
        return ""


class Place:
    """The host below ``root``, with what the role prepare recorded of it."""

    def __init__(self, root: str) -> None:
        self.root = root.rstrip("/")
        self.record: dict[str, Any] = {"paths": {}, "packages": [], "state_dir": DEFAULT_STATE}
        with contextlib.suppress(ValueError):
            self.record.update(json.loads(text_of(self.path(HOME, "before.json")) or "{}"))

    def path(self, *parts: str) -> str:
        """Return where a path of the host lies."""
        return self.root + os.path.join(*parts)

    def was(self, path: str) -> dict[str, Any]:
        """Return what the record has of a path; its ``kind`` is ``unknown`` where it has nothing."""
        found: dict[str, Any] = self.record["paths"].get(path, {"kind": "unknown"})
        return found

    def is_packaged(self, path: str) -> bool:
        """Whether a package of the distribution has that path."""
        try:
            done = subprocess.run(  # noqa: S603
                ["dpkg-query", "--search", path],  # noqa: S607
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=False,
            )
        except FileNotFoundError:
            return False
        return done.returncode == 0

    def held(self, state_dir: str) -> Iterator[str]:
        """Say what keeps the host from being left."""
        for directory in sorted(glob.glob(self.path("/sys/block/dm-*/dm"))):
            if text_of(f"{directory}/uuid").startswith("FLYD-"):
                yield f"the device /dev/mapper/{text_of(f'{directory}/name').strip()}"
        for path in sorted(glob.glob(self.path("/sys/block/loop*/loop/backing_file"))):
            if text_of(path).startswith(f"{state_dir}/pools/"):
                yield f"the loop device /dev/{path.split('/')[-3]} over {text_of(path).strip()}"
        own = tuple(f"{self.path(HOME)}/{name}".encode() for name in ("venv/", "venv-"))
        for path in glob.glob(self.path("/proc/[0-9]*/cmdline")):
            with contextlib.suppress(OSError), open(path, "rb") as file:
                if file.read(4096).startswith(own):
                    yield f"process {path.split('/')[-2]}, which runs in the environment {HOME}/venv"

    def units(self) -> list[str]:
        """Return links and files of units, the links first."""
        found = [path for unit in UNITS for path in sorted(glob.glob(self.path(UNIT_DIRECTORY, "*.wants", unit)))]
        found = [path for path in found if os.path.islink(path)]
        files = [self.path(UNIT_DIRECTORY, unit) for unit in UNITS]
        return found + [path for path in files if MARK in text_of(path)]

    def files(self) -> tuple[list[str], list[dict[str, Any]], list[str]]:
        """Return which other files are to be removed, set back, and kept."""
        remove, restore, kept = [], [], []
        for path in OTHERS:
            now, was = text_of(self.path(path)), self.was(path)
            is_own = MARK in now[:200] or (path == MODULES and now == "dm_thin_pool\n")
            if was["kind"] == "file":
                if is_own and now != was["content"]:
                    restore.append(
                        {"path": self.path(path), **{name: was[name] for name in ("content", "mode", "uid", "gid")}}
                    )
            elif is_own:
                remove.append(self.path(path))
            elif os.path.lexists(self.path(path)):
                kept.append(self.path(path))
        self._lvm(remove, restore)
        return remove, restore, kept

    def _lvm(self, remove: list[str], restore: list[dict[str, Any]]) -> None:
        """The block of lvmlocal.conf goes, and what is around it stays; when that is what there was, its mode comes back too."""
        now, was, path = text_of(self.path(LVM)), self.was(LVM), self.path(LVM)
        left = BLOCK.sub("", now)
        if left == now:
            return
        if not left and was["kind"] in ("absent", "unknown") and not self.is_packaged(LVM):
            remove.append(path)
            return
        found = os.stat(path)
        owned = {"mode": f"{stat.S_IMODE(found.st_mode):04o}", "uid": found.st_uid, "gid": found.st_gid}
        if was["kind"] == "file" and left in (was["content"], was["content"] + "\n"):
            left, owned = was["content"], {name: was[name] for name in owned}
        restore.append({"path": path, "content": left, **owned})

    def directories(self, gone: list[str]) -> list[str]:
        """Return directories that the role made and that hold nothing but ``gone``."""
        return [
            self.path(path)
            for path in DIRECTORIES
            if self.was(path)["kind"] == "absent"
            and os.path.isdir(self.path(path))
            and {self.path(path, name) for name in os.listdir(self.path(path))} <= set(gone)
            and not self.is_packaged(path)
        ]

    def needs_reload(self) -> bool:
        """Whether systemd has units in memory whose files are gone or have changed."""
        argv = ["systemctl", "show", "--property=NeedDaemonReload", "--value", *UNITS]
        with contextlib.suppress(FileNotFoundError):
            done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)  # noqa: S603
            return "yes" in done.stdout.split()
        return False

    def home(self) -> tuple[list[str], list[str]]:
        """Return what is the role's in its directory, but for the record, and what is not."""
        own, others = [], []
        with contextlib.suppress(FileNotFoundError):
            for name in sorted(os.listdir(self.path(HOME))):
                is_own = name in ("venv", "engine", "engine.new") or name.startswith(
                    ("venv-", "incoming-", "packages-before.json", "before.json.")
                )
                if name != "before.json":
                    (own if is_own else others).append(self.path(HOME, name))
        return own, others


def numbers(place: Place) -> list[str]:
    """Return the files that the unit writes, as paths on the host."""
    unit = text_of(place.path(UNIT_DIRECTORY, "flyd-metrics.service"))
    return re.findall(r"^ExecStart=.* metrics \S+ (/\S+)$", unit, re.MULTILINE) if MARK in unit else []


def empty_directories(place: Place, state_dir: str) -> list[str]:
    """Return the state directory and those above it, the deepest first, that prepare did not find there."""
    found, path = [], state_dir
    while place.was(path)["kind"] == "absent":
        found.append(place.path(path))
        path = os.path.dirname(path)
    return found or ([place.path(state_dir)] if place.was(state_dir)["kind"] == "unknown" else [])


def home_directories(place: Place) -> list[str]:
    """Return the role's own directory, and the one above it, unless they were there before."""
    above = os.path.dirname(HOME)
    found = [place.path(HOME)] if place.was(HOME)["kind"] in ("absent", "unknown") else []
    return found + ([place.path(above)] if place.was(above)["kind"] == "absent" else [])


def main() -> None:
    """Entry point."""
    root, state_dir = sys.argv[1:]
    place = Place(root)
    state_dir = os.path.normpath(state_dir or place.record["state_dir"])
    units, (remove, restore, kept), (home, others) = place.units(), place.files(), place.home()
    program = place.path(PROGRAM)
    found = {
        "state_dir": place.path(state_dir),
        "state_directories": empty_directories(place, state_dir),
        "held": list(place.held(state_dir)),
        "stop": [unit for unit in UNITS if any(os.path.basename(path) == unit for path in units)],
        "program": program,
        "numbers": numbers(place) if program in remove else [],
        "units": units,
        "reload": place.needs_reload(),
        "remove": remove,
        "restore": restore,
        "kept": kept + others,
        "directories": place.directories([*units, *remove]),
        "packages": place.record["packages"],
        "home": home,
        "record": [path for path in [place.path(HOME, "before.json")] if os.path.exists(path)],
        "home_directories": home_directories(place),
    }
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()

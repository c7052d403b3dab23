# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host below a directory, as the role prepare makes it: recorded by the role's own program, then changed as its tasks do."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
PREPARE, UNPREPARE = ROOT / "roles/prepare", ROOT / "roles/unprepare"
MARK = "# Installed by the role flyd.lite.prepare.\n"
BLOCK = "# BEGIN flyd.lite\nthe filter\n# END flyd.lite\n"
SYSTEMD = "etc/systemd/system"
RECORDED = (
    "/usr/local/lib/flyd-host.py",
    "/etc/udev/rules.d/10-flyd.rules",
    "/etc/modules-load.d/flyd.conf",
    "/etc/lvm/lvmlocal.conf",
    "/etc/mdadm/mdadm.conf.d",
    "/etc/mdadm/mdadm.conf.d/flyd.conf",
    f"/{SYSTEMD}/multi-user.target.wants",
    f"/{SYSTEMD}/timers.target.wants",
    f"/{SYSTEMD}/flyd-restore.service",
    f"/{SYSTEMD}/flyd-grow.service",
)
# Stand for systemctl and dpkg-query: the first notes what it was asked, the second knows no file of any package.
PROGRAMS = {
    "systemctl": '#!/bin/sh\necho "$@" >> "$CALLS"\ncase "$*" in *NeedDaemonReload*) ;; *show*) echo LoadState=loaded; echo ActiveState=active;; esac\n',
    "dpkg-query": "#!/bin/sh\nexit 1\n",
}


class Host:
    """The host below ``root``."""

    def __init__(self, directory: Path) -> None:
        self.root, self.programs, self.calls = directory / "root", directory / "programs", directory / "calls"
        for name in (
            "opt",
            "usr/local/lib",
            "etc/udev/rules.d",
            "etc/modules-load.d",
            "etc/lvm",
            "etc/mdadm",
            SYSTEMD,
            "var/lib",
        ):
            self.path(name).mkdir(parents=True)
        self.programs.mkdir()
        for name, text in PROGRAMS.items():
            (self.programs / name).write_text(text)
            (self.programs / name).chmod(0o755)

    def path(self, name: str) -> Path:
        return self.root / name.lstrip("/")

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PATH": f"{self.programs}:{os.environ['PATH']}", "CALLS": str(self.calls)}

    def files(self) -> dict[str, tuple[int, str]]:
        """Return each path with its mode and a hash of what it holds, or where it leads to."""
        found = {}
        for path in sorted(self.root.rglob("*")):
            text = os.readlink(path) if path.is_symlink() else ""
            text = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() and not text else text
            found[str(path.relative_to(self.root))] = (path.lstat().st_mode, text)
        return found

    def record(self, state_dir: str = "/var/lib/flyd", *, own_paths: bool = True) -> None:
        """As the first tasks of prepare do. With ``own_paths``, the record has paths of the host, which do not name its ``root``."""
        home, given = self.path("opt/flyd"), {"state_dir": str(self.path(state_dir)), "packages": []}
        given["paths"] = [str(self.path(path)) for path in RECORDED]
        subprocess.run(
            [sys.executable, PREPARE / "files/record.py", home, "paths"],
            input=json.dumps(given),
            text=True,
            check=True,
            stdout=subprocess.DEVNULL,
            env=self.environment,
        )
        record = home / "before.json"
        if own_paths:
            record.write_text(record.read_text().replace(f'"{self.root}/', '"/'))

    def prepare(self) -> None:
        """As the tasks of prepare do that change the host."""
        self.record()
        environment = self.path("opt/flyd/venv-1")
        (environment / "bin").mkdir(parents=True)
        self.path("opt/flyd/venv").symlink_to("venv-1")
        self.path("opt/flyd/engine").write_bytes(b"code")
        self.path("etc/udev/rules.d/10-flyd.rules").write_text(MARK)
        self.path("etc/modules-load.d/flyd.conf").write_text("dm_thin_pool\n")
        lvm = self.path("etc/lvm/lvmlocal.conf")
        text = lvm.read_text() if lvm.exists() else ""
        lvm.write_text(text + ("\n" if text and not text.endswith("\n") else "") + BLOCK)
        lvm.chmod(0o644)
        self.path("etc/mdadm/mdadm.conf.d").mkdir(exist_ok=True)
        self.path("etc/mdadm/mdadm.conf.d/flyd.conf").write_text(MARK)
        with self.path("usr/local/lib/flyd-host.py").open("wb") as program:
            subprocess.run(
                [sys.executable, PREPARE / "files/pack.py", ROOT / "plugins/module_utils"], stdout=program, check=True
            )
        self.path("numbers").mkdir(exist_ok=True)
        self.path("numbers/flyd.prom").write_text("1\n")
        numbers = self.path("numbers/flyd.prom")
        for unit, target in (
            ("flyd-restore.service", "multi-user"),
            ("flyd-grow.service", "multi-user"),
            ("flyd-backup.timer", "timers"),
            ("flyd-backup.service", ""),
            ("flyd-metrics.timer", "timers"),
            ("flyd-metrics.service", ""),
        ):
            self.path(f"{SYSTEMD}/{unit}").write_text(
                f"{MARK}ExecStart=python program metrics /var/lib/flyd {numbers}\n"
            )
            if target:
                wants = self.path(f"{SYSTEMD}/{target}.target.wants")
                wants.mkdir(exist_ok=True)
                (wants / unit).symlink_to(f"/{SYSTEMD}/{unit}")

    def use(self) -> None:
        """As the modules leave the state directory after a teardown."""
        state = self.path("var/lib/flyd")
        state.mkdir(mode=0o700)
        subprocess.run([sys.executable, "-c", MAKE_STORE, ROOT / "plugins", state / "flyd.db"], check=True)
        (state / "flyd.db.schema-1").touch()
        for name in ("archives", "spool", "mnt", "pools", "log"):
            (state / name).mkdir()
        (state / "archives" / ("a" * 64)).write_text("an archive")
        (state / "log/flyd.jsonl").write_text("{}\n")
        (state / "log/counters.json").write_text("{}\n")

    def look(self, state_dir: str = "") -> dict[str, Any]:
        """What the role's program finds."""
        argv = [sys.executable, str(UNPREPARE / "files/look.py"), str(self.root), state_dir]
        done = subprocess.run(argv, env=self.environment, capture_output=True, text=True, check=True)
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def state(self, verb: str) -> dict[str, Any]:
        """What the role's program for the state directory prints."""
        argv = [sys.executable, str(UNPREPARE / "files/state.py"), verb, str(self.path("var/lib/flyd"))]
        done = subprocess.run(argv, capture_output=True, text=True, check=True)
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def relative(self, paths: list[str]) -> list[str]:
        return [str(Path(path).relative_to(self.root)) for path in paths]

    def remove(self) -> None:
        shutil.rmtree(self.root)


MAKE_STORE = """
import sys
sys.path.insert(0, sys.argv[1])
from module_utils._lifecycle.store.store import open_store
open_store(sys.argv[2], writable=True, busy_seconds=1.0)
"""

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine of the lab that runs the collection's modules without a controller.

Invariant: what runs there is this checkout: modules, module_utils and the tools are copied as they are, beside the parts of ansible-core
and the packages that they import.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ansible

from tests.e2e.machine import LAB, ROOT

HOME = "/opt/flyd-drive"
STATE_DIR = "/var/lib/flyd"
COLLECTION = "ansible_collections/flyd/lite/plugins"
RESTORE = f"PYTHONPATH={HOME}/site/{COLLECTION}:{HOME}/site python3 {HOME}/tools/on_host.py restore {STATE_DIR} 2>&1"
"""What the unit flyd-restore.service does when a machine has started."""
_RULE = "10-flyd.rules"
_STEP_SECONDS = 900
_SERVER_PORT = 7070
_SERVER = f"/dev/tcp/127.0.0.1/{_SERVER_PORT}"  # bash's own name for a connection
_CONNECT = f"(: <>{_SERVER}) 2>/dev/null"


@dataclass(frozen=True)
class Step:
    """One run of a module; ``crash_at`` names the crash point at which it is killed, ``inject`` has arguments for a strace of it."""

    module: str
    options: dict[str, Any]
    check: bool = False
    crash_at: str = ""
    inject: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As tools/drive.py reads it."""
        given = {"module": self.module, "options": self.options, "check": self.check}
        return {**given, "crash_at": self.crash_at, "inject": list(self.inject)}


@dataclass(frozen=True)
class Shell:
    """A shell command between runs of modules."""

    command: str

    def to_json(self) -> dict[str, Any]:
        """As tools/drive.py reads it."""
        return {"shell": self.command}


@dataclass(frozen=True)
class AtOnce:
    """Lists of steps that run side by side."""

    lists: tuple[tuple[Step | Shell, ...], ...]

    def to_json(self) -> dict[str, Any]:
        """As tools/drive.py reads it."""
        return {"at_once": [[step.to_json() for step in steps] for steps in self.lists]}


@dataclass(frozen=True)
class Target:
    """The VM ``name``, which the lab has running."""

    name: str

    def install(self) -> None:
        """Bring the modules and what they import into the machine, and the rule for udev that the role prepare installs."""
        self.ssh(f"rm -rf {HOME} && mkdir -p {HOME} && tar -C {HOME} -x", stdin=_payload())
        self.ssh(f"cp {HOME}/tools/{_RULE} /etc/udev/rules.d/ && {{ udevadm control --reload || true; }}")

    def ssh(self, command: str, *, stdin: bytes = b"", check: bool = True) -> str:
        """The output of a shell command in the machine; raises ``AssertionError`` when it fails, unless told not to."""
        argv = [*LAB, "ssh", self.name, "--", command]
        done = subprocess.run(argv, input=stdin, capture_output=True, timeout=_STEP_SECONDS, check=False)
        said = done.stdout.decode("utf-8", "replace")
        assert done.returncode == 0 or not check, f"{command}: {done.stderr.decode('utf-8', 'replace')}{said}"
        return said

    def drive(self, steps: Sequence[Step | Shell | AtOnce], *, go_on: bool = False) -> list[dict[str, Any]]:
        """What the modules of ``steps`` printed, as far as they ran."""
        text = self.ssh(
            self.command(go_on=go_on), stdin=json.dumps([step.to_json() for step in steps]).encode(), check=False
        )
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    def serve(self) -> None:
        """Have tools/drive.py in the machine, with everything imported, answer the one that connects: what sessions find there."""
        self.ssh(
            f"setsid {self.command()} --listen {_SERVER_PORT} < /dev/null > /root/serve.log 2>&1 & "
            f"for i in $(seq 600); do {_CONNECT} && exit 0; sleep 0.1; done; cat /root/serve.log >&2; exit 1"
        )

    @classmethod
    def session_command(cls) -> str:
        """The shell command of a session: through to the server, where there is one, else a start of tools/drive.py."""
        through = f"exec 3<>{_SERVER}; cat <&3 & exec cat >&3"
        return f"if {_CONNECT}; then {through}; else exec {cls.command()} --serve; fi"

    @staticmethod
    def command(*, go_on: bool = False) -> str:
        """The shell command that reads steps from its standard input."""
        return f"python3 {HOME}/tools/drive.py --path {HOME}/site {'--all' if go_on else ''}".strip()

    def violations(self, *arguments: str) -> list[str]:
        """What the checker of the invariants finds; see tools/invariants.py for its arguments."""
        report: dict[str, list[str]] = self.invariants(*arguments)
        return report["violations"]

    def invariants(self, *arguments: str) -> dict[str, Any]:
        """The whole report of the checker."""
        return self.report_of(self.ssh(self.checker(*arguments), check=False))

    @staticmethod
    def checker(*arguments: str) -> str:
        """The shell command that checks the invariants."""
        return f"python3 {HOME}/tools/invariants.py {STATE_DIR} {' '.join(arguments)} 2>&1"

    @staticmethod
    def report_of(said: str) -> dict[str, Any]:
        """What the checker has printed."""
        last = said.strip().rpartition("\n")
        assert last[2].startswith("{"), f"the checker failed: {''.join(last)}"
        report: dict[str, Any] = json.loads(last[2])
        return report


def _payload() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, arcname in _files():
            tar.add(path, arcname, recursive=False)
        for name in ("ansible_collections", "ansible_collections/flyd", "ansible_collections/flyd/lite"):
            _add(tar, f"site/{name}/__init__.py", b"")
        _add(tar, f"site/{COLLECTION}/__init__.py", b"")
        _add(tar, f"site/{COLLECTION}/modules/__init__.py", b"")
        _add(tar, "site/ansible/__init__.py", b"")
        for name, content in _wheel_files():
            _add(tar, f"site/{name}", content)
    return buffer.getvalue()


def _files() -> Iterator[tuple[Path, str]]:
    for tool in sorted((ROOT / "tests/tools").glob("*.py")):
        yield tool, f"tools/{tool.name}"
    yield ROOT / "tests/campaigns/harness/quick_init.sh", "campaigns/quick_init.sh"
    yield ROOT / "roles/prepare/files/on_host.py", "tools/on_host.py"
    yield ROOT / "roles/prepare/files" / _RULE, f"tools/{_RULE}"
    for part in ("modules", "module_utils"):
        for path in sorted((ROOT / "plugins" / part).rglob("*.py")):
            yield path, f"site/{COLLECTION}/{path.relative_to(ROOT / 'plugins')}"
    core = Path(ansible.__file__).parent
    yield core / "release.py", "site/ansible/release.py"
    for path in sorted((core / "module_utils").rglob("*.py")):
        yield path, f"site/ansible/{path.relative_to(core)}"


def _wheel_files() -> Iterator[tuple[str, bytes]]:
    """What the wheels for targets hold; none has scripts that matter, so to unpack them is to install them."""
    directory = ROOT / "build/wheels"
    subprocess.run([ROOT / "tools/lab/wheels.sh", Path(sys.executable).parents[1], directory], check=True)
    for wheel in sorted(directory.glob("*.whl")):
        if not wheel.name.startswith("pip-"):
            with zipfile.ZipFile(wheel) as archive:
                for name in filter(_is_needed, archive.namelist()):
                    yield name, archive.read(name)


def _is_needed(name: str) -> bool:
    """Whether S3 needs this file: botocore describes four hundred services more, which take long to copy."""
    services = name.startswith("botocore/data/") and name.count("/") > 2
    return not name.endswith("/") and (not services or name.startswith("botocore/data/s3/"))


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    member.mode = 0o644
    tar.addfile(member, io.BytesIO(content))

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host with an engine and a small package that is shipped to it, and an engine of which one code shows where it came from."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from module_utils import _engine
from module_utils._host import compiling

PACKAGE = "ansible_collections.flyd.lite.plugins.module_utils"
ENGINE = Path(_engine.__file__)
PACKAGE_FILES = ENGINE.parent
SOURCES = {
    "_plain.py": "from ._inner.deep import deep\ndef where(): return deep\n",
    "_inner/__init__.py": "def where(): pass\n",
    "_inner/deep.py": "from .. import _late\ndef deep(): pass\nwhere = deep\n",
    "_late.py": "def where(): raise ValueError('late')  # a line to show\n",
}
PROGRAM = """
import importlib, json, sys, traceback
sys.path.insert(0, sys.argv[1])
importlib.import_module("PACKAGE._engine")
found = {}
for name in sys.argv[2:]:
    try:
        module = importlib.import_module(f"PACKAGE.{name}")
        found[name] = [module.where.__code__.co_filename, module.__file__, list(getattr(module, "__path__", []))]
    except ModuleNotFoundError as error:
        found[name] = [str(error)]
lines = []
try:
    sys.modules["PACKAGE._late"].where()
except ValueError:
    lines = traceback.format_exc().splitlines()
print(json.dumps([found, lines]))
""".replace("PACKAGE", PACKAGE)

ROOT_ALONE = "/var/lib"
CAN_TRY = os.geteuid() == 0 and _engine.unsafe_parent(f"{ROOT_ALONE}/x") is None
WHY_NOT = "the engine is root's, in a directory of root's"


class Host:
    """A host's directory for the engine, and what is shipped to it."""

    def __init__(self, home: Path) -> None:
        self.home, self.path, self.archive = home, home / "flyd/engine", home / "shipped.zip"
        self.path.parent.mkdir(mode=0o755)
        self.shipped = dict(SOURCES)

    def install(self, sources: dict[str, str] = SOURCES) -> bool:
        return compiling.install(str(self.path), sources)

    def ship(self) -> None:
        """As Ansible does: packages above the collection's own have an empty file, and their content is compressed."""
        above = PACKAGE.split(".")
        inits = {"/".join([*above[: number + 1], "__init__.py"]): "" for number in range(len(above))}
        gate = ENGINE.read_text().replace(f'"{_engine.PATH}"', repr(str(self.path)))
        with zipfile.ZipFile(self.archive, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in {
                **inits,
                **{f"{'/'.join(above)}/{name}": text for name, text in self.shipped.items()},
            }.items():
                archive.writestr(name, text)
            archive.writestr(f"{'/'.join(above)}/_engine.py", gate)

    def run(self, *names: str) -> tuple[dict[str, list[str]], list[str]]:
        self.ship()
        argv = [
            sys.executable,
            "-I",
            "-c",
            PROGRAM,
            str(self.archive),
            *(names or ("_plain", "_inner", "_inner.deep", "_late")),
        ]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        found, lines = json.loads(done.stdout)
        return found, lines

    def from_engine(self) -> list[str]:
        """The modules that were; the others were shipped."""
        found, _ = self.run()
        for name, [code, *_rest] in found.items():
            assert code.startswith((_engine.PATH, f"{self.archive}/")), (name, code)
        return [name for name, [code, *_rest] in found.items() if code.startswith(_engine.PATH)]


@contextlib.contextmanager
def make_host() -> Iterator[Host]:
    """A host in a directory that only root can write to, which no directory for temporary files is."""
    with tempfile.TemporaryDirectory(prefix="flyd-test-", dir=ROOT_ALONE) as directory:
        os.chmod(directory, 0o755)
        yield Host(Path(directory))


def with_other_code(sources: Mapping[str, bytes], path: str, other: bytes) -> bytes:
    """What the engine of ``sources`` holds, but for the code of ``path``, which is that of ``other``."""
    assert other != sources[path]
    data = compiling.packed({**sources, path: other})[_engine.CRC_DIGITS :]
    head, _, codes = data.partition(b"\n")
    said = json.loads(head)
    said["files"][path][:2] = [zlib.crc32(sources[path]), len(sources[path])]
    data = json.dumps(said).encode() + b"\n" + codes
    return b"%08x" % zlib.crc32(data) + data

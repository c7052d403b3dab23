# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Print on_host.py with the collection's module_utils as one file that Python can run: pack.py MODULE_UTILS

It is text, so that a task of Ansible can hand it to a host without a file on the controller.

Invariant: the same sources make the same text, so that a host which has it is left alone.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

HEAD = """\
# Installed by the role flyd.lite.prepare: what this host does without a controller, with the collection's code, in one file.
# Schema of the database: @SCHEMA@
from __future__ import annotations

import importlib.abc
import importlib.util
import sys
import zlib

SOURCES = {
"""
SCHEMA = "_lifecycle/store/schema.py"
IMPORTER = '''\
}
MAIN = SOURCES.pop("")


class Sources(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Imports the package module_utils from SOURCES, by path of the file; compiled already where the engine has the same source."""

    engine = None

    def path(self, name):
        inside = name.split(".")[1:]
        package = "/".join([*inside, "__init__.py"])
        return package if package in SOURCES else "/".join(inside) + ".py"

    def find_spec(self, name, path, target=None):
        is_ours = name.split(".")[0] == "module_utils" and self.path(name) in SOURCES
        return importlib.util.spec_from_loader(name, self) if is_ours else None

    def is_package(self, name):
        return self.path(name).endswith("__init__.py")

    def get_source(self, name):
        return SOURCES[self.path(name)]

    def get_code(self, name):
        source, code = self.get_source(name).encode(), None
        if self.engine is not None:
            code = self.engine.code(self.path(name), [zlib.crc32(source), len(source)])
        return code or compile(source, f"{__file__}/{name}", "exec", dont_inherit=True)


sys.meta_path.insert(0, Sources())
from module_utils import _engine

sys.meta_path[0].engine = _engine.open_engine()
exec(compile(MAIN, f"{__file__}/__main__", "exec", dont_inherit=True))
'''


def sources(module_utils: Path) -> Iterator[tuple[str, str]]:
    """Path in the package, and source, of each file; the main program's path is empty."""
    yield "", (Path(__file__).parent / "on_host.py").read_text(encoding="utf-8")
    yield "__init__.py", ""
    for path in sorted(module_utils.rglob("*.py")):
        yield str(path.relative_to(module_utils)), path.read_bytes().decode()


def schema_version(module_utils: Path) -> int:
    """The version of the database that these sources make; modules warn where the installed program knows an older one only."""
    return int(runpy.run_path(str(module_utils / SCHEMA))["VERSION"])


def main() -> None:
    """Entry point."""
    head = HEAD.replace("@SCHEMA@", str(schema_version(Path(sys.argv[1]))))
    lines = [f"    {name!r}: {text!a},\n" for name, text in sources(Path(sys.argv[1]))]
    sys.stdout.write(head + "".join(lines) + IMPORTER)


if __name__ == "__main__":
    main()

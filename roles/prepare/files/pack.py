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

NEEDED = ("_lifecycle", "_thin", "_host")
HEAD = """\
# Installed by the role flyd.lite.prepare: what this host does without a controller, with the collection's code, in one file.
# Schema of the database: @SCHEMA@
from __future__ import annotations

import importlib.abc
import importlib.util
import sys

SOURCES = {
"""
SCHEMA = "_lifecycle/store/schema.py"
IMPORTER = '''\
}


class Sources(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Imports from SOURCES, by name of the module."""

    def find_spec(self, name, path, target=None):
        return importlib.util.spec_from_loader(name, self) if name in SOURCES else None

    def is_package(self, name):
        return any(other.startswith(name + ".") for other in SOURCES)

    def get_source(self, name):
        return SOURCES[name]

    def get_code(self, name):
        return compile(SOURCES[name], f"{__file__}/{name}", "exec", dont_inherit=True)


sys.meta_path.insert(0, Sources())
exec(compile(SOURCES["__main__"], f"{__file__}/__main__", "exec", dont_inherit=True))
'''


def sources(module_utils: Path) -> Iterator[tuple[str, str]]:
    """Name and source of each module."""
    yield "__main__", (Path(__file__).parent / "on_host.py").read_text(encoding="utf-8")
    yield "module_utils", ""
    for path in [
        *sorted(module_utils.glob("*.py")),
        *(path for name in NEEDED for path in sorted((module_utils / name).rglob("*.py"))),
    ]:
        parts = ("module_utils", *path.relative_to(module_utils).with_suffix("").parts)
        text = path.read_text(encoding="utf-8")
        if parts[-1] != "__init__":
            yield ".".join(parts), text
        elif len(parts) > 2:
            yield ".".join(parts[:-1]), text


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

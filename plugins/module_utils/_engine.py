# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Import what the role prepare has compiled on this host, where that is the code that was shipped. Each module imports this file first.

Invariant: what runs is what the controller shipped. A file is taken from the engine if the CRC-32 and the size of the source that it was
compiled from are those in the directory of the shipped archive, and if only root can have written the engine. Everything else, such as
all files on a host without an engine, is imported from the archive.
"""

from __future__ import annotations

import importlib.util
import json
import marshal
import os
import stat
import sys
import zlib
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType
from typing import Any

PATH = "/opt/flyd/engine"
CRC_DIGITS = 8


class Engine:
    """Compiled files by their paths in the package; none if ``data`` is damaged or for another Python.

    ``data`` is a CRC-32 of the rest (hexadecimal), a line of JSON, and marshalled code; ``_host/compiling.py`` makes it.
    """

    def __init__(self, data: bytes) -> None:
        self.files: dict[str, list[int]] = {}  # CRC-32 and size of the source, begin and end of the code
        rest = memoryview(data)[CRC_DIGITS:]
        if data[:CRC_DIGITS] == b"%08x" % zlib.crc32(rest):
            end = data.index(b"\n")
            head = json.loads(data[CRC_DIGITS:end])
            if head["magic"] == importlib.util.MAGIC_NUMBER.hex():
                self.files, self._code = head["files"], memoryview(data)[end + 1 :]

    def code(self, path: str, source: list[int]) -> CodeType | None:
        """The code of ``path`` if it was compiled from a source of this CRC-32 and size."""
        *known, begin, end = self.files.get(path, [0, 0])
        if known != source or not known:
            return None
        found: CodeType = marshal.loads(self._code[begin:end])  # noqa: S302 - root wrote it, and it is whole
        return found


def open_engine(path: str = PATH) -> Engine:
    """The engine in the file ``path``; an empty one if it cannot be read, or if another user than root can have written it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            if is_of_root(os.fstat(fd)) and unsafe_parent(path) is None:
                return Engine(file.read())
    except OSError:
        pass
    return Engine(b"")


def unsafe_parent(path: str) -> str | None:
    """The nearest directory above ``path`` that is a link, or that another user than root can write to."""
    while path != "/":
        path = os.path.dirname(path)
        if not is_of_root(os.lstat(path)):  # never a link: all can write to it, by its mode
            return path
    return None


def is_of_root(found: os.stat_result) -> bool:
    """Whether only root can write. The bits of the group bound what an access control list grants, too."""
    return found.st_uid == 0 and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


class Finder:
    """A finder and loader of importlib for the files of ``package`` in the archive of ``shipped`` that ``engine`` has, too."""

    def __init__(self, package: str, shipped: Any, rows: dict[str, Any], engine: Engine) -> None:
        self._prefix, self._home = f"{package}.", package.replace(".", "/")
        self._shipped, self._rows, self._engine = shipped, rows, engine
        self._codes: dict[str, CodeType] = {}

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """None leaves a module to the finders of the archive and of Python."""
        if not name.startswith(self._prefix):
            return None
        inside = name[len(self._prefix) :].replace(".", "/")
        is_package = f"{self._home}/{inside}/__init__.py" in self._rows
        file = f"{inside}/__init__.py" if is_package else f"{inside}.py"
        row = self._rows.get(f"{self._home}/{file}", ())
        # As zipimport reads a directory: field 7 is the CRC-32, field 3 the size.
        code = self._engine.code(file, [*row[7:], *row[3:4]])
        if code is None:
            return None
        self._codes[name] = code
        where = f"{self._shipped.archive}/{self._home}"
        inner = [f"{where}/{inside}"] if is_package else None
        return importlib.util.spec_from_file_location(
            name,
            f"{where}/{file}",
            loader=self,  # type: ignore[arg-type]
            submodule_search_locations=inner,
        )

    def create_module(self, spec: ModuleSpec) -> None:
        """Have importlib make the module."""

    def exec_module(self, module: ModuleType) -> None:
        """Run the code in the module."""
        exec(self._codes.pop(module.__name__), module.__dict__)  # noqa: S102 - that is what a loader does

    def get_source(self, name: str) -> str:
        """The shipped source, for tracebacks."""
        text: bytes = self._shipped.get_data(sys.modules[name].__file__)
        return text.decode()


def install(package: str) -> None:
    """Put the engine before the archive that ``package`` was shipped in; nothing where it lies as files, as in tests."""
    shipped = getattr(sys.modules.get(package), "__loader__", None)
    directories = getattr(sys.modules.get("zipimport"), "_zip_directory_cache", {})
    rows = directories.get(getattr(shipped, "archive", None))
    engine = open_engine() if rows else None
    if rows and engine and engine.files:
        sys.meta_path.insert(0, Finder(package, shipped, rows, engine))


install(__name__.rpartition(".")[0])  # until Python 3.10, what is imported from an archive has no __package__ yet

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine is taken for what was shipped where it is the same, and for nothing else, whatever lies in its place.

A package is shipped in an archive as Ansible ships one, and run by another Python. The code of the engine is compiled under names of its
own, so each function says where it came from.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from module_utils import _engine
from module_utils._host import compiling
from tests.unit.support.engines import CAN_TRY, ROOT_ALONE, WHY_NOT, with_other_code

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

pytestmark = pytest.mark.skipif(not CAN_TRY, reason=WHY_NOT)


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


ALL = ["_plain", "_inner", "_inner.deep", "_late"]


@pytest.fixture
def host() -> Iterator[Host]:
    with tempfile.TemporaryDirectory(prefix="flyd-test-", dir=ROOT_ALONE) as directory:
        os.chmod(directory, 0o755)
        yield Host(Path(directory))


def test_without_an_engine_the_archive_is_imported(host: Host) -> None:
    assert host.from_engine() == []


def test_the_same_sources_come_from_the_engine_and_look_as_if_they_were_shipped(host: Host) -> None:
    shipped, before = host.run()
    assert host.install() is True
    assert host.from_engine() == ALL
    found, lines = host.run()
    assert {name: one[1:] for name, one in found.items()} == {name: one[1:] for name, one in shipped.items()}
    assert lines[-2:] == before[-2:]
    assert "a line to show" in "".join(lines)


def test_a_source_that_differs_is_taken_from_the_archive_and_the_others_are_not(host: Host) -> None:
    host.install()
    host.shipped["_late.py"] = SOURCES["_late.py"].replace("late", "LATE", 1)
    assert len(host.shipped["_late.py"]) == len(SOURCES["_late.py"])
    assert host.from_engine() == ["_plain", "_inner", "_inner.deep"]


def test_a_source_of_another_size_is_taken_from_the_archive(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zlib.crc32", lambda data, crc32=zlib.crc32: crc32(bytes(data).rstrip(b" ")))
    host.install({**SOURCES, "_late.py": SOURCES["_late.py"] + "  "})
    monkeypatch.undo()
    assert host.from_engine() == ["_plain", "_inner", "_inner.deep"]


def test_a_file_that_the_engine_lacks_is_taken_from_the_archive(host: Host) -> None:
    host.install({name: text for name, text in SOURCES.items() if not name.startswith("_inner/__")})
    assert host.from_engine() == ["_plain", "_inner.deep", "_late"]


def test_a_file_that_was_not_shipped_is_not_imported(host: Host) -> None:
    host.install({**SOURCES, "_more.py": "def where(): pass\n", "_late/__init__.py": "def where(): pass\n"})
    found, _ = host.run("_more", "_late")
    assert found["_more"] == [f"No module named '{PACKAGE}._more'"]
    assert found["_late"][0] == f"{_engine.PATH}/_late.py"


def linked(host: Host) -> None:
    host.path.rename(host.home / "elsewhere")
    host.path.symlink_to(host.home / "elsewhere")


def in_a_linked_directory(host: Host) -> None:
    host.path.parent.rename(host.home / "elsewhere")
    host.path.parent.symlink_to(host.home / "elsewhere")


def fifo(host: Host) -> None:
    host.path.unlink()
    os.mkfifo(host.path)


def directory(host: Host) -> None:
    host.path.unlink()
    host.path.mkdir()


def acl(host: Host) -> None:
    """The xattr of setfacl -m u:nobody:rw, as the kernel stores it."""
    entries = [
        (0x01, 6, 0xFFFFFFFF),
        (0x02, 6, 65534),
        (0x04, 4, 0xFFFFFFFF),
        (0x10, 6, 0xFFFFFFFF),
        (0x20, 4, 0xFFFFFFFF),
    ]
    packed = b"".join(
        tag.to_bytes(2, "little") + mode.to_bytes(2, "little") + who.to_bytes(4, "little") for tag, mode, who in entries
    )
    try:
        os.setxattr(host.path, "system.posix_acl_access", (2).to_bytes(4, "little") + packed)
    except OSError:
        pytest.skip("the file system has no access control lists")


UNTRUSTED: dict[str, Callable[[Host], object]] = {
    "of another user": lambda host: os.chown(host.path, 1000, 0),
    "the group can write": lambda host: host.path.chmod(0o664),
    "all can write": lambda host: host.path.chmod(0o646),
    "another user can write": acl,
    "a link": linked,
    "a FIFO": fifo,
    "a directory": directory,
    "the directory is of another user": lambda host: os.chown(host.path.parent, 1000, 0),
    "the group can write to the directory": lambda host: host.path.parent.chmod(0o775),
    "all can write to the directory, and remove what is theirs": lambda host: host.path.parent.chmod(0o1777),
    "all can write to the directory above": lambda host: host.home.chmod(0o757),
    "the directory is a link": in_a_linked_directory,
}


@pytest.mark.parametrize("way", UNTRUSTED)
def test_what_another_user_could_have_written_is_not_run(host: Host, way: str) -> None:
    host.install()
    UNTRUSTED[way](host)
    assert host.from_engine() == []


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]


DAMAGED: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "a few bytes": lambda data: data[:5],
    "without its end": lambda data: data[:-100],
    "zeros in the code": lambda data: data[:-200] + bytes(200),
    "all zeros": lambda data: bytes(len(data)),
    "longer": lambda data: data + b"\n",
    "a bit in the sum": lambda data: flipped(data, 3),
    "a bit in the head": lambda data: flipped(data, 40),
    "a bit in the code": lambda data: flipped(data, len(data) - 300),
}


@pytest.mark.parametrize("how", DAMAGED)
def test_a_damaged_engine_is_not_run_and_breaks_nothing(host: Host, how: str) -> None:
    host.install()
    host.path.write_bytes(DAMAGED[how](host.path.read_bytes()))
    assert host.from_engine() == []
    assert host.install() is True, "prepare makes it again"
    assert host.from_engine() == ALL


def test_the_engine_of_another_python_is_not_run(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.MAGIC_NUMBER", b"\x00\x01\r\n")
    host.install()
    monkeypatch.undo()
    assert host.from_engine() == []
    assert host.install() is True
    assert host.from_engine() == ALL


class TestInstall:
    """What the role prepare runs."""

    def test_a_second_time_changes_nothing(self, host: Host) -> None:
        assert host.install() is True
        before = host.path.stat()
        assert host.install() is False
        after = host.path.stat()
        assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)

    @pytest.mark.parametrize(
        "sources", [{**SOURCES, "_more.py": ""}, {"_late.py": SOURCES["_late.py"]}, {**SOURCES, "_late.py": "pass"}]
    )
    def test_other_sources_replace_it(self, host: Host, sources: dict[str, str]) -> None:
        host.install()
        assert host.install(sources) is True
        assert set(_engine.open_engine(str(host.path)).files) == set(sources)

    def test_it_is_roots_whatever_the_umask_is_and_what_a_killed_run_has_left_is_gone(self, host: Host) -> None:
        (host.home / "target").write_text("")
        host.path.with_name("engine.new").symlink_to(host.home / "target")
        before = os.umask(0o077)
        try:
            host.install()
        finally:
            os.umask(before)
        found = host.path.lstat()
        assert (found.st_uid, oct(found.st_mode)) == (0, oct(stat.S_IFREG | 0o644))
        assert (host.home / "target").read_text() == ""
        assert [path.name for path in host.path.parent.iterdir()] == ["engine"]

    def test_it_is_on_disk_before_it_has_its_name(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        calls: list[str] = []
        real = {name: getattr(os, name) for name in ("fsync", "rename")}

        def fsync(fd: int) -> None:
            path = os.readlink(f"/proc/self/fd/{fd}")
            calls.append(
                f"fsync {os.path.basename(path)} {os.fstat(fd).st_size > 1000 if path.endswith('new') else ''}".strip()
            )
            real["fsync"](fd)

        def rename(one: str, other: str) -> None:
            calls.append("rename")
            real["rename"](one, other)

        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(os, "rename", rename)
        host.install()
        assert calls == ["fsync engine.new True", "rename", "fsync flyd"]

    def test_where_another_user_can_write_none_is_made(self, host: Host) -> None:
        host.home.chmod(0o777)
        assert host.install() is False
        assert list(host.path.parent.iterdir()) == []


class TestHostProgram:
    """What the role installs compiles the collection, and runs from the engine itself."""

    @pytest.fixture
    def program(self, host: Host) -> Path:
        pack: list[str | Path] = [sys.executable, PACKAGE_FILES.parents[1] / "roles/prepare/files/pack.py", PACKAGE_FILES]
        text = subprocess.run(pack, check=True, capture_output=True, text=True).stdout
        path = host.home / "program.py"
        path.write_text(text.replace(_engine.PATH, str(host.path)))
        return path

    def run(self, program: Path, *arguments: str | Path) -> str:
        argv: list[str | Path] = [sys.executable, "-I", program, *arguments]
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout

    def test_every_file_is_compiled_once(self, host: Host, program: Path) -> None:
        assert [self.run(program, "compile", host.path) for _ in range(2)] == ["compiled\n", ""]
        engine = _engine.open_engine(str(host.path))
        paths = [
            path for path in PACKAGE_FILES.rglob("*.py") if path.name != "_engine.py"
        ]  # the fixture has changed that one
        for path in paths:
            data = path.read_bytes()
            assert engine.code(str(path.relative_to(PACKAGE_FILES)), [zlib.crc32(data), len(data)]) is not None, path
        assert len(engine.files) == len(paths) + 2, "it, and the package's own file"

    def test_it_runs_from_the_engine_where_that_is_the_same(self, host: Host, program: Path) -> None:
        ours = "_host/files/publishing.py"
        sources = {str(path.relative_to(PACKAGE_FILES)): path.read_bytes() for path in PACKAGE_FILES.rglob("*.py")}
        data = with_other_code(sources, ours, sources[ours] + b"print('from the engine')\n")
        host.path.write_bytes(data)
        host.path.chmod(0o644)
        arguments = ("metrics", host.home / "state", host.home / "flyd.prom")
        assert self.run(program, *arguments) == "from the engine\n"
        host.path.chmod(0o666)
        assert self.run(program, *arguments) == ""
        host.path.chmod(0o644)
        host.path.write_bytes(data[:-1])
        assert self.run(program, *arguments) == ""
        assert self.run(program, "compile", host.path) == "compiled\n"
        assert self.run(program, *arguments) == ""

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine is taken for what was shipped where it is the same, and for nothing else, whatever lies in its place.

A package is shipped in an archive as Ansible ships one, and run by another Python. The code of the engine is compiled under names of its
own, so each function says where it came from.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Callable, Iterator

import pytest

from module_utils import _engine
from tests.unit.support.engines import CAN_TRY, PACKAGE, PACKAGE_FILES, SOURCES, WHY_NOT, Host, make_host

pytestmark = pytest.mark.skipif(not CAN_TRY, reason=WHY_NOT)


ALL = ["_plain", "_inner", "_inner.deep", "_late"]


@pytest.fixture
def host() -> Iterator[Host]:
    with make_host() as made:
        yield made


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


def test_each_module_imports_the_engine_before_any_other_file_of_the_package() -> None:
    paths = sorted((PACKAGE_FILES.parent / "modules").glob("flyd_*.py"))
    assert len(paths) > 5
    for path in paths:
        ours = re.findall(rf"^(?:import|from) {PACKAGE}\S*", path.read_text(), re.MULTILINE)
        assert ours[0] == f"import {PACKAGE}._engine", path

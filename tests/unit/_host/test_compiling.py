# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role prepare runs: the engine is whole, on disk and root's, and made again when it is not what it should be."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

import pytest

from module_utils import _engine
from tests.unit.support.engines import CAN_TRY, SOURCES, WHY_NOT, Host, make_host

pytestmark = pytest.mark.skipif(not CAN_TRY, reason=WHY_NOT)


@pytest.fixture
def host() -> Iterator[Host]:
    with make_host() as made:
        yield made


def test_a_second_time_changes_nothing(host: Host) -> None:
    assert host.install() is True
    before = host.path.stat()
    assert host.install() is False
    after = host.path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize(
    "sources", [{**SOURCES, "_more.py": ""}, {"_late.py": SOURCES["_late.py"]}, {**SOURCES, "_late.py": "pass"}]
)
def test_other_sources_replace_it(host: Host, sources: dict[str, str]) -> None:
    host.install()
    assert host.install(sources) is True
    assert set(_engine.open_engine(str(host.path)).files) == set(sources)


def test_it_is_roots_whatever_the_umask_is_and_what_a_killed_run_has_left_is_gone(host: Host) -> None:
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


def test_it_is_on_disk_before_it_has_its_name(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_where_another_user_can_write_none_is_made(host: Host) -> None:
    host.home.chmod(0o777)
    assert host.install() is False
    assert list(host.path.parent.iterdir()) == []


def test_what_a_killed_run_has_left_beside_an_engine_that_is_current_goes(host: Host) -> None:
    host.install()
    host.path.with_name("engine.new").write_text("half")
    assert host.install() is False
    assert [path.name for path in host.path.parent.iterdir()] == ["engine"]

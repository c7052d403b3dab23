# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""/dev/flyd/KEY/SNAPSHOT leads to the device, and to nothing that is not mapped."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from module_utils._lifecycle.pool.restore import restore
from module_utils._lifecycle.snapshot.names import name_of_key, path_of
from module_utils._lifecycle.store.records import Snapshot
from tests.unit._lifecycle.machine import KEY, OTHER_ARCHIVE, Machine

KEY_NAME = "images-redis_latest.tar"


def paths(machine: Machine) -> dict[str, str]:
    """What there is below /dev/flyd, with what it leads to."""
    top = machine.root / "dev/flyd"
    return {str(path.relative_to(top)): os.readlink(path) for path in top.rglob("*") if path.is_symlink()}


def device(machine: Machine, name: str) -> str:
    return str([one for one in machine.records(Snapshot) if one.name == name][-1].device)


def test_each_snapshot_has_its_path_and_no_other(unpacked: Machine) -> None:
    facts = unpacked.snapshot("blue").facts
    assert facts["path"] == f"/dev/flyd/{KEY_NAME}/blue"
    unpacked.snapshot("green")
    assert paths(unpacked) == {f"{KEY_NAME}/{name}": device(unpacked, name) for name in ("blue", "green")}
    unpacked.remove_snapshot("blue")
    assert paths(unpacked) == {f"{KEY_NAME}/green": device(unpacked, "green")}
    unpacked.remove_snapshot("green")
    assert not (unpacked.root / "dev/flyd").exists()


def test_check_mode_names_the_path_and_makes_none(unpacked: Machine) -> None:
    assert unpacked.snapshot("blue", dry_run=True).facts["path"] == f"/dev/flyd/{KEY_NAME}/blue"
    assert paths(unpacked) == {}


def test_they_come_back_when_the_host_starts(activated: Machine) -> None:
    before = paths(activated)
    assert before
    for path in sorted((activated.root / "dev/flyd").rglob("*"), reverse=True):
        path.unlink() if path.is_symlink() else path.rmdir()
    activated.fake.reboot()
    activated.run(restore)
    assert paths(activated) == before


def test_a_new_generation_takes_the_path_over_and_gives_it_back(activated: Machine) -> None:
    old = device(activated, "default")
    activated.s3.put(KEY.value, OTHER_ARCHIVE)
    activated.fetch()
    assert paths(activated) == {f"{KEY_NAME}/default": old}
    activated.unpack()
    activated.snapshot()
    new = device(activated, "default")
    assert new != old
    assert paths(activated) == {f"{KEY_NAME}/default": new}


def test_a_pool_that_is_torn_down_leaves_no_path(activated: Machine) -> None:
    activated.tear_down()
    assert not (activated.root / "dev/flyd").exists()


def test_what_others_have_there_is_left_alone(activated: Machine) -> None:
    top = activated.root / "dev/flyd"
    (top / "theirs").mkdir()
    (top / "theirs" / "file").write_text("x")
    (top / KEY_NAME / "note").write_text("an operator's")
    activated.remove_image()
    assert (top / "theirs" / "file").exists()
    assert (top / KEY_NAME / "note").exists()
    assert paths(activated) == {}


def test_a_directory_that_is_none_is_logged_and_the_run_succeeds(unpacked: Machine) -> None:
    (unpacked.root / "dev/flyd").write_text("in the way")
    assert unpacked.snapshot().changed
    assert "not published" in {line["event"] for line in unpacked.log()}


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("images/redis.tar", "images-redis.tar"),
        ("my-app/x", "my--app-x"),
        (".hidden", "%2Ehidden"),
        ("../../etc/passwd", "%2E.-..-etc-passwd"),
        ("a b$(id)", "a%20b%24%28id%29"),
        ("a%20b", "a%2520b"),
        ("ü/", "%C3%BC-"),
    ],
)
def test_keys_as_names(key: str, name: str) -> None:
    assert name_of_key(key) == name


@given(st.text(min_size=1, max_size=40), st.text(min_size=1, max_size=40))
def test_two_keys_never_share_a_name(one: str, other: str) -> None:
    try:
        names = [name_of_key(one), name_of_key(other)]
    except UnicodeEncodeError:
        return  # no key: ObjectKey refuses it
    assert (names[0] == names[1]) == (one == other)
    assert all(name not in (".", "..") and "/" not in name and "\0" not in name for name in names)


def test_a_long_key_has_a_name_that_a_directory_can_have(tmp_path: Path) -> None:
    names = {name_of_key("ü" * 300 + end) for end in ("a", "b")}
    assert len(names) == 2
    for name in names:
        (tmp_path / name).mkdir()
    assert path_of("x" * 1024, "web").count("/") == 4

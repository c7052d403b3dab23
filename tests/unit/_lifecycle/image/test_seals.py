# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An archive at rest that was touched is noticed, hashed, and downloaded again when it is damaged."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from module_utils._lifecycle.findings import DriftKind
from module_utils._lifecycle.report.drift import drift
from module_utils._lifecycle.store.records import Archive
from module_utils._names import ObjectKey
from tests.unit._lifecycle.conftest import needs_root
from tests.unit._lifecycle.machine import ARCHIVE, KEY, LAYERS, OTHER_ARCHIVE, Machine

SHA256 = hashlib.sha256(ARCHIVE).hexdigest()
FAMILY = ObjectKey("families/redis/")


def path_of(machine: Machine) -> Path:
    return machine.state / "archives" / SHA256


def truncate(path: Path) -> None:
    os.truncate(path, len(ARCHIVE) // 2)


def edit(path: Path) -> None:
    """Other bytes, with the size and the time that it had."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def swap(path: Path) -> None:
    """Another file in its place."""
    path.with_name("new").write_bytes(ARCHIVE[::-1])
    path.with_name("new").rename(path)


def link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/hostname")


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def restore(path: Path) -> None:
    """From a backup, with its time."""
    shutil.copy2(path, path.with_name("new"))
    path.with_name("new").rename(path)


def touch(path: Path) -> None:
    path.touch()


def change_mode(path: Path) -> None:
    path.chmod(0o640)


DAMAGES = [truncate, edit, swap, link, fifo]
HARMLESS = [restore, touch, change_mode]
Touch = Callable[[Path], None]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_archive_is_downloaded_again(fetched: Machine, damage: Touch) -> None:
    damage(path_of(fetched))
    assert_drift(fetched, 1)
    found = fetched.everything()
    predicted = fetched.fetch(dry_run=True)
    assert fetched.everything() == found
    done = fetched.fetch()
    assert (predicted.changed, predicted.facts["archive"]) == (done.changed, done.facts["archive"]) == (True, "damaged")
    assert (predicted.before, predicted.after) == (done.before, done.after)
    assert done.before["archives"] == []
    assert (path_of(fetched).read_bytes(), done.facts["new_generation"]) == (ARCHIVE, False)
    assert_quiet(fetched)


@pytest.mark.parametrize("harmless", HARMLESS)
def test_a_touched_archive_is_hashed_once_and_kept(fetched: Machine, harmless: Touch) -> None:
    harmless(path_of(fetched))
    assert_drift(fetched, 1)
    found = fetched.everything()
    assert fetched.fetch(dry_run=True).facts["archive"] == "verified"
    assert fetched.everything() == found
    done = fetched.fetch()
    assert (done.changed, done.facts["archive"], done.facts["received_bytes"]) == (False, "verified", 0)
    assert_quiet(fetched)


@pytest.mark.parametrize("checksum", [f"sha256:{SHA256}", ""])
@pytest.mark.parametrize("on_change", ["follow", "refuse", "ignore"])
def test_whatever_is_asked_for(fetched: Machine, checksum: str, on_change: str) -> None:
    edit(path_of(fetched))
    done = fetched.fetch(checksum=checksum, on_change=on_change)
    assert (done.changed, path_of(fetched).read_bytes()) == (True, ARCHIVE)


def test_a_damaged_archive_beside_a_base_is_downloaded_again_too(unpacked: Machine) -> None:
    truncate(path_of(unpacked))
    assert unpacked.fetch().facts["archive"] == "damaged"
    assert path_of(unpacked).read_bytes() == ARCHIVE
    assert unpacked.unpack().changed is False
    assert_quiet(unpacked)


def test_a_missing_archive_is_said_and_its_row_goes_when_it_is_not_kept(fetched: Machine) -> None:
    path_of(fetched).unlink()
    assert fetched.fetch().facts["archive"] == "missing"
    needs_root()
    fetched.unpack(keep_archive=False)
    assert fetched.records(Archive) == []
    assert (fetched.fetch().changed, fetched.fetch().facts["archive"]) == (False, "missing")


def test_a_first_fetch_found_nothing(pooled: Machine) -> None:
    assert pooled.fetch().facts["archive"] is None


def test_an_archive_of_an_older_database_is_hashed_once(fetched: Machine) -> None:
    with fetched.host() as host, host.store.transaction():
        host.store.rows("DELETE FROM archives")
    assert fetched.fetch().facts["archive"] == "verified"
    assert_quiet(fetched)


def test_each_layer_of_a_family_is_looked_at(pooled: Machine) -> None:
    for number, layer in enumerate(LAYERS):
        pooled.s3.put(f"{FAMILY}{number}.tar", layer)
    pooled.fetch(key=FAMILY)
    second = hashlib.sha256(LAYERS[1]).hexdigest()
    (pooled.state / "archives" / second).write_bytes(b"x")
    restore(pooled.state / "archives" / hashlib.sha256(LAYERS[0]).hexdigest())
    assert_drift(pooled, 2)
    done = pooled.fetch(key=FAMILY)
    assert (done.changed, done.facts["archive"], done.facts["received_bytes"]) == (True, "damaged", len(LAYERS[1]))
    assert (pooled.state / "archives" / second).read_bytes() == LAYERS[1]
    again = pooled.fetch(key=FAMILY)
    assert (again.changed, again.facts["archive"]) == (False, "unchanged")
    for number in range(len(LAYERS)):
        pooled.s3.delete(f"{FAMILY}{number}.tar")


def test_a_removed_archive_leaves_no_row(fetched: Machine) -> None:
    fetched.s3.put(KEY.value, OTHER_ARCHIVE)
    fetched.fetch()
    assert len(fetched.records(Archive)) == 2
    fetched.remove_archive()
    assert fetched.records(Archive) == []


def test_an_archive_that_looks_as_recorded_is_not_read(fetched: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("module_utils._lifecycle.image.seals.hashed", lambda *_: pytest.fail("it was read"))
    assert fetched.fetch().facts["archive"] == "unchanged"


def assert_drift(machine: Machine, lines: int) -> None:
    with machine.host(dry_run=True) as host:
        kinds = (DriftKind.ARCHIVE_CHANGED, DriftKind.ARCHIVE_TOUCHED)
        assert len([one for one in drift(host) if one.kind in kinds]) == lines


def assert_quiet(machine: Machine) -> None:
    """The next run finds the archive as recorded, and writes nothing."""
    assert_drift(machine, 0)
    found = machine.everything()
    again = machine.fetch()
    assert (again.changed, again.facts["archive"]) == (False, "unchanged")
    assert machine.everything() == found

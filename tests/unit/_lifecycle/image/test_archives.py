# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What lies in state_dir/archives: it goes when no one needs it, and not before."""

from __future__ import annotations

import hashlib
import os
from typing import Any

import pytest

from module_utils._errors import OutOfOrder, Transient
from module_utils._lifecycle.fetch.download import receive
from module_utils._lifecycle.image.archives import is_intact
from module_utils._lifecycle.run import Run
from module_utils._lifecycle.store.records import Image, Operation, OperationKind, RetiredImage, State
from module_utils._names import ObjectKey
from tests.unit._lifecycle.conftest import needs_root
from tests.unit._lifecycle.machine import ARCHIVE, KEY, OTHER_ARCHIVE, Machine

SHA256 = hashlib.sha256(ARCHIVE).hexdigest()
OTHER_SHA256 = hashlib.sha256(OTHER_ARCHIVE).hexdigest()
SAME = ObjectKey("images/same.tar")
STRANGER = "f" * 64


@pytest.fixture
def sealed(fetched: Machine) -> Machine:
    """A host with a base whose archive was not kept."""
    needs_root()
    fetched.unpack(keep_archive=False)
    return fetched


def test_an_archive_that_is_not_to_be_kept_goes_when_its_base_is_sealed(fetched: Machine) -> None:
    needs_root()
    outcome = fetched.unpack(keep_archive=False)
    assert outcome.facts["removed"] == [str(fetched.state / "archives" / SHA256)]
    assert (fetched.files_in("archives"), fetched.left_over()) == ([], [])


def test_without_it_the_next_runs_rest(sealed: Machine) -> None:
    sealed.s3.forget()
    before = sealed.everything()
    assert not sealed.fetch().changed
    assert not sealed.unpack(keep_archive=False).changed
    assert not sealed.unpack().changed
    assert sealed.s3.requests() == [f"HEAD {KEY}"]
    assert sealed.everything() == before
    assert sealed.snapshot().changed


def test_without_it_a_pinned_archive_is_not_asked_for_either(sealed: Machine) -> None:
    sealed.s3.forget()
    assert not sealed.fetch(checksum=f"sha256:{SHA256}").changed
    assert sealed.s3.requests() == []


def test_an_archive_of_a_base_that_was_sealed_before_goes_too_and_check_mode_says_so(unpacked: Machine) -> None:
    path = str(unpacked.state / "archives" / SHA256)
    before = unpacked.everything()
    predicted = unpacked.unpack(keep_archive=False, dry_run=True)
    assert (predicted.changed, predicted.facts["removed"]) == (True, [path])
    assert unpacked.everything() == before
    done = unpacked.unpack(keep_archive=False)
    assert (done.changed, done.facts["removed"]) == (True, [path])
    assert (done.facts["device"], unpacked.left_over()) == (predicted.facts["device"], [])


def test_unpacking_again_needs_the_archive_again(sealed: Machine) -> None:
    [old] = sealed.records(Image)
    sealed.remove_base()
    assert sealed.records(Image)[0].state is State.NEW
    with pytest.raises(OutOfOrder, match="is new, not yet fetched") as caught:
        sealed.unpack()
    assert "run flyd_fetch for this key first" in caught.value.hint
    again = sealed.fetch()
    assert (again.facts["image_id"], again.facts["new_generation"]) == (old.id, False)
    assert again.facts["received_bytes"] == len(ARCHIVE)
    assert sealed.unpack(keep_archive=False).changed
    assert sealed.left_over() == []


def test_a_changed_object_is_fetched_beside_a_base_without_its_archive(sealed: Machine) -> None:
    sealed.s3.put(KEY.value, OTHER_ARCHIVE)
    assert sealed.fetch().facts["new_generation"] is True
    assert sealed.unpack(keep_archive=False).changed
    assert len(sealed.records(RetiredImage)) == 1
    assert (sealed.files_in("archives"), sealed.left_over()) == ([], [])


def test_an_archive_that_another_key_has_not_unpacked_yet_stays(fetched: Machine) -> None:
    needs_root()
    fetched.s3.put(SAME.value, ARCHIVE)
    fetched.fetch(key=SAME)
    assert fetched.unpack(keep_archive=False).facts["removed"] == []
    assert fetched.unpack(key=SAME, keep_archive=False).facts["removed"] != []
    assert (fetched.files_in("archives"), fetched.left_over()) == ([], [])


def test_an_archive_that_another_key_keeps_stays(unpacked: Machine) -> None:
    unpacked.s3.put(SAME.value, ARCHIVE)
    unpacked.fetch(key=SAME)
    assert unpacked.unpack(key=SAME, keep_archive=False).facts["removed"] == []
    assert unpacked.files_in("archives") == [SHA256]
    before = unpacked.everything()
    assert not unpacked.unpack(key=SAME, keep_archive=False).changed
    assert unpacked.everything() == before


def test_a_run_that_is_killed_before_the_archive_goes_is_made_good(fetched: Machine) -> None:
    needs_root()
    fetched.killed_at("unpack:recorded", lambda: fetched.unpack(keep_archive=False))
    assert fetched.files_in("archives") == [SHA256]
    assert fetched.unpack(keep_archive=False).changed
    assert (fetched.files_in("archives"), fetched.left_over()) == ([], [])


# What runs that were interrupted have left


def test_an_archive_that_was_published_and_never_recorded_goes_with_the_next_download(pooled: Machine) -> None:
    pooled.killed_at("fetch:published", pooled.fetch)
    pooled.s3.put(KEY.value, OTHER_ARCHIVE)
    pooled.fetch()
    assert pooled.files_in("archives") == [OTHER_SHA256]
    assert pooled.left_over() == []


def test_archives_that_no_generation_names_go_with_the_next_download_and_nothing_else_does(pooled: Machine) -> None:
    archives = pooled.state / "archives"
    archives.mkdir(mode=0o700, exist_ok=True)
    (archives / STRANGER).touch()
    (archives / "README").touch()
    pooled.fetch()
    assert pooled.files_in("archives") == sorted([SHA256, "README"])


def test_nothing_is_swept_while_another_process_downloads(pooled: Machine) -> None:
    (pooled.state / "archives").mkdir(mode=0o700, exist_ok=True)
    (pooled.state / "archives" / STRANGER).touch()  # published, and not yet recorded
    with pooled.host() as host:
        other = host.begin(OperationKind.FETCH, "images/another.tar")._replace(pid=os.getppid())
        with host.store.transaction():
            host.store.put(other._replace(started=_started(os.getppid())))
    pooled.fetch()
    assert STRANGER in pooled.files_in("archives")


def _started(pid: int) -> int:
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        return int(stat.read().rpartition(")")[2].split()[19])


def test_an_interrupted_download_of_what_is_no_longer_there_leaves_nothing_after_one_more_run(fetched: Machine) -> None:
    fetched.s3.put(KEY.value, OTHER_ARCHIVE)
    fetched.killed_at("fetch:downloaded", fetched.fetch)
    fetched.s3.put(KEY.value, ARCHIVE)  # the object is again what it was
    fetched.fetch()
    assert (fetched.records(Operation), fetched.files_in("spool")) == ([], [])
    assert fetched.files_in("archives") == [SHA256]
    before = fetched.everything()
    assert not fetched.fetch().changed
    assert fetched.everything() == before


def test_an_archive_that_another_run_removes_meanwhile_is_not_recorded(
    pooled: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def receive_and_lose(host: Run, *rest: Any) -> object:
        got = receive(host, *rest)
        os.unlink(host.archive_path(SHA256))
        return got

    with monkeypatch.context() as patched:
        patched.setattr("module_utils._lifecycle.fetch.fetch_work.receive", receive_and_lose)
        with pytest.raises(Transient, match="was removed while it was being recorded"):
            pooled.fetch()
    assert pooled.records(Image) == []
    assert pooled.fetch().changed
    assert pooled.left_over() == []


def test_a_file_is_intact_only_with_its_size_and_its_digest(fetched: Machine) -> None:
    path = fetched.state / "archives" / SHA256
    assert is_intact(str(path), len(ARCHIVE), SHA256)
    assert not is_intact(str(path), len(ARCHIVE) + 1, SHA256)
    path.write_bytes(ARCHIVE[::-1])
    assert not is_intact(str(path), len(ARCHIVE), SHA256)
    assert not is_intact(str(path) + "x", len(ARCHIVE), SHA256)

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""new → fetched: the archive that was asked for lies under its digest, or nothing does."""

from __future__ import annotations

import hashlib
import json
import sys
from typing import Any

import pytest

from module_utils._errors import BadInput, ErrorKind, FlydError, MissingLibrary, NoSpace, Untrusted
from module_utils._lifecycle.store.records import Image, Operation, RetiredImage, State
from module_utils._names import ObjectKey, exact_size_text
from tests.unit._lifecycle.machine import ARCHIVE, KEY, OTHER_ARCHIVE, Machine

SHA256 = hashlib.sha256(ARCHIVE).hexdigest()
OTHER_SHA256 = hashlib.sha256(OTHER_ARCHIVE).hexdigest()
OTHER_KEY = ObjectKey("images/same.tar")


def archive(machine: Machine, sha256: str = SHA256) -> bytes:
    return (machine.state / "archives" / sha256).read_bytes()


def test_the_archive_lies_under_its_digest_and_is_reported(pooled: Machine) -> None:
    outcome = pooled.fetch()
    assert archive(pooled) == ARCHIVE
    assert outcome.facts == {
        **outcome.facts,
        "sha256": SHA256,
        "size": len(ARCHIVE),
        "path": str(pooled.state / "archives" / SHA256),
        "trust": "first_use",
        "received_bytes": len(ARCHIVE),
        "attempts": 1,
    }
    image = pooled.image()
    assert image is not None
    assert (image.sha256, image.state, image.id) == (SHA256, State.FETCHED, outcome.facts["image_id"])
    assert pooled.left_over() == []


@pytest.mark.parametrize("key", ["a;rm -rf $HOME", "-rf", "{{ lookup('pipe','id') }}", "снимок.tar", "x" * 200])
def test_a_key_never_becomes_the_name_of_a_file(pooled: Machine, key: str) -> None:
    pooled.s3.put(key, ARCHIVE)
    pooled.fetch(key=ObjectKey(key))
    names = [path.name for path in pooled.state.rglob("*")]
    assert not [name for name in names if key in name]
    assert pooled.left_over() == []


def test_the_same_object_is_found_by_one_head(fetched: Machine) -> None:
    assert not fetched.fetch().changed
    assert fetched.s3.requests() == [f"HEAD {KEY}"]


def test_a_pinned_archive_is_found_without_a_question(fetched: Machine) -> None:
    assert not fetched.fetch(checksum=f"sha256:{SHA256}").changed
    assert fetched.s3.requests() == []


def test_a_lost_archive_is_fetched_again_as_the_same_generation(fetched: Machine) -> None:
    before = fetched.image()
    (fetched.state / "archives" / SHA256).unlink()
    assert fetched.fetch().changed
    after = fetched.image()
    assert before is not None
    assert after is not None
    assert (after.id, after.sha256) == (before.id, before.sha256)
    assert archive(fetched) == ARCHIVE
    assert fetched.records(RetiredImage) == []


def test_a_changed_object_becomes_a_new_generation_and_the_old_one_is_kept(fetched: Machine) -> None:
    [old] = fetched.records(Image)
    fetched.s3.put(KEY.value, OTHER_ARCHIVE)
    assert fetched.fetch().changed
    [new] = fetched.records(Image)
    [retired] = fetched.records(RetiredImage)
    assert (new.sha256, new.object_key, retired.id, retired.sha256) == (OTHER_SHA256, KEY.value, old.id, SHA256)
    assert new.id != old.id
    assert (archive(fetched), archive(fetched, OTHER_SHA256)) == (ARCHIVE, OTHER_ARCHIVE)
    assert fetched.left_over() == []


def test_a_changed_object_leaves_the_old_base_and_its_snapshots_alone(activated: Machine) -> None:
    thin_ids, devices = activated.fake.thin_ids("pool"), activated.fake.devices()
    activated.s3.put(KEY.value, OTHER_ARCHIVE)
    activated.fetch()
    assert activated.records(Image)[0].state is State.FETCHED
    assert activated.records(RetiredImage)[0].state is State.ACTIVATED
    assert (activated.fake.thin_ids("pool"), activated.fake.devices()) == (thin_ids, devices)
    assert activated.unpack().changed
    assert activated.snapshot().changed
    assert len(activated.fake.thin_ids("pool")) == 4
    assert activated.left_over() == []


def test_an_object_that_is_replaced_in_the_middle_is_begun_again(pooled: Machine) -> None:
    pooled.s3.put_before_next_get(KEY.value, OTHER_ARCHIVE)
    pooled.fetch()
    assert archive(pooled, OTHER_SHA256) == OTHER_ARCHIVE
    # The HEAD in between: whether it is the object that has changed, or only its ETag, which some servers change at each request.
    assert pooled.s3.requests() == [f"{how} {KEY}" for how in ("HEAD", "GET", "HEAD", "HEAD", "GET")]
    assert pooled.left_over() == []


def test_two_keys_of_the_same_bytes_share_one_archive(fetched: Machine) -> None:
    fetched.s3.put(OTHER_KEY.value, ARCHIVE)
    fetched.fetch(key=OTHER_KEY, checksum=f"sha256:{SHA256}")
    assert fetched.s3.requests() == [f"HEAD {OTHER_KEY}"], "its bytes are here already"
    assert fetched.files_in("archives") == [SHA256]
    assert len(fetched.records(Image)) == 2


def test_an_archive_that_has_rotted_is_not_taken_for_the_one_that_was_asked_for(fetched: Machine) -> None:
    path = fetched.state / "archives" / SHA256
    path.write_bytes(ARCHIVE[:-1] + b"x")
    fetched.s3.put(OTHER_KEY.value, ARCHIVE)
    fetched.fetch(key=OTHER_KEY, checksum=f"sha256:{SHA256}")
    assert archive(fetched) == ARCHIVE


# Refusals: nothing is left, and the next right run succeeds

REFUSALS: list[tuple[dict[str, Any], ErrorKind, str]] = [
    ({"checksum": f"sha256:{OTHER_SHA256}"}, ErrorKind.UNTRUSTED, f"has sha256:{SHA256}, but must have"),
    ({"policy": "require"}, ErrorKind.UNTRUSTED, "no digest is known"),
    ({"key": ObjectKey("images/missing.tar")}, ErrorKind.BAD_INPUT, "missing.tar"),
    ({"checksum": "images/missing.sha256"}, ErrorKind.BAD_INPUT, "missing.sha256"),
    ({"checksum": "sha256:123"}, ErrorKind.BAD_INPUT, "is not sha256:<64 hex digits>"),
    ({"checksum": "sha512:" + "0" * 128}, ErrorKind.BAD_INPUT, "is a sha512 digest"),
    ({"key": ObjectKey("images/family/")}, ErrorKind.BAD_INPUT, "no object under images/family/"),
]


@pytest.mark.parametrize(("asked", "kind", "message"), REFUSALS, ids=[message for *_, message in REFUSALS])
def test_what_cannot_be_had_is_refused_and_leaves_nothing(
    pooled: Machine, asked: dict[str, Any], kind: ErrorKind, message: str
) -> None:
    with pytest.raises(FlydError, match=message) as caught:
        pooled.fetch(**asked)
    assert caught.value.kind is kind
    assert not caught.value.retryable
    assert pooled.records(Image) == []
    assert pooled.left_over() == []
    assert pooled.fetch().changed


@pytest.mark.parametrize("dry_run", [False, True])
def test_an_object_that_is_too_large_is_refused_before_its_body_is_asked_for(pooled: Machine, dry_run: bool) -> None:
    with pytest.raises(FlydError, match=f"has {exact_size_text(len(ARCHIVE))}; max_size allows 100 bytes"):
        pooled.fetch(max_bytes=100, dry_run=dry_run)
    assert pooled.s3.requests() == [f"HEAD {KEY}"]
    assert pooled.left_over() == []


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_disk_without_room_is_reported_before_the_body_is_asked_for(
    pooled: Machine, dry_run: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("module_utils._lifecycle.fetch.fetch_work.free_bytes", lambda _: 1000)
    with pytest.raises(NoSpace, match="1000 bytes free"):
        pooled.fetch(dry_run=dry_run)
    assert pooled.s3.requests() == [f"HEAD {KEY}"]


def test_check_mode_finds_a_missing_object(pooled: Machine) -> None:
    with pytest.raises(BadInput, match="missing"):
        pooled.fetch(key=ObjectKey("images/missing.tar"), dry_run=True)


@pytest.mark.parametrize("starts_over", [False, True])
def test_check_mode_does_without_s3_only_where_no_interpreter_has_boto3(
    pooled: Machine, starts_over: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "boto3.session", None)
    pooled.starts_over = starts_over
    if starts_over:
        with pytest.raises(MissingLibrary):
            pooled.fetch(dry_run=True)
    else:
        assert pooled.fetch(dry_run=True).facts["size"] is None
    assert pooled.s3.requests() == []


def test_a_wrong_checksum_later_is_refused_and_what_is_here_is_kept(fetched: Machine) -> None:
    with pytest.raises(Untrusted):
        fetched.fetch(checksum=f"sha256:{OTHER_SHA256}")
    assert archive(fetched) == ARCHIVE
    assert fetched.left_over() == []
    assert not fetched.fetch().changed


def test_a_checksum_file_of_the_old_object_refuses_the_new_one_although_the_old_bytes_are_here(
    fetched: Machine,
) -> None:
    fetched.s3.put("sums", SHA256.encode())
    assert fetched.fetch(checksum="sums").facts["trust"] == "sidecar"
    fetched.s3.put(KEY.value, ARCHIVE[::-1])
    with pytest.raises(Untrusted, match=f"but must have sha256:{SHA256}"):
        fetched.fetch(checksum="sums")
    assert archive(fetched) == ARCHIVE
    assert fetched.fetch().facts["new_generation"] is True
    assert fetched.left_over() == []


def test_the_same_bytes_uploaded_again_are_the_same_generation_once_they_were_read(fetched: Machine) -> None:
    [image] = fetched.records(Image)
    with fetched.host() as host, host.store.transaction():
        host.store.put(image._replace(etag='"of an upload in parts"'))
    fetched.s3.put("sums", SHA256.encode())
    outcome = fetched.fetch(checksum="sums")
    assert (outcome.facts["new_generation"], outcome.facts["received_bytes"]) == (False, len(ARCHIVE))
    assert not fetched.fetch(checksum="sums").changed


def test_a_policy_that_requires_a_digest_refuses_what_was_trusted_at_first_use(fetched: Machine) -> None:
    with pytest.raises(Untrusted, match="no digest is known"):
        fetched.fetch(policy="require")


# Interruptions


def test_an_interrupted_download_is_resumed(pooled: Machine) -> None:
    pooled.killed_at("fetch:downloaded", pooled.fetch)
    pooled.s3.forget()
    assert pooled.fetch().facts["received_bytes"] == 0
    assert pooled.s3.requests() == [f"HEAD {KEY}"]
    assert pooled.left_over() == []


def test_what_an_interrupted_download_of_another_object_left_is_not_used(pooled: Machine) -> None:
    pooled.killed_at("fetch:downloaded", pooled.fetch)
    pooled.s3.put(KEY.value, OTHER_ARCHIVE)
    pooled.fetch()
    assert archive(pooled, OTHER_SHA256) == OTHER_ARCHIVE
    assert pooled.left_over() == []


def test_an_interrupted_download_whose_bytes_came_by_another_key_leaves_nothing(pooled: Machine) -> None:
    pooled.killed_at("fetch:downloaded", pooled.fetch)
    pooled.s3.put(OTHER_KEY.value, ARCHIVE)
    pooled.fetch(key=OTHER_KEY)
    pooled.fetch(checksum=f"sha256:{SHA256}")
    assert pooled.left_over() == []


def test_the_intent_of_a_download_does_not_keep_other_runs_from_resting(pooled: Machine) -> None:
    pooled.killed_at("fetch:planned", pooled.fetch)
    assert not pooled.pool().changed  # takes the dead run's lock away
    before = pooled.everything()
    assert not pooled.pool().changed
    assert pooled.everything() == before
    assert len(pooled.records(Operation)) == 1


def test_the_log_reports_how_far_a_long_download_is(pooled: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("module_utils._lifecycle.fetch.progress._LOG_SECONDS", 0.0)
    pooled.fetch()
    lines = [json.loads(line) for line in (pooled.state / "log/flyd.jsonl").read_text().splitlines()]
    told = [line for line in lines if line["event"] == "progress"]
    assert told[-1] == {
        **told[-1],
        "key": KEY.value,
        "received_bytes": len(ARCHIVE),
        "total_bytes": len(ARCHIVE),
    }

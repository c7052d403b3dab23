# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A retired generation becomes the current one again: by its digest without a question, and else when the server has its bytes again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator

import pytest

from module_utils._errors import BadInput, Transient, Untrusted
from module_utils._lifecycle.outcome import Outcome
from module_utils._lifecycle.run import Run
from module_utils._lifecycle.store.records import Image, Operation, OperationKind, RetiredImage, Snapshot, State
from module_utils._names import ObjectKey, new_ulid
from module_utils._source.place import Place
from tests.unit._lifecycle.conftest import needs_root
from tests.unit._lifecycle.disk import gone_pid
from tests.unit._lifecycle.machine import ARCHIVE, KEY, LAYERS, OTHER_ARCHIVE, Machine

SHA256 = hashlib.sha256(ARCHIVE).hexdigest()
OTHER_SHA256 = hashlib.sha256(OTHER_ARCHIVE).hexdigest()
PINNED = f"sha256:{SHA256}"
FAMILY = ObjectKey("images/back/")


@pytest.fixture
def host(fetched: Machine) -> Iterator[Machine]:
    """A host with two generations, the archives of both, and a server that does not answer."""
    fetched.s3.put(KEY.value, OTHER_ARCHIVE)
    fetched.fetch()
    yield without_server(fetched)
    with_server(fetched)


@pytest.fixture
def with_bases(activated: Machine) -> Iterator[Machine]:
    """The same, with base and snapshot of both."""
    activated.s3.put(KEY.value, OTHER_ARCHIVE)
    for step in ("fetch", "unpack", "snapshot"):
        getattr(activated, step)()
    yield without_server(activated)
    with_server(activated)


def without_server(machine: Machine) -> Machine:
    machine.s3.forget()
    machine.s3.fail(503, 1 << 30)
    return machine


def with_server(machine: Machine) -> Machine:
    machine.s3.forget()
    return machine


def revived(machine: Machine, checksum: str = PINNED) -> Outcome:
    """The outcome of the real run, after one in check mode that has predicted all of it and has written nothing."""
    before = machine.everything()
    predicted = machine.fetch(checksum=checksum, dry_run=True)
    assert machine.everything() == before, "check mode wrote"
    outcome = machine.fetch(checksum=checksum)
    counted = {"attempts": 1}
    assert (predicted.before, predicted.after) == (outcome.before, outcome.after)
    assert {**predicted.facts, **counted} == outcome.facts
    assert (outcome.changed, outcome.facts["revived"], outcome.facts["new_generation"]) == (True, True, False)
    assert machine.s3.requests() == []
    return outcome


def is_settled(machine: Machine) -> None:
    """One run more asks nothing, changes nothing and writes nothing."""
    before = machine.everything()
    again = machine.fetch(checksum=PINNED)
    assert (again.changed, again.facts["revived"], again.facts["trust"]) == (False, False, "pinned")
    assert (machine.everything(), machine.s3.requests(), machine.left_over()) == (before, [], [])


def test_a_pinned_digest_takes_the_key_back_to_the_archive_that_is_here(host: Machine) -> None:
    [new], [old] = host.records(Image), host.records(RetiredImage)
    outcome = revived(host)
    assert (outcome.facts["image_id"], outcome.facts["sha256"], outcome.facts["trust"]) == (old.id, SHA256, "pinned")
    assert (outcome.facts["archive"], outcome.facts["vouched_by"]) == ("unchanged", PINNED)
    assert outcome.facts["path"] == str(host.state / "archives" / SHA256)
    assert outcome.facts["replaced"] == {
        "old_sha256": OTHER_SHA256,
        "new_sha256": SHA256,
        "old_etag": new.etag,
        "new_etag": old.etag,
    }
    assert [one.id for one in host.records(Image)] == [old.id]
    assert [one.id for one in host.records(RetiredImage)] == [new.id]
    is_settled(host)


def test_it_has_the_base_and_the_snapshots_that_it_had_and_nothing_is_made_again(with_bases: Machine) -> None:
    old = with_bases.records(RetiredImage)[0]
    snapshots, thin_ids = with_bases.records(Snapshot), with_bases.fake.thin_ids("pool")
    outcome = revived(with_bases)
    assert (outcome.after["state"], outcome.after["base_device"]) == ("activated", old.pool_device)
    assert outcome.after["snapshots"]["default"]["device"] == old.snap_device
    assert not with_bases.unpack().changed
    made = with_bases.snapshot()
    assert (made.changed, made.facts["device"], made.facts["image_id"]) == (False, old.snap_device, old.id)
    assert (with_bases.records(Snapshot), with_bases.fake.thin_ids("pool")) == (snapshots, thin_ids)
    is_settled(with_bases)


def test_there_and_back_again_any_number_of_times(with_bases: Machine) -> None:
    devices = with_bases.fake.devices()
    for _time in range(2):
        revived(with_bases)
        revived(with_bases, f"sha256:{OTHER_SHA256}")
    assert len(with_bases.generations()) == 2
    assert with_bases.fake.devices() == devices
    assert with_bases.left_over() == []


def test_a_base_needs_no_archive(with_bases: Machine) -> None:
    os.unlink(with_bases.state / "archives" / SHA256)
    assert revived(with_bases).facts["archive"] == "missing"
    assert not with_bases.fetch(checksum=PINNED).changed


def test_a_damaged_archive_beside_its_base_goes(with_bases: Machine) -> None:
    path = with_bases.state / "archives" / SHA256
    path.write_bytes(b"something else")
    outcome = revived(with_bases)
    assert (outcome.facts["archive"], outcome.facts["path"], outcome.after["archives"]) == ("damaged", None, [])
    assert not path.exists()
    assert not with_bases.fetch(checksum=PINNED).changed


def test_an_archive_that_was_touched_is_hashed_once(host: Machine) -> None:
    os.utime(host.state / "archives" / SHA256, (1, 1))
    assert revived(host).facts["archive"] == "verified"
    assert host.fetch(checksum=PINNED).facts["archive"] == "unchanged"
    is_settled(host)


@pytest.mark.parametrize("what", ["damaged", "missing"])
def test_without_a_base_and_a_sound_archive_the_server_is_asked(host: Machine, what: str) -> None:
    path = host.state / "archives" / SHA256
    path.write_bytes(b"something else") if what == "damaged" else path.unlink()
    with pytest.raises(Transient):
        host.fetch(checksum=PINNED)
    with_server(host)
    with pytest.raises(Untrusted):
        host.fetch(checksum=PINNED)
    host.s3.put(KEY.value, ARCHIVE)
    outcome = host.fetch(checksum=PINNED)
    assert (outcome.facts["revived"], outcome.facts["new_generation"]) == (True, False)
    assert outcome.facts["received_bytes"] == len(ARCHIVE)
    assert len(host.generations()) == 2, "the same bytes are the same generation"
    assert host.left_over() == []


def test_a_key_without_a_current_generation_is_taken_back_too(host: Machine) -> None:
    with host.host() as run, run.store.transaction():
        run.store.drop(run.store.image_or_new(KEY.value))
    outcome = revived(host)
    assert (outcome.facts["replaced"], outcome.before["image_id"], outcome.after["retired"]) == (None, None, {})


def test_what_an_interrupted_download_has_left_goes(host: Machine) -> None:
    """Also on the way to the generation that is current already, for which the server is not asked either."""
    for checksum, is_revived in ((PINNED, True), (PINNED, False)):
        ulid = str(new_ulid())
        with host.host() as run, run.store.transaction():
            run.store.put(Operation(ulid, OperationKind.FETCH, KEY.value, "", "another boot", gone_pid(), 1))
        (host.state / "spool").mkdir(mode=0o700, exist_ok=True)
        (host.state / "spool" / f"{ulid}.0.part").write_bytes(b"x")
        outcome = host.fetch(checksum=checksum)
        assert (outcome.changed, outcome.facts["revived"]) == (True, is_revived)
        assert (host.files_in("spool"), host.records(Operation), host.s3.requests()) == ([], [], [])
    is_settled(host)


def test_bytes_that_the_controller_has_not_sent_are_not_waited_for(host: Machine) -> None:
    place = Place(sha256="1" * 64, size_bytes=1, base_name="a.tar")
    outcome = host.fetch(checksum=PINNED, place=place)
    assert (outcome.facts["revived"], outcome.facts["sha256"]) == (True, SHA256)


def test_the_pool_that_counts_is_its_own_and_another_one_is_refused(with_bases: Machine) -> None:
    with_bases.remove_base(force=True, sha256=OTHER_SHA256)
    with_bases.pool(name="second")
    with_bases.unpack(pool="second")
    before = with_bases.records(Image)
    with pytest.raises(BadInput, match="lies in the pool 'pool', not in 'second'"):
        with_bases.fetch(checksum=PINNED, pool="second")
    assert with_bases.records(Image) == before
    assert with_bases.fetch(checksum=PINNED, pool="pool").facts["revived"]


def test_of_several_with_the_digest_as_older_releases_left_them_the_one_with_a_base_counts(with_bases: Machine) -> None:
    [old] = with_bases.records(RetiredImage)
    with with_bases.host() as run, run.store.transaction():
        for _time in range(2):
            run.store.put(RetiredImage(str(new_ulid()), KEY.value, SHA256, State.FETCHED))
    assert revived(with_bases).facts["image_id"] == old.id


def test_an_archive_that_another_run_removes_meanwhile_leaves_all_as_it_is(
    host: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def remove_meanwhile(_host: Run, _key: str) -> None:
        (host.state / "archives" / SHA256).unlink()

    monkeypatch.setattr("module_utils._lifecycle.fetch.download.forget_parts", remove_meanwhile)
    before = host.generations()
    with pytest.raises(Transient, match="was removed while it was being recorded"):
        host.fetch(checksum=PINNED)
    assert host.generations() == before


def test_a_family_is_taken_back_by_its_own_digest(pooled: Machine) -> None:
    needs_root()
    for number, layer in enumerate(LAYERS):
        pooled.s3.put(f"{FAMILY}{number}", layer)
    old = pooled.fetch(key=FAMILY).facts
    pooled.unpack(key=FAMILY)
    pooled.s3.put(f"{FAMILY}0", LAYERS[1])
    assert pooled.fetch(key=FAMILY).facts["new_generation"]
    without_server(pooled)
    try:
        outcome = pooled.fetch(key=FAMILY, checksum=f"sha256:{old['sha256']}")
        assert (outcome.facts["revived"], outcome.facts["image_id"]) == (True, old["image_id"])
        assert (outcome.facts["objects"], outcome.after["state"]) == (old["objects"], "unpacked")
        assert pooled.s3.requests() == []
        assert not pooled.unpack(key=FAMILY).changed
        assert pooled.left_over() == []
    finally:
        with_server(pooled)
        for number in range(len(LAYERS)):
            pooled.s3.delete(f"{FAMILY}{number}")


# Without a pinned digest: the server says what there is.


@pytest.mark.parametrize("says", ["the ETag of then", "the SHA-256", "a checksum file", "nothing"])
def test_the_bytes_of_then_revive_their_generation_and_travel_only_when_the_server_does_not_say_what_they_are(
    with_bases: Machine, says: str
) -> None:
    machine = with_server(with_bases)
    [old] = machine.records(RetiredImage)
    machine.s3.put(KEY.value, ARCHIVE)
    if says in ("the SHA-256", "nothing"):
        machine.s3.announce(KEY.value, '"another"', SHA256 if says == "the SHA-256" else "")
    machine.s3.put("sums", f"{SHA256}  redis_latest.tar\n".encode())
    checksum = "sums" if says == "a checksum file" else ""
    try:
        predicted = machine.fetch(dry_run=True, checksum=checksum)
        machine.s3.forget()
        outcome = machine.fetch(checksum=checksum)
        asked = machine.s3.requests()
        assert (outcome.changed, outcome.facts["revived"], outcome.facts["new_generation"]) == (True, True, False)
        assert (outcome.facts["image_id"], outcome.after["base_device"]) == (old.id, old.pool_device)
        is_told = says != "nothing"
        assert (predicted.after == outcome.after, predicted.facts["revived"]) == (is_told, is_told)
        assert (f"GET {KEY}" in asked) is not is_told
        assert [one.state for one in machine.records(Image)] == [State.ACTIVATED]
        assert len(machine.generations()) == 2
        assert not machine.unpack().changed
        assert not machine.fetch(checksum=checksum).changed
        assert machine.left_over() == []
    finally:
        machine.s3.delete(KEY.value)
        machine.s3.delete("sums")


def test_a_base_without_its_archive_is_enough_for_the_bytes_of_then(with_bases: Machine) -> None:
    machine = with_server(with_bases)
    os.unlink(machine.state / "archives" / SHA256)
    machine.s3.put(KEY.value, ARCHIVE)
    predicted, outcome = machine.fetch(dry_run=True), machine.fetch()
    assert (outcome.facts["revived"], outcome.facts["received_bytes"]) == (True, 0)
    assert predicted.after == outcome.after
    assert f"GET {KEY}" not in machine.s3.requests()


def test_on_change_refuse_refuses_it_too(host: Machine) -> None:
    machine = with_server(host)
    machine.s3.put(KEY.value, ARCHIVE)
    with pytest.raises(Untrusted, match="was replaced"):
        machine.fetch(on_change="refuse")
    assert [one.sha256 for one in machine.records(Image)] == [OTHER_SHA256]

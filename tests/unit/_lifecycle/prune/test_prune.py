# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Generations go by use, confirmation, number, age and free room; what is in use stays, and what fails keeps no other one.

The stage "many" has five generations of one key: the first is the previous one of an instance, the second its current one, the fifth the
current one of the key. The third and the fourth were never confirmed.
"""

from __future__ import annotations

import datetime
import errno
import os
from typing import Any

import pytest

from module_utils._errors import CommandFailed, FlydError, OutOfOrder
from module_utils._lifecycle.findings import RecoveryKind
from module_utils._lifecycle.outcome import Outcome
from module_utils._lifecycle.pool.data_size import DataSize
from module_utils._lifecycle.prune.choosing import choose
from module_utils._lifecycle.prune.options import PruneOptions
from module_utils._lifecycle.prune.prune import prune
from module_utils._lifecycle.prune.removal import Removal
from module_utils._lifecycle.store.lock_names import image_lock
from module_utils._lifecycle.store.records import Image, PoolRecord, RetiredImage, Snapshot, State, Volume
from module_utils._lifecycle.volumes.missing_volumes import forget
from module_utils._lifecycle.volumes.volumes import used_bytes
from module_utils._names import ObjectKey
from tests.unit._lifecycle.conftest import Stages, needs_root
from tests.unit._lifecycle.disk import in_process
from tests.unit._lifecycle.instance.machine import Bound
from tests.unit._lifecycle.machine import KEY, LAYERS, POOL_BYTES, Machine
from tests.unit.builders import images

OTHER = ObjectKey("images/other.tar")
BLOCK_BYTES = 64 << 10


@pytest.fixture
def many(stages: Stages) -> Machine:
    needs_root()
    return stages.at("many")


@pytest.fixture
def bound(stages: Stages) -> Bound:
    """An instance on the first generation."""
    needs_root()
    return Bound(stages.at("bound"))


def by_age(machine: Machine) -> list[Image]:
    """All generations, the oldest first."""
    return sorted(machine.generations(), key=lambda one: one.id)


def left(machine: Machine, before: list[Image]) -> list[int]:
    """Which of the generations ``before`` are still there, counted from 1."""
    ids = {one.id for one in machine.generations()}
    return [number for number, one in enumerate(before, 1) if one.id in ids]


def verdicts(outcome: Outcome, before: list[Image], what: str = "kept") -> dict[int, str]:
    """By the number of a generation, why it stays."""
    numbers = {one.sha256: number for number, one in enumerate(before, 1)}
    return {numbers[one["sha256"]]: one["reason"] for one in outcome.facts[what]}


def set_columns(machine: Machine, image: Image, **columns: object) -> None:
    with machine.host() as host, host.store.transaction():
        host.store.put(image._replace(**columns))  # type: ignore[arg-type]


def snapshots_of(machine: Machine, image: Image) -> list[str]:
    return [os.path.basename(one.device) for one in machine.records(Snapshot) if one.image_id == image.id]


# By use


def test_what_nobody_names_goes_and_what_an_instance_names_stays(many: Machine) -> None:
    before = by_age(many)
    third, fourth = before[2:4]
    devices = {one.device for one in many.records(Snapshot) if one.image_id in (third.id, fourth.id)}
    outcome = many.prune()
    assert left(many, before) == [1, 2, 5]
    assert verdicts(outcome, before) == {1: "instance", 2: "instance", 5: "current"}
    archives = {str(many.state / "archives" / one.sha256) for one in (third, fourth)}
    assert set(outcome.facts["removed"]) == {*devices, third.pool_device, fourth.pool_device, *archives}
    assert (outcome.facts["skipped"], outcome.facts["errors"]) == ([], [])
    assert many.left_over() == []
    untouched = many.everything()
    again = many.prune()
    assert (again.changed, again.facts["removed"], again.facts["attempts"]) == (False, [], 0)
    assert many.everything() == untouched, "a run with nothing to do has written"


def test_the_rollback_still_works_after_it(many: Machine) -> None:
    first = by_age(many)[0]
    many.prune()
    assert Bound(many).call("previous").facts["current"] == first.sha256


def test_the_target_of_an_open_bind_stays(many: Machine) -> None:
    third = by_age(many)[2]
    program = many.root / "usr/local/lib/flyd-host.py"
    program.parent.mkdir(parents=True)
    program.touch()
    Bound(many).bind(sha256=third.sha256, confirm_within=600.0)
    before = by_age(many)
    outcome = many.prune()
    assert verdicts(outcome, before)[3] == "instance"
    assert left(many, before) == [1, 2, 3, 5]


def test_a_generation_that_an_instance_went_back_from_goes(many: Machine) -> None:
    before = by_age(many)
    Bound(many).call("previous")  # from the second to the first
    many.prune()
    assert left(many, before) == [1, 5]


# By confirmation and number


def test_of_a_key_with_instances_the_newest_confirmed_ones_stay(bound: Bound) -> None:
    machine = bound.machine
    for number in range(2, 8):
        bound.publish_new_generation()
        if number != 5:  # the fifth was never confirmed
            bound.call()
    before = by_age(machine)  # in use: 7 as current, 6 as previous
    outcome = machine.prune(keep=2)
    assert verdicts(outcome, before) == {3: "newest", 4: "newest", 6: "instance", 7: "current"}
    assert left(machine, before) == [3, 4, 6, 7]
    assert machine.left_over() == []


def test_of_a_key_without_instances_the_newest_ones_stay(stages: Stages) -> None:
    needs_root()
    machine = stages.at("activated")
    for _number in range(4):
        Bound(machine).publish_new_generation()
    before = by_age(machine)
    outcome = machine.prune(keep=2)
    assert verdicts(outcome, before) == {3: "newest", 4: "newest", 5: "current"}
    assert left(machine, before) == [3, 4, 5]


def test_the_newest_is_the_one_that_was_retired_last(stages: Stages) -> None:
    needs_root()
    machine = stages.at("activated")
    first = by_age(machine)[0]
    Bound(machine).publish_new_generation()
    machine.s3.put(KEY.value, b"")
    machine.fetch(checksum=f"sha256:{first.sha256}")  # the first is current again
    Bound(machine).publish_new_generation()
    before = by_age(machine)
    machine.prune(keep=1)
    assert left(machine, before) == [1, 3]


# By age


def test_what_was_retired_lately_stays(many: Machine) -> None:
    third, fourth = by_age(many)[2:4]
    before = by_age(many)
    assert verdicts(many.prune(older_than_seconds=3600), before) == {
        1: "instance",
        2: "instance",
        3: "recent",
        4: "recent",
        5: "current",
    }
    ago = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=2)
    set_columns(many, third, updated_at=ago.strftime("%Y-%m-%dT%H:%M:%SZ"))
    set_columns(many, fourth, updated_at="")  # nobody knows how old it is
    assert verdicts(many.prune(older_than_seconds=3600), before)[4] == "recent"
    assert left(many, before) == [1, 2, 4, 5]


def test_a_generation_that_is_retired_says_when(stages: Stages) -> None:
    needs_root()
    machine = stages.at("unpacked")
    image = machine.image()
    assert image is not None
    set_columns(machine, image, updated_at="2020-01-01T00:00:00Z")
    Bound(machine).publish_new_generation()
    [retired] = machine.records(RetiredImage)
    assert retired.updated_at > "2026"


# By free room


@pytest.fixture
def grown(many: Machine) -> Machine:
    """The snapshots of the third and the fourth generation have 4 blocks of guests' writes each; the third was confirmed once."""
    for image in by_age(many)[2:4]:
        [name] = snapshots_of(many, image)
        node = many.root / "dev/mapper" / name
        with open(os.path.realpath(node), "r+b") as file:
            file.seek(8 * BLOCK_BYTES)
            file.write(b"guest" * (4 * BLOCK_BYTES // 5))
            os.fsync(file.fileno())
        many.fake.commit(name)
    set_columns(many, by_age(many)[2], confirmed_at="2026-01-01T00:00:00Z")
    return many


def free_bytes(machine: Machine) -> int:
    with machine.host(dry_run=True) as host:
        return POOL_BYTES - used_bytes(host)


@pytest.mark.parametrize("wanted", ["size", "percent"])
def test_only_as_much_goes_as_the_pool_needs_and_the_unconfirmed_first(grown: Machine, wanted: str) -> None:
    before = by_age(grown)
    more_bytes = free_bytes(grown) + 2 * BLOCK_BYTES
    min_free = (
        DataSize(more_bytes) if wanted == "size" else DataSize(-(-100 * more_bytes // POOL_BYTES), is_percent=True)
    )
    predicted = grown.prune(min_free=min_free, dry_run=True)
    outcome = grown.prune(min_free=min_free)
    assert verdicts(outcome, before) == {1: "instance", 2: "instance", 3: "enough_free", 5: "current"}
    assert left(grown, before) == [1, 2, 3, 5]
    assert predicted.facts["removed"] == outcome.facts["removed"]
    assert predicted.facts["kept"] == outcome.facts["kept"]
    assert not grown.prune(min_free=min_free).changed


def test_a_pool_that_has_not_enough_in_the_end_is_a_warning(grown: Machine) -> None:
    whole = DataSize(100, is_percent=True)
    predicted = grown.prune(min_free=whole, dry_run=True)
    outcome = grown.prune(min_free=whole)
    assert left(grown, by_age(grown)) == [1, 2, 3]
    [warning] = outcome.facts["warnings"]
    assert "the pool 'pool' still has" in warning
    assert predicted.facts["warnings"] == [warning]


def test_what_takes_no_room_of_a_pool_stays_when_room_is_asked_for(many: Machine) -> None:
    third = by_age(many)[2]
    many.remove_base(force=True, sha256=third.sha256)
    before = by_age(many)
    outcome = many.prune(min_free=DataSize(100, is_percent=True))
    assert verdicts(outcome, before)[3] == "not_in_pool"
    assert left(many, before) == [1, 2, 3, 5]
    assert str(many.state / "archives" / third.sha256) in many.prune().facts["removed"]


def test_check_mode_says_how_much_that_would_free(grown: Machine) -> None:
    before = grown.everything()
    predicted = grown.prune(dry_run=True)
    assert grown.everything() == before, "check mode wrote"
    assert predicted.facts["freed_bytes"] is None
    freed = free_bytes(grown)
    archives = sum(path.stat().st_blocks * 512 for path in (grown.state / "archives").iterdir())
    outcome = grown.prune()
    archives -= sum(path.stat().st_blocks * 512 for path in (grown.state / "archives").iterdir())
    freed = free_bytes(grown) - freed
    assert freed > 8 * BLOCK_BYTES
    assert predicted.facts["would_free_bytes"] == outcome.facts["freed_bytes"] == freed + archives
    assert outcome.facts["would_free_bytes"] is None


def test_metadata_that_cannot_be_read_leaves_the_estimate_open(many: Machine) -> None:
    [pool] = many.records(PoolRecord)
    size = os.stat(pool.metadata).st_size
    with open(
        pool.metadata, "r+b"
    ) as file:  # the last block is where the simulation puts the first node of the mappings
        file.seek(size - 8 * 4096)
        file.write(bytes(8 * 4096))
    outcome = many.prune(dry_run=True)
    assert (outcome.changed, outcome.facts["would_free_bytes"]) == (True, None)
    with pytest.raises(FlydError, match="is damaged"):
        many.prune(dry_run=True, min_free=DataSize(1 << 40))


# Archives


def test_an_archive_that_another_key_is_made_of_stays(many: Machine) -> None:
    third = by_age(many)[2]
    archive = (many.state / "archives" / third.sha256).read_bytes()
    many.s3.put(OTHER.value, archive)
    many.fetch(key=OTHER)
    predicted = many.prune(dry_run=True)
    outcome = many.prune()
    assert outcome.facts["removed"] == predicted.facts["removed"]
    assert third.sha256 in many.files_in("archives")
    assert many.unpack(key=OTHER).facts["sha256"] == third.sha256
    assert many.left_over() == []


def test_an_archive_of_two_keys_goes_with_the_last_generation_that_is_made_of_it(many: Machine) -> None:
    third = by_age(many)[2]
    many.s3.put(OTHER.value, (many.state / "archives" / third.sha256).read_bytes())
    many.fetch(key=OTHER)
    many.s3.put(OTHER.value, images.docker_archive(LAYERS[1:]))
    many.fetch(key=OTHER)  # the shared one is retired here, too
    predicted = many.prune(dry_run=True)
    outcome = many.prune()
    path = str(many.state / "archives" / third.sha256)
    assert outcome.facts["removed"].count(path) == predicted.facts["removed"].count(path) == 1
    assert outcome.facts["removed"] == predicted.facts["removed"]
    assert predicted.facts["would_free_bytes"] == outcome.facts["freed_bytes"]
    assert many.left_over() == []


def test_archives_can_stay(many: Machine) -> None:
    before = by_age(many)
    archives = many.files_in("archives")
    predicted = many.prune(archives=False, dry_run=True)
    outcome = many.prune(archives=False)
    assert outcome.facts["removed"] == predicted.facts["removed"]
    assert many.files_in("archives") == archives
    assert left(many, before) == [1, 2, 3, 4, 5]
    assert [bool(one.base_ulid) for one in by_age(many)] == [True, True, False, False, True]
    again = many.prune(archives=False)
    assert not again.changed
    assert verdicts(again, before) == {1: "instance", 2: "instance", 3: "archive", 4: "archive", 5: "current"}
    assert many.unpack(sha256=before[2].sha256).changed


# What is in use, and what fails


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_busy_one_is_skipped_and_the_rest_goes(many: Machine, *, dry_run: bool) -> None:
    before = by_age(many)
    [name] = snapshots_of(many, before[2])
    many.fake.mount(name, "/mnt/guest")
    outcome = many.prune(dry_run=dry_run)
    assert verdicts(outcome, before, "skipped") == {3: "in_use"}
    [skipped] = outcome.facts["skipped"]
    assert f"device {name} (snapshot 'default' of {KEY}) is held by a mount on /mnt/guest" in skipped["text"]
    assert left(many, before) == ([1, 2, 3, 4, 5] if dry_run else [1, 2, 3, 5])
    assert snapshots_of(many, before[2]) == [name]
    assert many.left_over() == []
    many.fake.let_go()
    if not dry_run:
        assert [line["reason"] for line in many.log() if line["event"] == "skipped"] == ["in_use"]
        many.prune()
        assert left(many, before) == [1, 2, 5]


@pytest.mark.parametrize("dry_run", [True, False])
def test_one_below_a_device_of_others_is_skipped(many: Machine, *, dry_run: bool) -> None:
    before = by_age(many)
    [name] = snapshots_of(many, before[3])
    volume = next(one for one in many.records(Volume) if one.device_name == name)
    pool = many.fake.devices()["pool"]["minor"]
    many.fake.make_foreign("theirs", table=f"0 {volume.sectors} thin 253:{pool} {volume.thin_id}")
    outcome = many.prune(dry_run=dry_run)
    assert verdicts(outcome, before, "skipped") == {4: "foreign_device"}
    assert left(many, before) == ([1, 2, 3, 4, 5] if dry_run else [1, 2, 4, 5])


def test_one_that_fails_keeps_no_other_one_and_is_told_at_the_end(many: Machine) -> None:
    before = by_age(many)
    third, fourth = before[2:4]
    many.fake.refuse("dmsetup message pool 0 delete", errno.EIO)

    def fail() -> None:
        with pytest.raises(CommandFailed, match="Input/output error") as caught:
            many.prune()
        assert caught.value.trail[:2] == ["pruning", f"prune of {KEY}"]

    assert in_process(fail) == 0
    assert left(many, before) == [1, 2, 3, 5]
    assert not snapshots_of(many, third), "it was recorded as going before the pool refused"
    assert fourth.sha256 not in many.files_in("archives")
    outcome = many.prune()
    assert left(many, before) == [1, 2, 5]
    assert [one.kind.value for one in outcome.settled] == ["operation_finished"]
    assert many.left_over() == []


def test_a_run_that_fails_tells_what_it_has_done(many: Machine) -> None:
    before = by_age(many)
    many.fake.refuse("dmsetup message pool 0 delete", errno.EIO)
    with many.host() as host:
        with pytest.raises(CommandFailed):
            prune(host, PruneOptions(keep=0))
        told: dict[str, Any] = host.reported
    assert told["changed"] is True
    [error] = told["errors"]
    assert (error["key"], error["sha256"], error["error_kind"]) == (KEY.value, before[2].sha256, "command_failed")
    assert before[3].pool_device in told["removed"]
    assert len(told["kept"]) == 3


def test_several_that_fail_are_one_error(many: Machine) -> None:
    before = by_age(many)
    many.fake.refuse("dmsetup message pool 0 delete", errno.EIO, times=2)
    with pytest.raises(
        CommandFailed, match=f"2 of 2 generations could not be removed: {KEY} sha256:{before[2].sha256[:12]}"
    ):
        many.prune()
    many.prune()
    assert left(many, before) == [1, 2, 5]


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_pool_that_is_down_is_an_error_and_keeps_no_archive(many: Machine, *, dry_run: bool) -> None:
    third = by_age(many)[2]
    many.remove_base(force=True, sha256=third.sha256)
    before = by_age(many)
    many.fake.reboot()
    with pytest.raises(OutOfOrder, match=r"the pool of snap-.* is not active"):
        many.prune(dry_run=dry_run)
    assert left(many, before) == ([1, 2, 3, 4, 5] if dry_run else [1, 2, 4, 5])


def test_a_key_that_another_run_works_on_keeps_no_other_one(many: Machine) -> None:
    many.s3.put(OTHER.value, images.docker_archive(LAYERS[1:]))
    many.fetch(key=OTHER)
    many.s3.put(OTHER.value, images.docker_archive(LAYERS[:1]))
    many.fetch(key=OTHER)
    before = [one for one in by_age(many) if one.object_key == OTHER.value]
    many.lock_timeout_seconds = 0.05
    with many.host() as host, host.store.transaction():  # as another program locks it
        host.store.rows("INSERT INTO _busy(name) VALUES (?)", image_lock(KEY.value))
    with pytest.raises(FlydError, match="2 of 3 generations could not be removed") as caught:
        many.prune()
    assert (caught.value.kind.value, caught.value.retryable) == ("busy", True)
    assert left(many, before) == [2]


# What changes meanwhile


def test_one_that_became_current_or_bound_since_it_was_chosen_stays(many: Machine) -> None:
    before = by_age(many)
    third, fourth = before[2:4]
    options = PruneOptions(keep=0)
    with many.host() as host:
        choice = choose(host, options)
        assert [one.image.id for one in choice.candidates] == [third.id, fourth.id]
        many.fetch(checksum=f"sha256:{third.sha256}")
        Bound(many).call(sha256=fourth.sha256)
        work = Removal(host, options, choice)
        for candidate in choice.candidates:
            work.take(candidate)
        assert (work.gone, work.skipped, work.errors) == ([], [], [])
        assert [one.reason.value for one in work.kept][-2:] == ["current", "instance"]
    assert left(many, before) == [1, 2, 3, 4, 5]
    assert many.image() == next(one for one in many.records(Image) if one.id == third.id)


def test_one_that_is_gone_since_it_was_chosen_is_no_change(many: Machine) -> None:
    options = PruneOptions(keep=0)
    with many.host() as host:
        choice = choose(host, options)
        many.prune()
        work = Removal(host, options, choice)
        for candidate in choice.candidates:
            work.take(candidate)
        assert (work.gone, work.errors) == ([], [])


# What else there may be


def test_of_two_generations_with_one_digest_only_the_one_that_is_meant_goes(many: Machine) -> None:
    """As a database of an earlier release may have them."""
    second, third = by_age(many)[1:3]
    set_columns(many, third, sha256=second.sha256)
    before = by_age(many)
    many.prune()
    assert left(many, before) == [1, 2, 5]
    assert second.sha256 in many.files_in("archives")


def test_snapshots_that_have_outlived_their_base_go_with_their_generation(many: Machine) -> None:
    third = by_age(many)[2]
    with many.host() as host:
        base = next(one for one in many.records(Volume) if one.ulid == third.base_ulid)
        forget(host, base, RecoveryKind.VOLUME_MISSING, "lost")
    many.fake.set_pool("pool", thins={str(number): {} for number in many.fake.thin_ids("pool") - {base.thin_id}})
    predicted = many.prune(dry_run=True)
    assert predicted.facts["removed"] == many.prune().facts["removed"]
    assert not snapshots_of(many, third)
    assert many.left_over() == []


def test_only_the_pool_that_is_named_is_pruned(many: Machine) -> None:
    before = by_age(many)
    many.pool(name="other")
    outcome = many.prune(pool="other")
    assert (outcome.changed, outcome.facts["kept"], outcome.facts["warnings"]) == (False, [], [])
    assert many.prune(pool="pool").changed
    assert left(many, before) == [1, 2, 5]


def test_a_key_or_a_pool_that_is_not_known_is_a_warning(many: Machine) -> None:
    for given in ({"key": "images/redis.tar"}, {"pool": "pol"}):
        outcome = many.prune(**given)  # type: ignore[arg-type]
        assert not outcome.changed
        [warning] = outcome.facts["warnings"]
        assert warning.startswith(f"there is no {'image' if 'key' in given else 'pool'} {next(iter(given.values()))}")


def test_one_key_alone_is_pruned(many: Machine) -> None:
    before = by_age(many)
    many.s3.put(OTHER.value, images.docker_archive(LAYERS[1:]))
    many.fetch(key=OTHER)
    assert not many.prune(key=OTHER.value).changed
    assert many.prune(key=KEY.value).changed
    assert left(many, before) == [1, 2, 5]


def test_what_an_interrupted_run_left_is_settled_though_nothing_is_to_go(many: Machine) -> None:
    many.killed_at("remove:planned", lambda: many.remove_base(force=True, sha256=by_age(many)[2].sha256))
    outcome = many.prune(older_than_seconds=3600)
    assert outcome.facts["removed"] == []
    assert [one.kind.value for one in outcome.settled] == ["operation_finished"]
    assert many.left_over() == []


@pytest.mark.slow
def test_twenty_generations_leave_pool_and_archives_as_large_as_four_do(bound: Bound) -> None:
    """Each is published, bound and confirmed; prune keeps two beside the current and the previous one."""
    machine = bound.machine
    sizes = []
    for number in range(20):
        bound.publish_new_generation(f"number {number}")
        bound.call()
        machine.prune(keep=2)
        sizes.append(
            (
                len(machine.generations()),
                free_bytes(machine),
                len(machine.fake.thin_ids("pool")),
                len(machine.files_in("archives")),
            )
        )
    assert sizes[3][0] == sizes[3][3] == 4
    assert set(sizes[4:]) == {sizes[4]}, "it grows, or shrinks"
    assert len(machine.records(Volume)) == 8
    assert machine.states() == [State.ACTIVATED]
    assert sizes[0][1] - sizes[4][1] < 16 * BLOCK_BYTES
    assert machine.left_over() == []

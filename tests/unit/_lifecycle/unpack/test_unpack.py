# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fetched → unpacked: a sealed base holds the merged tree, or there is none."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Callable
from typing import Any

import pytest

from module_utils._errors import BadInput, CommandFailed, FlydError, Internal, NoSpace, OutOfOrder, Untrusted, doing
from module_utils._image.opening import PlanFigures
from module_utils._lifecycle.findings import RecoveryKind
from module_utils._lifecycle.store.records import Image, Operation, State, Volume, VolumeState
from module_utils._lifecycle.unpack import make_base as base_making
from module_utils._lifecycle.unpack.base_size import size_named
from module_utils._thin.volume import flush
from tests.unit._lifecycle.machine import BASE_BYTES, KEY, OTHER_ARCHIVE, POOL_BYTES, Machine

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="writing a tree with its owners needs root")
TREE = {"etc/kept": b"kept", "redis-server": b"#!"}


def archive_path(machine: Machine) -> str:
    [image] = machine.records(Image)
    return str(machine.state / "archives" / image.sha256)


def test_the_base_holds_the_merged_tree_and_is_reported(fetched: Machine) -> None:
    outcome = fetched.unpack()
    [base] = fetched.records(Volume)
    assert fetched.tree_of(base) == TREE
    assert (base.kind, base.state, base.sectors * 512) == ("base", VolumeState.LIVE, BASE_BYTES)
    facts = {"device": f"/dev/mapper/base-{base.ulid}", "layers": 2, "whiteouts": 1, "entries": 3, "size": BASE_BYTES}
    assert outcome.facts == {**outcome.facts, **facts}
    assert outcome.facts["config"]["Env"] == ["PATH=/bin"]


def test_the_row_of_the_image_names_its_base(unpacked: Machine) -> None:
    [base], [image] = unpacked.records(Volume), unpacked.records(Image)
    assert (image.state, image.base_ulid) == (State.UNPACKED, base.ulid)
    assert image.pool_device == f"/dev/mapper/base-{base.ulid}"
    assert json.loads(image.summary)["bytes"] == len(b"".join(TREE.values()))


def test_a_sealed_base_is_not_mapped(unpacked: Machine) -> None:
    assert list(unpacked.fake.devices()) == ["pool"]


def test_the_volume_is_whole_blocks_of_the_pool(fetched: Machine) -> None:
    fetched.unpack(size_bytes=BASE_BYTES + 1)
    [base] = fetched.records(Volume)
    assert base.sectors * 512 == BASE_BYTES + (1 << 16)


def test_the_volume_was_checked_and_flushed_before_anything_says_unpacked(
    fetched: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, State]] = []

    def spy(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **options: Any) -> Any:
            [image] = fetched.records(Image)
            seen.append((name, image.state))
            return real(*args, **options)

        return watched

    for name in ("make_ext4", "populate", "check", "flush", "unmap"):
        monkeypatch.setattr(base_making, name, spy(name, getattr(base_making, name)))
    fetched.unpack()
    steps = ("make_ext4", "populate", "check", "flush", "unmap")
    assert seen == [(name, State.FETCHED) for name in steps]


def test_the_flush_reaches_the_device_that_was_written(fetched: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[str] = []

    def note(path: str) -> None:
        assert os.path.basename(path) in fetched.fake.devices(), "still mapped"
        flushed.append(path)
        flush(path)

    monkeypatch.setattr(base_making, "flush", note)
    fetched.unpack()
    [base] = fetched.records(Volume)
    assert flushed == [str(fetched.root / "dev/mapper" / f"base-{base.ulid}")]


# Refusals and faults: the volume is thrown away whole, and the next right run succeeds


@pytest.mark.parametrize(
    "line",
    [
        "dmsetup message pool 0 create_thin",
        "dmsetup message pool 0 set_transaction_id",
        "dmsetup create base-",
        "mkfs.ext4",
        "e2fsck",
        "dmsetup remove",
    ],
)
def test_a_program_that_fails_leaves_no_volume(fetched: Machine, line: str) -> None:
    fetched.fake.refuse(line, errno.EIO)
    with pytest.raises(FlydError, match=f"^while unpack of {KEY}"):
        fetched.unpack()
    assert fetched.left_over() == []
    assert fetched.records(Image)[0].state is State.FETCHED
    assert fetched.unpack().changed


def test_a_mount_point_that_others_can_change_is_refused_before_a_volume_is_made(
    fetched: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(*_: object, **_options: object) -> None:
        raise AssertionError("a volume was to be made")

    mount_point = fetched.state / "mnt"
    mount_point.mkdir()
    mount_point.chmod(0o1777)
    with monkeypatch.context() as patch:
        patch.setattr(base_making, "create_volume", make)
        with pytest.raises(BadInput, match="mnt belongs to uid 0 with mode 1777"):
            fetched.unpack()
    mount_point.chmod(0o700)
    assert fetched.unpack().changed


def test_an_error_in_the_writing_leaves_no_volume(fetched: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **_options: object) -> None:
        raise NoSpace("the volume is full", hint="make it larger")

    with monkeypatch.context() as patch:
        patch.setattr(base_making, "populate", full)
        with pytest.raises(NoSpace):
            fetched.unpack()
    assert fetched.left_over() == []
    assert fetched.unpack().changed


@pytest.mark.parametrize("at", [0, 600, -1])
def test_an_archive_that_has_rotted_is_refused(fetched: Machine, at: int) -> None:
    path = archive_path(fetched)
    with open(path, "r+b") as file:
        content = bytearray(file.read())
        content[at] ^= 1
        file.seek(0)
        file.write(content)
    with pytest.raises(Untrusted, match="has changed since it was fetched") as caught:
        fetched.unpack()
    assert "run flyd_fetch again" in caught.value.hint
    assert not os.path.exists(path)
    assert fetched.fetch().changed, "it is downloaded anew"
    assert fetched.left_over() == []
    assert fetched.unpack().changed


def test_an_archive_that_was_exchanged_for_another_sound_one_is_refused(fetched: Machine) -> None:
    with open(archive_path(fetched), "wb") as file:
        file.write(OTHER_ARCHIVE)
    with pytest.raises(Untrusted, match=f"it has sha256:{hashlib.sha256(OTHER_ARCHIVE).hexdigest()} now"):
        fetched.unpack()
    assert fetched.fetch().changed
    assert fetched.left_over() == []


def test_a_sound_archive_that_is_refused_for_what_it_holds_is_kept(pooled: Machine) -> None:
    pooled.s3.put(KEY.value, b"no archive at all")
    pooled.fetch()
    with pytest.raises(Untrusted):
        pooled.unpack()
    assert pooled.left_over() == []
    assert not pooled.fetch().changed


def test_a_lost_archive_is_reported_with_the_way_to_get_it_back(fetched: Machine) -> None:
    os.unlink(archive_path(fetched))
    with pytest.raises(OutOfOrder, match="is gone") as caught:
        fetched.unpack()
    assert "run flyd_fetch again" in caught.value.hint
    fetched.fetch()
    assert fetched.unpack().changed


def test_a_link_in_the_place_of_the_archive_is_not_followed(fetched: Machine) -> None:
    path = archive_path(fetched)
    os.rename(path, f"{path}.away")
    os.symlink(f"{path}.away", path)
    with pytest.raises(FlydError, match="opening the archive"):
        fetched.unpack()


def test_a_pool_without_room_is_reported_before_a_volume_is_made(fetched: Machine) -> None:
    fetched.fake.set_pool("pool", used_data_blocks=POOL_BYTES >> 16)
    before = fetched.fake.thin_ids("pool")
    with pytest.raises(NoSpace, match="thin pool 'pool' has 0 bytes free"):
        fetched.unpack()
    assert fetched.fake.thin_ids("pool") == before
    assert fetched.left_over() == []


def test_a_pool_that_is_not_there_is_reported(fetched: Machine) -> None:
    fetched.fake.reboot()
    with pytest.raises(OutOfOrder, match="is not active") as caught:
        fetched.unpack()
    assert "flyd_pool" in caught.value.hint
    fetched.pool()
    assert fetched.unpack().changed


@pytest.mark.parametrize("held", [False, True])
def test_what_a_killed_run_left_is_settled_by_any_other_arrow(fetched: Machine, held: bool) -> None:
    fetched.killed_at("unpack:written", fetched.unpack)
    [device] = [name for name in fetched.fake.devices() if name.startswith("base-")]
    if held:
        fetched.fake.hold(device)
    outcome = fetched.pool()
    [found] = outcome.settled
    assert found.subject == KEY.value
    if held:
        assert found.kind is RecoveryKind.NOT_RECOVERED
        assert found.text.startswith(f"left the unpack of {KEY} for later: device {device} is held by")
        fetched.fake.let_go()
        fetched.pool()
    else:
        assert (found.kind, found.text) == (RecoveryKind.OPERATION_UNDONE, f"undid the unpack of {KEY} ({device})")
    assert (fetched.records(Volume), fetched.records(Operation)) == ([], [])
    assert list(fetched.fake.devices()) == ["pool"]


# Sizes


def test_a_base_leaves_a_guest_1_gib_or_what_is_asked_for(fetched: Machine) -> None:
    fetched.pool(data_bytes=64 << 20)
    facts = fetched.unpack(size_bytes=0).facts
    assert facts["free_size"] == 1 << 30
    assert 1 << 30 < facts["size"] < (1 << 30) + (64 << 20)
    fetched.remove_base()
    facts = fetched.unpack(size_bytes=0, free_bytes=100 << 20).facts
    assert facts["free_size"] == 100 << 20
    assert 100 << 20 < facts["size"] < 164 << 20
    again = fetched.unpack(size_bytes=0, free_bytes=200 << 20)
    assert not again.changed
    assert again.facts["warnings"] == [
        "free_size: 200M counts when the base is made, which was with free_size: 100M; set size on flyd_snapshot to give one snapshot more"
    ]
    assert fetched.unpack(size_bytes=0, free_bytes=100 << 20).facts["warnings"] == []


def test_a_size_that_the_files_alone_exceed_is_refused_before_a_volume_is_made(fetched: Machine) -> None:
    before = fetched.fake.thin_ids("pool")
    with pytest.raises(BadInput, match=r"size: 5 is less than the 6 bytes that the files of .* have") as caught:
        fetched.unpack(size_bytes=5)
    assert "set size: 32M or more on flyd_unpack" in caught.value.hint
    assert fetched.fake.thin_ids("pool") == before


PLAN = PlanFigures(volume_blocks=100_000, inodes=1000, content_bytes=1, scattered_bytes=())


def test_a_computed_volume_that_is_too_small_is_a_fault_of_the_computation() -> None:
    with (
        pytest.raises(Internal, match=r"a fault in flyd\.lite itself: the volume of 500 MiB") as caught,
        size_named(PLAN, 500 << 20, is_computed=True),
        doing("writing the tree"),
    ):
        raise NoSpace("writing etc/passwd: no space left on the device", hint="df -h")
    assert "set size: 1G on flyd_unpack (role activate: activate_size)" in caught.value.hint
    assert "df -h" not in caught.value.hint
    assert caught.value.trail == ["writing the tree"]
    assert not caught.value.retryable


def test_a_volume_that_was_asked_for_and_is_too_small_is_no_space_with_the_size_that_suffices() -> None:
    with (
        pytest.raises(NoSpace, match="does not fit the volume of 300 MiB that size asked for") as caught,
        size_named(PLAN, 300 << 20, is_computed=False),
    ):
        raise NoSpace("no space left on the device", hint="df -h")
    assert re.match(r"set size: 4[0-9]{2}M or more on flyd_unpack", caught.value.hint)


def test_a_volume_on_which_mke2fs_makes_nothing_names_the_size_too() -> None:
    with pytest.raises(CommandFailed) as caught, size_named(PLAN, 1 << 20, is_computed=False):
        raise CommandFailed("mkfs.ext4 ended with 1", hint="read it", program="mkfs.ext4")
    assert caught.value.hint.startswith("set size: 4")

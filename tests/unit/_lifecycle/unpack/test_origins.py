# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A base that is made of that of an earlier generation, and every reason to make it fresh."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from module_utils._errors import NoSpace
from module_utils._lifecycle.store.base_record import BaseRecord
from module_utils._lifecycle.store.records import Image, RetiredImage, Volume
from module_utils._lifecycle.unpack import recording
from module_utils._lifecycle.unpack.options import Reuse
from module_utils._lifecycle.volumes.room import require_room
from module_utils._lifecycle.volumes.volumes import create_volume
from tests.unit._lifecycle.conftest import Stages
from tests.unit._lifecycle.machine import BASE_BYTES, KEY, LAYERS, Machine
from tests.unit.builders import images, tar

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="writing a tree with its owners needs root")
TREE = {"etc/kept": b"kept", "redis-server": b"#?"}
EARLIER_TREE = {"etc/kept": b"kept", "redis-server": b"#!"}


@pytest.fixture
def renewed(stages: Stages) -> Machine:
    """A host with a base, and the archive of the next generation."""
    return stages.at("renewed")


def earlier(machine: Machine) -> Volume:
    [retired] = machine.records(RetiredImage)
    return volume_of(machine, retired.base_ulid)


def newest(machine: Machine) -> Volume:
    [image] = machine.records(Image)
    return volume_of(machine, image.base_ulid)


def volume_of(machine: Machine, ulid: str) -> Volume:
    found: Volume = next(volume for volume in machine.records(Volume) if volume.ulid == ulid)
    return found


def tree_of(machine: Machine, volume: Volume) -> dict[str, bytes]:
    [tree] = machine.root.glob(f"volumes/*/{volume.thin_id}.tree")
    return {str(path.relative_to(tree)): path.read_bytes() for path in tree.rglob("*") if path.is_file()}


def change_record(machine: Machine, **values: Any) -> None:
    """Change the row of the earlier base."""
    with machine.host() as host, host.store.transaction():
        [record] = host.store.all(BaseRecord)
        host.store.put(record._replace(**values))


def manifest_path(machine: Machine) -> Path:
    [path] = (machine.state / "manifests").iterdir()
    return path


def test_the_next_base_is_made_of_the_earlier_one(renewed: Machine) -> None:
    facts = renewed.unpack_onto().facts
    origin, base = earlier(renewed), newest(renewed)
    assert facts["origin"] == origin.device_name
    assert (facts["reused_bytes"], facts["written_bytes"], facts["fresh_because"]) == (4, 2, None)
    assert tree_of(renewed, base) == TREE
    assert tree_of(renewed, origin) == EARLIER_TREE
    assert base.sectors == origin.sectors
    assert renewed.left_over() == []


def test_the_row_of_a_base_says_what_it_was_made_of(renewed: Machine) -> None:
    renewed.unpack_onto()
    rows = {row.base_ulid: row for row in renewed.records(BaseRecord)}
    base, origin = rows[newest(renewed).ulid], rows[earlier(renewed).ulid]
    assert (base.origin_ulid, base.depth, base.inodes) == (origin.base_ulid, 1, origin.inodes)
    assert (origin.origin_ulid, origin.depth) == ("", 0)


def test_the_file_system_is_neither_made_nor_without_a_check(renewed: Machine) -> None:
    renewed.unpack_onto()
    programs = [line.argv[0] for line in renewed.ran]
    assert programs.count("mkfs.ext4") == 0
    assert programs.count("e2fsck") == 1


def test_more_free_space_lets_it_grow(renewed: Machine) -> None:
    facts = renewed.unpack_grown().facts
    assert "resize2fs" in [line.argv[0] for line in renewed.ran]
    assert facts["origin"] == earlier(renewed).device_name
    assert newest(renewed).sectors > earlier(renewed).sectors
    assert tree_of(renewed, newest(renewed)) == TREE


def test_a_base_outlives_the_one_that_it_was_made_of(renewed: Machine) -> None:
    renewed.unpack_onto()
    [retired] = renewed.records(RetiredImage)
    renewed.remove_base(sha256=retired.sha256)
    assert tree_of(renewed, newest(renewed)) == TREE
    [row] = renewed.records(BaseRecord)
    assert row.base_ulid == newest(renewed).ulid
    assert renewed.left_over() == []


def test_a_third_generation_is_made_of_the_second(renewed: Machine) -> None:
    second = renewed.unpack_onto().facts["base"]
    renewed.s3.put(KEY.value, images.docker_archive((*LAYERS, tar.tar(tar.file(b"more", b"m")))))
    renewed.fetch()
    assert renewed.unpack_onto().facts["origin"] == second
    assert sorted(row.depth for row in renewed.records(BaseRecord)) == [0, 1, 2]


def test_a_host_without_the_pool_has_no_manifest_either(renewed: Machine) -> None:
    renewed.unpack_onto()
    renewed.tear_down()
    assert (renewed.files_in("manifests"), renewed.records(BaseRecord)) == ([], [])
    assert renewed.left_over() == []


def test_check_mode_predicts_nothing_of_it(renewed: Machine) -> None:
    facts = renewed.unpack(size_bytes=0, dry_run=True).facts
    assert [facts[name] for name in ("origin", "reused_bytes", "written_bytes", "fresh_because")] == [None] * 4


def test_a_base_that_was_made_of_another_warns_of_never(renewed: Machine) -> None:
    renewed.unpack_onto()
    outcome = renewed.unpack(size_bytes=0, reuse=Reuse.NEVER)
    assert outcome.changed is False
    assert any("reuse is never, but the base was made of base-" in text for text in outcome.facts["warnings"])


# Fresh


def flip(machine: Machine) -> None:
    path = manifest_path(machine)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


REASONS: dict[str, Callable[[Machine], object]] = {
    "no_manifest": flip,
    "other_filesystem": lambda machine: change_record(machine, recipe="xfs 1"),
    "too_many_before_it": lambda machine: change_record(machine, depth=63),
    "too_few_inodes": lambda machine: change_record(machine, inodes=7),
}


@pytest.mark.parametrize("reason", REASONS)
def test_a_doubt_makes_it_fresh(renewed: Machine, reason: str) -> None:
    REASONS[reason](renewed)
    facts = renewed.unpack_onto().facts
    assert (facts["fresh_because"], facts["origin"], facts["written_bytes"]) == (reason, None, facts["bytes"])
    assert tree_of(renewed, newest(renewed)) == TREE


@pytest.mark.parametrize("damage", [os.unlink, os.truncate])
def test_a_manifest_that_is_gone_or_cut_makes_it_fresh(renewed: Machine, damage: Callable[..., object]) -> None:
    path = manifest_path(renewed)
    damage(path, 10) if damage is os.truncate else damage(path)
    assert renewed.unpack_onto().facts["fresh_because"] == "no_manifest"


def test_a_manifest_of_another_version_makes_it_fresh(renewed: Machine) -> None:
    import hashlib

    path = manifest_path(renewed)
    path.write_bytes(b"flyd manifest 99 little\n" + path.read_bytes())
    change_record(renewed, manifest_sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    assert renewed.unpack_onto().facts["fresh_because"] == "no_manifest"


def test_a_base_of_an_earlier_release_has_no_manifest(renewed: Machine) -> None:
    with renewed.host() as host, host.store.transaction():
        host.store.rows("DELETE FROM bases")
    assert renewed.unpack_onto().facts["fresh_because"] == "no_manifest"


def test_a_base_in_another_pool_is_no_origin(renewed: Machine) -> None:
    renewed.remove_all()
    assert renewed.unpack_onto().facts["fresh_because"] == "no_earlier_base"


def test_a_smaller_size_makes_it_fresh(renewed: Machine) -> None:
    assert renewed.unpack(size_bytes=64 << 20).facts["fresh_because"] == "smaller_size"
    assert newest(renewed).sectors * 512 == 64 << 20


def test_a_size_without_room_for_both_trees_makes_it_fresh(stages: Stages) -> None:
    machine = stages.at("fetched")
    machine.unpack(size_bytes=BASE_BYTES)
    machine.s3.put(KEY.value, images.docker_archive((LAYERS[0],)))
    machine.fetch()
    assert machine.unpack(size_bytes=BASE_BYTES).facts["fresh_because"] == "no_room"


def test_another_image_makes_it_fresh(renewed: Machine) -> None:
    renewed.s3.put(KEY.value, images.docker_archive((tar.tar(tar.file(b"other", b"o" * 5000)),)))
    renewed.fetch()
    assert renewed.unpack_onto().facts["fresh_because"] == "too_different"


def test_never_makes_it_fresh(renewed: Machine) -> None:
    facts = renewed.unpack(size_bytes=0, reuse=Reuse.NEVER).facts
    assert (facts["fresh_because"], facts["origin"]) == ("reuse_never", None)


def test_a_tree_that_is_not_what_its_manifest_says_makes_it_fresh(renewed: Machine) -> None:
    """As with a database and manifests that were restored from a backup."""
    [tree] = renewed.root.glob(f"volumes/*/{earlier(renewed).thin_id}.tree")
    (tree / "redis-server").unlink()
    facts = renewed.unpack_onto().facts
    assert (facts["fresh_because"], facts["origin"]) == ("failed", None)
    assert tree_of(renewed, newest(renewed)) == TREE
    [line] = [line for line in renewed.log() if line["event"] == "origin not used"]
    assert "redis-server" in line["error"]
    assert renewed.left_over() == []


def test_a_volume_that_is_lost_makes_it_fresh(renewed: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pool loses the origin between the look and the snapshot."""

    def lost(*given: Any, **options: Any) -> Any:
        if options.get("origin"):
            options["origin"] = options["origin"]._replace(thin_id=4711)
        return create_volume(*given, **options)

    monkeypatch.setattr("module_utils._lifecycle.unpack.make_base.create_volume", lost)
    assert renewed.unpack_onto().facts["fresh_because"] == "failed"
    assert renewed.left_over() == []


def test_a_pool_without_room_for_the_change_has_room_for_a_fresh_one(
    renewed: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: Any, **options: Any) -> None:
        if options.get("snapshots"):
            raise NoSpace("no metadata", hint="")
        require_room(*given, **options)

    monkeypatch.setattr("module_utils._lifecycle.unpack.base_size.require_room", full)
    assert renewed.unpack_onto().facts["fresh_because"] == "no_room"


def test_an_archive_that_has_rotted_is_refused_and_not_tried_again(renewed: Machine) -> None:
    [image] = renewed.records(Image)
    path = renewed.state / "archives" / image.sha256
    data = bytearray(path.read_bytes())
    data[600] ^= 1
    path.write_bytes(data)
    with pytest.raises(Exception, match="sha256"):
        renewed.unpack_onto()
    assert [line for line in renewed.log() if line["event"] == "origin not used"] == []
    assert not path.exists()


def test_a_manifest_that_cannot_be_kept_costs_no_base(renewed: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_given: object) -> str:
        raise NoSpace("the disk is full", hint="")

    monkeypatch.setattr(recording, "keep_manifest", full)
    renewed.unpack_onto()
    [line] = [line for line in renewed.log() if line["event"] == "manifest not kept"]
    assert line["base"] == newest(renewed).device_name
    assert renewed.left_over() == []
    assert json.loads(renewed.records(Image)[0].summary)["origin"] == earlier(renewed).device_name


def test_a_manifest_of_no_volume_is_swept(renewed: Machine) -> None:
    """As with a database that was made again from an older copy."""
    stranger = manifest_path(renewed).with_name("01J9Z3M4N5P6Q7R8S9T0V1W2X3")
    stranger.write_bytes(b"")
    assert any("01J9Z3M4N5P6Q7R8S9T0V1W2X3" in line for line in renewed.left_over())
    renewed.unpack_onto()
    assert renewed.left_over() == []


# Layers that the earlier base has

LARGE = tar.tar(tar.file(b"etc/large", random.Random(1).randbytes(128 << 10)))


def with_next(machine: Machine, generations: Sequence[Sequence[bytes]]) -> Machine:
    """The host with a base of the first of two generations, given by their layers, and the archive of the second."""
    first, second = (images.docker_archive(layers) for layers in generations)
    machine.s3.put(KEY.value, first)
    machine.fetch()
    machine.unpack_onto()
    machine.s3.put(KEY.value, second)
    machine.fetch()
    return machine


@pytest.fixture
def large(stages: Stages) -> Machine:
    """A host with a base that has a large layer, and the archive of the next generation, which has the same layer."""
    return with_next(stages.at("roomy"), [(LARGE, tar.tar(tar.file(b"app", b"%d" % number))) for number in range(2)])


def archive_of(machine: Machine) -> Path:
    [image] = machine.records(Image)
    return Path(machine.state, "archives", image.sha256)


def unread_layers(machine: Machine) -> int:
    found: int = json.loads(machine.records(Image)[0].summary)["unread_layers"]
    return found


def test_a_layer_that_the_earlier_base_has_is_not_read(large: Machine) -> None:
    facts = large.unpack_onto().facts
    assert (facts["fresh_because"], facts["written_bytes"], unread_layers(large)) == (None, 1, 1)
    assert tree_of(large, newest(large))["app"] == b"1"
    assert large.left_over() == []


def test_an_archive_that_was_touched_is_read_as_a_whole(large: Machine) -> None:
    os.utime(archive_of(large))
    facts = large.unpack_onto().facts
    assert (facts["fresh_because"], unread_layers(large)) == (None, 0)


def test_what_is_made_fresh_after_all_is_read_as_a_whole(large: Machine) -> None:
    facts = large.unpack(size_bytes=64 << 20).facts
    assert (facts["fresh_because"], facts["written_bytes"], unread_layers(large)) == ("smaller_size", facts["bytes"], 0)
    assert tree_of(large, newest(large))["app"] == b"1"
    assert large.left_over() == []

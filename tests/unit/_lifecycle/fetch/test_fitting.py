"""An image that cannot fit its pool is refused before its bytes travel, and nothing is asked for an image that can."""

from __future__ import annotations

import os

import pytest

from module_utils._errors import NoSpace
from module_utils._lifecycle.growth.policy import PolicyRequest
from module_utils._lifecycle.store.base_record import BaseRecord
from module_utils._names import ObjectKey
from module_utils._source.download.rate import Rate
from tests.unit._lifecycle.conftest import Stages
from tests.unit._lifecycle.machine import KEY, POOL_BYTES, Machine
from tests.unit.builders import images, tar

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="writing a tree with its owners needs root")
HALF = tar.tar(tar.file(b"half", b"x" * (POOL_BYTES // 2)))
MANY = tar.tar(tar.file(b"more", b"y" * (POOL_BYTES // 2 + 1000)))
TOO_LARGE = images.docker_archive([HALF, MANY])


def gets(machine: Machine) -> list[str]:
    return [line for line in machine.s3.requests() if line.startswith("GET")]


@pytest.mark.parametrize("dry_run", [True, False])
def test_an_image_larger_than_the_room_is_refused_before_its_bytes_travel(pooled: Machine, *, dry_run: bool) -> None:
    pooled.s3.put(KEY.value, TOO_LARGE)
    pooled.s3.forget()
    before = pooled.everything()["devices"]
    with pytest.raises(
        NoSpace, match=r"does not fit the thin pool 'pool': its layers have 4 MiB.*nothing was downloaded"
    ) as caught:
        pooled.fetch(pool="pool", dry_run=dry_run)
    assert "set data_size: 64M or more on flyd_pool (role activate: activate_pool_data_size)" in caught.value.hint
    assert caught.value.details["needed_bytes"] == len(HALF) + len(MANY)
    assert pooled.everything()["devices"] == before
    assert pooled.left_over() == []
    assert 0 < len(gets(pooled)) < 6, "only headers and the list of layers"


def test_what_is_given_out_already_counts(pooled: Machine) -> None:
    pooled.fake.set_pool("pool", used_data_blocks=(POOL_BYTES >> 16) * 3 // 4)
    pooled.s3.put(KEY.value, images.docker_archive([HALF]))
    with pytest.raises(NoSpace, match="the pool has 1 MiB free"):
        pooled.fetch(pool="pool")


def test_a_pool_that_may_grow_is_judged_by_what_it_can_grow_to(pooled: Machine) -> None:
    pooled.s3.put(KEY.value, TOO_LARGE)
    pooled.pool(policy=PolicyRequest.parse("4M", "", "1M"))
    with pytest.raises(NoSpace, match="MiB free beyond its reserve") as caught:
        pooled.fetch(pool="pool")
    assert "activate_pool_max_size" in caught.value.hint
    pooled.pool(policy=PolicyRequest.parse("1G", "", "1M"))
    assert pooled.fetch(pool="pool").changed


def test_without_a_named_pool_nothing_is_refused(pooled: Machine) -> None:
    pooled.s3.put(KEY.value, TOO_LARGE)
    assert pooled.fetch().changed


def test_an_image_that_fits_costs_no_further_request_and_a_second_run_neither(pooled: Machine) -> None:
    pooled.fetch(pool="pool", dry_run=True)
    pooled.s3.forget()
    assert pooled.fetch(pool="pool").changed
    with_pool = len(pooled.s3.requests())
    pooled.remove_archive()
    pooled.s3.forget()
    assert pooled.fetch().changed
    assert len(pooled.s3.requests()) == with_pool
    pooled.fake.set_pool("pool", used_data_blocks=POOL_BYTES >> 16)
    pooled.s3.forget()
    assert not pooled.fetch(pool="pool").changed, "it is here, whatever room there is now"
    assert len(pooled.s3.requests()) == 1


def test_of_an_archive_of_several_images_only_one_is_unpacked(pooled: Machine) -> None:
    both = images.docker_members([HALF]) | {b"other.tar": MANY}
    listed = both[b"manifest.json"][:-1] + b', {"Config": "c", "Layers": ["other.tar"]}]'
    pooled.s3.put(KEY.value, images.archive({**both, b"manifest.json": listed}))
    assert pooled.fetch(pool="pool").changed


def test_a_family_is_as_large_as_its_layers(pooled: Machine) -> None:
    key = ObjectKey("family/")
    pooled.s3.put("family/1.tar", HALF)
    pooled.s3.put("family/2.tar", MANY)
    pooled.s3.forget()
    with pytest.raises(NoSpace, match="does not fit the thin pool 'pool'"):
        pooled.fetch(key=key, pool="pool")
    assert not any("family/" in line.split("?")[0] and ".tar" in line for line in gets(pooled))


def test_check_mode_on_a_virgin_host_knows_the_pool_that_would_be_made(pooled: Machine) -> None:
    pooled.s3.put(KEY.value, TOO_LARGE)
    assert pooled.fetch(pool="other", dry_run=True).changed, "a pool that is not known is not judged"
    with pytest.raises(NoSpace, match="does not fit the thin pool 'other'") as caught:
        pooled.fetch(pool="other", pool_bytes=POOL_BYTES, dry_run=True)
    assert "beyond its reserve of 10 %" in caught.value.msg
    assert pooled.fetch(pool="other", pool_bytes=4 * POOL_BYTES, dry_run=True).changed
    assert pooled.fetch(pool="pool", pool_bytes=4 * POOL_BYTES, dry_run=True).changed, "it would have grown"


@pytest.fixture
def nearly_full(stages: Stages) -> Machine:
    """A host with a base of 24 MiB of files in a pool that has 10 MiB free."""
    machine = stages.at("pooled")
    machine.pool(data_bytes=64 << 20)
    machine.s3.put(KEY.value, images.docker_archive([KEPT]))
    machine.fetch()
    machine.unpack_onto()
    machine.fake.set_pool("pool", used_data_blocks=(54 << 20) >> 16)
    return machine


KEPT = tar.tar(tar.file(b"kept", b"k" * (24 << 20)))
SMALL, LARGE = (tar.tar(tar.file(b"changed", b"c" * size_bytes)) for size_bytes in (1 << 20, 20 << 20))


@needs_root
@pytest.mark.parametrize("key", [KEY, ObjectKey("another.tar")])
def test_an_image_whose_base_can_be_made_of_an_earlier_one_is_not_refused(nearly_full: Machine, key: ObjectKey) -> None:
    nearly_full.s3.put(key.value, images.docker_archive([KEPT, SMALL]))
    assert nearly_full.fetch(key=key, pool="pool", dry_run=True).changed
    assert nearly_full.fetch(key=key, pool="pool").changed


@needs_root
def test_flyd_unpack_then_makes_it_of_the_earlier_one(nearly_full: Machine) -> None:
    nearly_full.s3.put(KEY.value, images.docker_archive([KEPT, SMALL]))
    nearly_full.fetch(pool="pool")
    facts = nearly_full.unpack_onto().facts
    assert (facts["fresh_because"], facts["reused_bytes"]) == (None, 24 << 20)


@needs_root
def test_what_is_too_large_for_the_difference_too_is_refused_and_would_be_by_flyd_unpack(nearly_full: Machine) -> None:
    nearly_full.s3.put(KEY.value, images.docker_archive([KEPT, LARGE]))
    with pytest.raises(
        NoSpace, match=r"layers have 44 MiB, of which an earlier base can save \d+(\.\d)? MiB at most.*10 MiB"
    ) as caught:
        nearly_full.fetch(pool="pool")
    assert 10 << 20 < int(caught.value.details["needed_bytes"]) < 20 << 20
    nearly_full.fetch()
    with pytest.raises(NoSpace, match="has 10 MiB free"):
        nearly_full.unpack_onto()


@needs_root
def test_a_base_that_none_can_be_made_of_saves_nothing(nearly_full: Machine) -> None:
    with nearly_full.host() as host, host.store.transaction():
        [record] = host.store.all(BaseRecord)
        host.store.put(record._replace(manifest_sha256=""))
    nearly_full.s3.put(KEY.value, images.docker_archive([KEPT, SMALL]))
    with pytest.raises(NoSpace, match="its layers have 25 MiB, and the pool has 10 MiB free"):
        nearly_full.fetch(pool="pool")


def test_the_headers_are_read_no_faster_than_the_rate(pooled: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[int] = []
    monkeypatch.setattr(Rate, "wait", lambda _self, count, _check: waited.append(count))
    pooled.s3.put(KEY.value, TOO_LARGE)
    pooled.s3.forget()
    with pytest.raises(NoSpace):
        pooled.fetch(pool="pool", max_rate=1 << 30)
    assert sum(waited) > 512
    assert 0 < len(gets(pooled)) <= len(waited)

"""Pools that are full, damaged or exchanged: an error in time, nothing that hangs, and all is well again once the trouble is over."""

from __future__ import annotations

import re
import textwrap
import time

import pytest

from tests.campaigns.crashes import DAMAGE, DOWN, Crashes
from tests.campaigns.harness.sample_images import KEY
from tests.campaigns.harness.target import STATE_DIR, Shell, Step, Target
from tests.e2e.machine import ROOT
from tests.survival.trouble import (
    DATA_SECTORS,
    END_FAULTY,
    LONGEST_SECONDS,
    METADATA_SECTORS,
    SNAPSHOT,
    FaultyDisk,
    another,
    before_the_tree_is_written,
    prepared,
    refused,
)

pytestmark = pytest.mark.timeout(1800)

# There was room enough, and before the tree is written a guest takes all of it.
FILLED_BY_A_GUEST = f"dd if=/dev/urandom of={SNAPSHOT} bs=1M oflag=direct"
ALLOCATED = f"stat --format %b {STATE_DIR}/pools/*/data"


def test_a_pool_grows_while_a_guest_writes(crashes: Crashes) -> None:
    steps = prepared(crashes)
    crashes.target.ssh(
        f"nohup sh -c 'for i in $(seq 20); do dd if=/dev/zero of={SNAPSHOT} bs=64k seek=$((600 + i)) count=1 oflag=direct status=none"
        " || touch /root/failed; sleep 0.2; done; touch /root/written' > /dev/null 2>&1 &"
    )
    grown, again = crashes.succeed([steps["grow"], steps["grow"]])
    assert (grown["changed"], again["changed"]) == (True, False)
    assert grown["data"]["size"] == 320 << 20
    assert crashes.target.ssh(
        "sleep 8; ls /root/written /root/failed 2> /dev/null; rm -f /root/written", check=False
    ).split() == ["/root/written"]
    assert crashes.target.violations() == []


def test_a_pool_full_of_data_refuses_in_time_and_works_again_when_it_has_grown(crashes: Crashes) -> None:
    steps = prepared(crashes, data_size="64M")
    crashes.target.ssh(f"dd if=/dev/urandom of={SNAPSHOT} bs=1M oflag=direct status=none", check=False)
    assert refused(crashes, another("second"))["error_kind"] == "no_space"
    assert refused(crashes, Step("flyd_pool", {"data_size": "64M"}))["error_kind"] == "no_space"
    results = crashes.succeed([Step("flyd_pool", {"data_size": "256M"}), another("second")])
    assert [result["changed"] for result in results] == [True, True]
    before = int(crashes.target.ssh(ALLOCATED))
    removed = crashes.succeed([steps["remove snapshot"]])[0]
    assert removed["freed_bytes"] > 40 << 20
    assert before - int(crashes.target.ssh(ALLOCATED)) > (40 << 20) // 512


def test_a_pool_that_a_guest_fills_while_an_image_is_unpacked_is_reported_in_time_and_the_room_comes_back(
    crashes: Crashes,
) -> None:
    prepared(crashes, data_size="64M")
    _pool, fetch, unpack, snapshot = crashes.activation(1)
    crashes.succeed([fetch])
    with before_the_tree_is_written(crashes, FILLED_BY_A_GUEST):
        assert refused(crashes, unpack)["error_kind"] == "no_space"
    assert "base" not in crashes.target.ssh("dmsetup ls")
    crashes.succeed([Step("flyd_pool", {"data_size": "256M"}), crashes.steps()["remove snapshot"], unpack, snapshot])
    assert crashes.target.violations() == []


def test_a_pool_full_of_metadata_refuses_in_time_and_works_again_when_it_has_grown(crashes: Crashes) -> None:
    steps = prepared(crashes, metadata_size="256K", min_free_percent=0)
    _pool, fetch, unpack, _snapshot = crashes.activation(1)
    # Each volume takes a block of metadata, and there are 64.
    crashes.target.ssh(
        'for id in $(seq 9001 9070); do dmsetup message pool 0 "create_thin $id" || break; echo $id; done > /root/theirs',
        check=False,
    )
    pool = Step("flyd_pool", {**steps["pool"].options, "min_free_percent": 5})
    results = [refused(crashes, another("second"))]
    crashes.succeed([fetch])
    results += [refused(crashes, step) for step in (unpack, pool)]
    for result in results:
        assert result["error_kind"] in ("no_space", "damaged_pool"), result
        assert re.search(r"metadata_size|larger metadata|state: repaired", result["hint"]), result
    if "damaged_pool" in [result["error_kind"] for result in results]:
        crashes.succeed([Step("flyd_pool", {"state": "repaired", "metadata_size": "4M"})])
    crashes.succeed(
        [
            Step("flyd_pool", {"data_size": "256M", "metadata_size": "8M", "min_free_percent": 0}),
            unpack,
            another("second"),
        ]
    )
    crashes.target.ssh('for id in $(cat /root/theirs); do dmsetup message pool 0 "delete $id"; done', check=False)
    assert crashes.target.violations() == []


def test_damaged_metadata_is_refused_and_repaired_when_asked(crashes: Crashes) -> None:
    steps = prepared(crashes)
    device = crashes.target.ssh(f"echo {SNAPSHOT}")
    digest = crashes.target.ssh(f"sha256sum < {SNAPSHOT}")
    crashes.target.ssh(DAMAGE)
    result = refused(crashes, steps["pool"])
    assert (result["error_kind"], "state: repaired" in result["hint"]) == ("damaged_pool", True)
    mended, again, pool, snapshot = crashes.succeed(
        [steps["repair"], steps["repair"], steps["pool"], steps["snapshot"]]
    )
    assert (mended["changed"], mended["lost"], len(mended["bases"])) == (True, [], 1)
    assert [one["changed"] for one in (again, pool, snapshot)] == [False] * 3
    assert crashes.target.ssh(f"echo {SNAPSHOT}") == device
    assert crashes.target.ssh(f"sha256sum < {SNAPSHOT}") == digest


def test_a_pool_that_the_kernel_wants_checked_is_refused_and_repaired_when_asked(crashes: Crashes) -> None:
    """Writes of metadata fail, but for its first block, where the kernel puts down that it must be checked."""
    steps, sound = prepared(crashes), f"0 {METADATA_SECTORS} linear {{loop}} 0"
    crashes.succeed([steps["tear down"]])
    disk = FaultyDisk(crashes, "metadata", sound)
    try:
        crashes.succeed([disk.pool, steps["unpack"], steps["snapshot"]])
        crashes.target.ssh("rm -f /root/checked.json")
        assert crashes.target.violations("--bases", "/root/checked.json") == []
        disk.become(f"0 8 linear {{loop}} 0\n8 {METADATA_SECTORS - 8} flakey {{loop}} 8 0 1 1 error_writes")
        crashes.target.ssh(f"dd if=/dev/urandom of={SNAPSHOT} bs=64k count=16 oflag=direct conv=fsync", check=False)
        assert "needs_check" in crashes.target.ssh("dmsetup status pool")
        disk.become(sound)
        for step in (disk.pool, another("second")):
            result = refused(crashes, step)
            assert (result["error_kind"], "state: repaired" in result["hint"]) == ("damaged_pool", True)
        crashes.succeed([steps["repair"]])
        assert "needs_check" not in crashes.target.ssh("dmsetup status pool")
        results = crashes.succeed([disk.pool, another("second")])
        assert [result["changed"] for result in results] == [False, True]
        assert crashes.target.violations("--bases", "/root/checked.json") == []
    finally:
        crashes.session.drive([steps["tear down"]])
        crashes.target.ssh(END_FAULTY)


@pytest.mark.parametrize("first_mib", [1, 2, 3, 4])
def test_a_disk_that_fails_below_a_part_of_what_is_written_leaves_no_base(crashes: Crashes, first_mib: int) -> None:
    """Contents are written back by the kernel, whose errors unmounting does not tell: syncfs has to."""
    steps = prepared(crashes)
    [said] = crashes.succeed([Shell(f"{Target.checker('--trees')} || true")])
    tree = Target.report_of(said["stdout"])["trees"][KEY]
    crashes.succeed([steps["tear down"]])
    first, end = first_mib * 2048, first_mib * 2048 + 1024
    parts = [
        f"0 {first} linear {{loop}} 0",
        f"{first} 1024 error",
        f"{end} {DATA_SECTORS - end} linear {{loop}} {end}",
    ]
    disk = FaultyDisk(crashes, "data", "\n".join(parts))
    try:
        crashes.succeed([disk.pool])
        result = crashes.session.drive([steps["unpack"]])[0]
        [info] = crashes.succeed([Step("flyd_info", {"what": ["images"]})])
        assert result["driven"] == 0 or info["images"][0]["state"] == "fetched", (result, info)
        disk.become(f"0 {DATA_SECTORS} linear {{loop}} 0")
        crashes.succeed([disk.pool, steps["unpack"], steps["snapshot"]])
        assert crashes.target.violations("--tree", f"{KEY}={tree}") == []
        print(f"an unpacking came to {result.get('error_kind')}: {result.get('msg')}")
        assert first_mib != 2 or result["driven"] == 1, "nothing was written where the disk fails"
    finally:
        crashes.session.drive([steps["tear down"]])
        crashes.target.ssh(END_FAULTY)


def untouched(crashes: Crashes) -> str:
    """All that a refusal could have changed."""
    return crashes.target.ssh(
        f"dmsetup table; dmsetup status --noflush; dmsetup info -c --noheadings -o name,uuid; losetup --list; sha256sum {STATE_DIR}/pools/*/metadata"
    )


def test_a_store_from_a_backup_is_refused_and_nothing_changes(crashes: Crashes) -> None:
    steps = prepared(crashes)
    crashes.target.ssh(f"cp {STATE_DIR}/flyd.db /root/backup.db")
    crashes.succeed([another("second"), another("third")])
    crashes.target.ssh(f"cp {STATE_DIR}/flyd.db /root/newer.db; cp /root/backup.db {STATE_DIR}/flyd.db")
    before = untouched(crashes)
    for step in (steps["pool"], another("fourth")):
        assert refused(crashes, step)["error_kind"] == "corrupt_store"
    assert untouched(crashes) == before
    crashes.target.ssh(f"cp /root/newer.db {STATE_DIR}/flyd.db")
    assert [one["changed"] for one in crashes.succeed([steps["pool"], another("third")])] == [False, False]


def test_a_pool_made_again_in_the_same_files_is_refused_and_nothing_changes(crashes: Crashes) -> None:
    steps = prepared(crashes)
    table = crashes.target.ssh("dmsetup table pool").strip()
    crashes.target.ssh(f"{DOWN}; cp {STATE_DIR}/pools/*/metadata /root/metadata")
    anew = "; ".join(
        [
            f"dd if=/dev/zero of=$(echo {STATE_DIR}/pools/*/metadata) bs=4k count=1 conv=notrunc status=none",
            f"metadata=$(losetup --find --show {STATE_DIR}/pools/*/metadata)",
            f"data=$(losetup --find --show {STATE_DIR}/pools/*/data)",
            f'dmsetup create anew --table "0 {table.split()[1]} thin-pool $metadata $data 128 409 1 error_if_no_space"',
            'dmsetup message anew 0 "create_thin 1"',
            "dmsetup remove anew",
            "losetup --detach-all",
        ]
    )
    crashes.target.ssh(anew)
    before = untouched(crashes)
    for step in (steps["pool"], Step("flyd_pool", {"state": "repaired"})):
        result = crashes.session.drive([step])[0]
        assert not result.get("changed"), result
        assert untouched(crashes) == before
    assert refused(crashes, steps["pool"])["error_kind"] == "corrupt_store"
    crashes.target.ssh(f"cp /root/metadata $(echo {STATE_DIR}/pools/*/metadata)")
    assert crashes.succeed([steps["pool"], steps["snapshot"]])[1]["changed"] is False
    assert crashes.target.violations() == []


def test_a_foreign_pool_of_the_same_name_with_similar_volumes_is_left_alone(crashes: Crashes) -> None:
    steps = prepared(crashes)
    device = crashes.target.ssh(f"echo {SNAPSHOT}").strip().rpartition("/")[2]
    theirs = "; ".join(
        [
            DOWN,
            "truncate -s 4M /root/their-metadata; truncate -s 64M /root/their-data",
            "metadata=$(losetup --find --show /root/their-metadata); data=$(losetup --find --show /root/their-data)",
            'dmsetup create pool --uuid LVM-theirs --table "0 131072 thin-pool $metadata $data 128 0"',
            'for id in 1 2 7; do dmsetup message pool 0 "create_thin $id"; done',
            f'dmsetup create {device} --uuid theirs --table "0 8192 thin /dev/mapper/pool 1"',
        ]
    )
    crashes.target.ssh(theirs)
    before = untouched(crashes)
    for step, kind in (
        (steps["pool"], "foreign_device"),
        (another("second"), "out_of_order"),
        (steps["remove snapshot"], "out_of_order"),
    ):
        assert refused(crashes, step)["error_kind"] == kind
        assert untouched(crashes) == before
    crashes.target.ssh(f"dmsetup remove {device}; dmsetup remove pool; losetup --detach-all")
    assert crashes.succeed([steps["pool"], steps["snapshot"]])[1]["changed"] is False
    assert crashes.target.violations() == []


def commands_of_the_guide() -> str:
    """What docs/errors.md has an operator do when the database is damaged."""
    blocks = re.findall(r"(?m)(?:^    .*\n)+", (ROOT / "docs/errors.md").read_text())
    [found] = [textwrap.dedent(block) for block in blocks if f"mv {STATE_DIR} " in block]
    return found


def test_a_damaged_database_is_refused_by_all_and_the_guide_recovers_the_host(
    crashes: Crashes,
) -> None:
    steps = prepared(crashes)
    crashes.target.ssh(f"dd if=/dev/urandom of={STATE_DIR}/flyd.db bs=4k count=2 conv=notrunc,fsync status=none")
    before = untouched(crashes)
    for name in ("pool", "fetch", "unpack", "snapshot", "tear down"):
        assert refused(crashes, steps[name])["error_kind"] == "corrupt_store"
    assert untouched(crashes) == before
    crashes.target.ssh(commands_of_the_guide())
    assert crashes.target.ssh("dmsetup ls; losetup --list").split() == ["No", "devices", "found"]
    life = [steps[name] for name in ("pool", "fetch", "unpack", "snapshot")]
    assert [one["changed"] for one in crashes.succeed([*life, *life])] == [True] * 4 + [False] * 4
    assert crashes.target.violations() == []
    crashes.target.ssh(f"rm -r {STATE_DIR}.damaged")


def fill(free_kib: int) -> str:
    """Take all of the file system of the state directory but so much."""
    return f"""set -e
free=$(df --output=avail -k {STATE_DIR} | tail -1)
fallocate -l $((free - {max(free_kib, 2000)}))K {STATE_DIR}/filler
test {free_kib} -ge 2000 || dd if=/dev/zero of={STATE_DIR}/filling bs=4k status=none 2> /dev/null || true
test {free_kib} -ge 2000 || truncate -s -{free_kib}K {STATE_DIR}/filling
sync
"""


def test_a_host_disk_that_is_full_at_any_write_is_reported_and_all_is_well_once_there_is_room(crashes: Crashes) -> None:
    steps = crashes.steps()
    life = [steps[name] for name in ("pool", "fetch", "unpack", "snapshot")]
    crashes.succeed([steps["tear down"], steps["remove archive"]])
    crashes.target.ssh(
        f"truncate -s 400M /root/small.img && mkfs.ext4 -q -m 0 /root/small.img && mv {STATE_DIR} /root/away && mkdir -m 0700 {STATE_DIR}"
        f" && mount -o loop /root/small.img {STATE_DIR} && chmod 0700 {STATE_DIR}"
    )
    came: list[tuple[int, int, str]] = []
    try:
        for number, free_kib in (
            (0, 0),
            (0, 64),
            (0, 265_000),
            (1, 0),
            (1, 16),
            (1, 1000),
            (2, 0),
            (2, 8),
            (3, 0),
            (3, 8),
        ):
            crashes.succeed([*life[:number], Shell(fill(free_kib))])
            begun = time.monotonic()
            [result] = crashes.session.drive([life[number]])
            assert time.monotonic() - begun < LONGEST_SECONDS
            came.append((number, free_kib, result.get("error_kind", "done")))
            crashes.target.ssh(f"rm -f {STATE_DIR}/filler {STATE_DIR}/filling")
            assert [one["changed"] for one in crashes.succeed([*life, *life])[4:]] == [False] * 4
            assert crashes.target.violations() == []
            crashes.succeed([steps["tear down"], steps["remove archive"]])
    finally:
        crashes.session.drive([steps["tear down"]])
        crashes.target.ssh(f"umount {STATE_DIR}; rmdir {STATE_DIR}; mv /root/away {STATE_DIR}")
    assert {kind for *_where, kind in came} <= {"no_space", "done"}, came
    assert {number for number, _free, kind in came if kind == "no_space"} == {0, 1, 2, 3}, came

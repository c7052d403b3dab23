"""Hosts on which something other than the pool is in trouble: a disk that hangs, udev, memory, /tmp, a commit that fails."""

from __future__ import annotations

import json
import shlex
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from tests.campaigns.crashes import Crashes
from tests.campaigns.harness.target import STATE_DIR, Step, Target
from tests.survival.trouble import (
    DATA_SECTORS,
    END_FAULTY,
    FaultyDisk,
    another,
    before_the_tree_is_written,
    hangs,
    prepared,
    refused,
)

pytestmark = pytest.mark.timeout(1800)

LIFE = ("pool", "fetch", "unpack", "snapshot")
UDEV = "systemd-udevd.service systemd-udevd-kernel.socket systemd-udevd-control.socket"


def impatient(step: Step, seconds: float) -> Step:
    """The step with a time limit for its programs and its writing of a tree."""
    return replace(step, options={**step.options, "command_timeout": seconds, "retries": 0})


def lives(crashes: Crashes) -> None:
    """From wherever things are to an activated image, then nothing left to do, and nothing that should not be there."""
    steps = crashes.steps()
    life = [steps[name] for name in LIFE]
    assert [one["changed"] for one in crashes.succeed([*life, *life])][4:] == [False] * 4
    assert crashes.target.violations() == []


def test_a_disk_that_hangs_while_the_tree_is_written_is_reported_in_time_and_nothing_is_lost(crashes: Crashes) -> None:
    steps = prepared(crashes)
    crashes.succeed([steps["tear down"]])
    disk = FaultyDisk(crashes, "data", f"0 {DATA_SECTORS} linear {{loop}} 0")
    try:
        crashes.succeed([disk.pool])
        with before_the_tree_is_written(crashes, "dmsetup suspend --nolockfs --noflush faulty"):
            begun = time.monotonic()
            [result] = crashes.session.drive([impatient(steps["unpack"], 10)])
            took = time.monotonic() - begun
        assert (result["error_kind"], result["retryable"]) == ("command_failed", True), result
        assert "filling the volume made no progress for 10 s" in result["msg"]
        assert took < 90
        crashes.target.ssh("dmsetup resume faulty")
        [info] = crashes.succeed([Step("flyd_info", {"what": ["images"]})])
        assert info["images"][0]["state"] == "fetched"
        unpacked = crashes.succeed([disk.pool, steps["unpack"], steps["snapshot"]])[1]
        assert unpacked["changed"] is True
        assert crashes.target.violations() == []
        assert hangs(crashes) == []
    finally:
        crashes.target.ssh("dmsetup resume faulty")
        crashes.session.drive([steps["tear down"]])
        crashes.target.ssh(END_FAULTY)


def test_without_udev_everything_works(crashes: Crashes) -> None:
    steps = crashes.steps()
    crashes.target.ssh(f"systemctl stop {UDEV}")
    try:
        crashes.succeed([steps[name] for name in ("tear down", "remove archive", *LIFE)])
        assert [one["changed"] for one in crashes.succeed([steps[name] for name in LIFE])] == [False] * 4
    finally:
        crashes.target.ssh(f"systemctl start {UDEV}")
    lives(crashes)


def test_a_udev_that_hangs_is_reported_in_time_and_nothing_is_left_once_it_continues(crashes: Crashes) -> None:
    prepared(crashes)
    crashes.target.ssh("kill -STOP $(pidof systemd-udevd)")
    try:
        begun = time.monotonic()
        [result] = crashes.session.drive([impatient(another("second"), 5)])
        took = time.monotonic() - begun
    finally:
        crashes.target.ssh("kill -CONT $(pidof systemd-udevd)")
    assert (result["driven"], result["error_kind"], result["retryable"]) == (1, "command_failed", True), result
    assert took < 60
    assert crashes.succeed([another("second")])[0]["changed"] is True
    lives(crashes)


def test_a_foreign_mount_on_the_mount_point_is_left_alone(crashes: Crashes) -> None:
    steps = prepared(crashes)
    crashes.succeed([steps["tear down"]])
    theirs = f"{STATE_DIR}/mnt"
    crashes.target.ssh(f"mount -t tmpfs theirs {theirs} && echo theirs > {theirs}/file")
    look = f"ls {theirs}; cat {theirs}/file; dmsetup ls"
    try:
        crashes.succeed([steps[name] for name in LIFE[:2]])
        before = crashes.target.ssh(look)
        result = refused(crashes, steps["unpack"])
        assert (result["error_kind"], theirs in result["msg"]) == ("bad_input", True), result
        assert crashes.target.ssh(look) == before
        crashes.target.ssh(f"chmod 0700 {theirs}")
        crashes.succeed([steps[name] for name in LIFE[2:]])
        assert crashes.target.ssh(look).split()[:2] == ["file", "theirs"]
    finally:
        crashes.target.ssh(f"umount {theirs}")
    lives(crashes)


@pytest.mark.parametrize("name", ["fetch", "unpack", "snapshot", "remove snapshot"])
def test_a_commit_whose_fsync_fails_is_a_failure_and_the_next_run_needs_no_help(crashes: Crashes, name: str) -> None:
    """The first of the run's commits and all that follow, then the second: what was not on disk is not claimed."""
    steps = prepared(crashes)
    before = LIFE[: LIFE.index(name)] if name in LIFE else LIFE
    paths = [word for path in ("flyd.db", "flyd.db-journal") for word in ("-P", f"{STATE_DIR}/{path}")]
    for when in ("1+", "4"):
        crashes.succeed([steps[one] for one in ("tear down", "remove archive", *before)])
        injected = (*paths, "-e", "trace=fsync,fdatasync", "-e", f"inject=fsync,fdatasync:error=EIO:when={when}")
        result = crashes.session.drive([replace(steps[name], inject=injected)])[-1]
        assert "EIO" in result["traced"], (when, result)
        assert result["driven"] == 1, (when, result)
        assert "nput/output error" in result["msg"] or "disk I/O error" in result["msg"], result
        lives(crashes)


DRIVE = (
    "$(pgrep --oldest --full 'drive.py .*--serve')"  # what stands for ssh: it begins modules, and reads what they print
)
ENDS = {
    "the connection is cut": f"kill -KILL {DRIVE}",
    "the time of an async task is up": f"kill -KILL -- -$(pgrep --parent {DRIVE})",
}


@pytest.mark.parametrize("how", list(ENDS))
def test_a_run_whose_controller_has_gone_leaves_nothing_that_the_next_one_cannot_settle(
    crashes: Crashes, how: str
) -> None:
    steps = crashes.steps()
    for seconds in (0.4, 2.0, 4.0):
        crashes.succeed([steps[name] for name in ("tear down", "remove archive", "pool")])
        with ThreadPoolExecutor(1) as beside:
            running = beside.submit(crashes.session.drive, [steps[name] for name in ("fetch", "unpack", "snapshot")])
            time.sleep(seconds)
            crashes.target.ssh(ENDS[how], check=False)  # there may be no module, between two of them
            running.result()
        crashes.session.close()
        lives(crashes)


def limited(steps: list[Step]) -> str:
    """The shell command that runs modules with 256 MiB of memory and 64 open files."""
    given = shlex.quote(json.dumps([step.to_json() for step in steps]))
    inside = shlex.quote(f"ulimit -n 64; printf %s {given} | {Target.command()}")
    return f"systemd-run --scope --quiet -p MemoryMax=256M -p MemorySwapMax=0 bash -c {inside}"


def test_little_memory_few_files_and_no_room_in_tmp_are_enough(crashes: Crashes) -> None:
    steps = crashes.steps()
    crashes.succeed([steps[name] for name in ("tear down", "remove archive")])
    crashes.target.ssh(
        "mount -t tmpfs -o noexec,size=4k tmpfs /tmp && echo > /tmp/full && ! head -c 9000 /dev/zero > /tmp/more"
    )
    try:
        said = crashes.target.ssh(limited([steps[name] for name in LIFE]))
    finally:
        crashes.target.ssh("umount /tmp")
    results = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert [(one["driven"], one["changed"]) for one in results] == [(0, True)] * 4, results
    lives(crashes)


def test_without_the_control_node_the_error_names_it_or_nothing_is_amiss(crashes: Crashes) -> None:
    prepared(crashes)
    crashes.target.ssh("rm /dev/mapper/control && ln -s /nowhere/control /dev/mapper/control")
    try:
        [result] = crashes.session.drive([another("second")])
    finally:
        crashes.target.ssh("rm /dev/mapper/control && mknod -m 0600 /dev/mapper/control c 10 236")
    assert (result["driven"], result["error_kind"]) == (1, "unsupported"), result
    assert "/dev/mapper/control" in result["msg"]
    lives(crashes)

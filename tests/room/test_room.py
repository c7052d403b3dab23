"""What volumes take of a real thin pool beside what was estimated, for each size of block, and many snapshots in a default pool.

FLYD_SNAPSHOTS (1000) is how many. `make test-room` has a machine of its own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.campaigns.harness.target import HOME, Target
from tests.e2e.machine import lab

SNAPSHOTS = int(os.environ.get("FLYD_SNAPSHOTS", "1000"))
METADATA_BLOCKS_PER_SNAPSHOT = 32
DIRECTORY = "/var/tmp/room"

pytestmark = pytest.mark.timeout(7200)


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    """A machine with the modules."""
    lab("up", "1", "--name", "room")
    try:
        made = Target("room1")
        made.install()
        yield made
    finally:
        lab("down", "room1")


def rows(target: Target, arguments: str) -> list[dict[str, Any]]:
    """What tools/room.py prints in the machine; its output goes to a file, since it takes longer than one command may."""
    target.ssh(
        f"nohup sh -c 'python3 {HOME}/tools/room.py {arguments} > /root/room 2>&1; echo $? > /root/ended' > /dev/null 2>&1 &"
    )
    while target.ssh("for i in $(seq 60); do [ -e /root/ended ] && break; sleep 1; done; cat /root/ended; true") == "":
        pass
    said, ended = target.ssh("cat /root/room"), target.ssh("cat /root/ended; rm /root/ended").strip()
    assert ended == "0", said
    return [json.loads(line) for line in said.splitlines()]


def test_a_volume_takes_no_more_of_its_pool_than_was_estimated(target: Target) -> None:
    found = rows(target, f"estimates {DIRECTORY}")
    for one in found:
        print(f"{one['block'] >> 10:5} KiB {one['image']:16} {one['taken'] / one['estimated']:.2f} of the estimate")
    assert len(found) == 20
    assert [one for one in found if one["taken"] > one["estimated"]] == []


def test_a_default_pool_has_metadata_for_its_snapshots(target: Target) -> None:
    found = rows(target, f"snapshots {DIRECTORY} {SNAPSHOTS}")
    for one in found:
        print(one)
    last = found[-1]
    assert (last["snapshots"], last["mode"]) == (SNAPSHOTS, "rw")
    assert last["metadata_blocks"] / SNAPSHOTS < METADATA_BLOCKS_PER_SNAPSHOT

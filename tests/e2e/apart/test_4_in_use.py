"""Removal asks every device first: while one is in use, nothing is removed, and the error names its holder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.campaigns.harness.target import Step, Target
from tests.e2e.machine import Machine
from tests.unit.builders import images, tar

pytestmark = pytest.mark.timeout(1800)

# Four snapshots in two generations: how one of them comes into use and out of it again, and the word for that in the error.
STATE_DIR, KEY = "/var/lib/flyd-held", "held/image.tar"
OURS: dict[str, Any] = {"state_dir": STATE_DIR, "pool": "held", "key": KEY}
POOL: dict[str, Any] = {"state_dir": STATE_DIR, "name": "held"}
QUIETLY = "> /dev/null 2>&1 & sleep 1; echo $! > /root/user"
END = "kill $(cat /root/user); rm /root/user; sleep 1"
USES = {
    "a mount on /mnt (seen by process 1 (": ("mount -o ro DEVICE /mnt", "umount /mnt"),
    "(sleep 600)": (f"unshare --mount sh -c 'mount -o ro DEVICE /mnt && exec sleep 600' {QUIETLY}", END),
    "(tail -f /dev/null)": (f"tail -f /dev/null < DEVICE {QUIETLY}", END),
    "device on-top": ('dmsetup create on-top --table "0 2048 linear DEVICE 0"', "dmsetup remove on-top"),
    "device loop": ("losetup --find --show DEVICE > /root/user", "losetup --detach $(cat /root/user); sleep 1"),
}
REMOVALS = [
    Step("flyd_snapshot", {**OURS, "state": "absent", "name": "second"}),
    Step("flyd_unpack", {**OURS, "state": "absent", "force": True}),
    Step("flyd_pool", {**POOL, "state": "absent", "force": True}),
    Step("flyd_fetch", {**OURS, "state": "absent", "force": True}),
]
KEPT = f"""dmsetup table; dmsetup status --noflush held; ls {STATE_DIR}/archives
sqlite3 -readonly {STATE_DIR}/flyd.db '.dump snapshots volumes operations'"""


def test_while_one_of_four_snapshots_is_in_use_no_removal_begins(
    prepared: Machine, target: Target, upload: Callable[[str, bytes], None]
) -> None:
    steps = [Step("flyd_pool", {**POOL, "data_size": "64M"}), Step("flyd_fetch", {**OURS, **prepared.s3_options()})]
    steps += [
        Step("flyd_unpack", OURS),
        *(Step("flyd_snapshot", {**OURS, "name": name}) for name in ("first", "second")),
    ]
    devices: list[str] = []
    for text in (b"one", b"two"):
        upload(KEY, images.docker_archive([tar.tar(tar.file(b"hello", text))]))
        *_, last = made = target.drive(steps)
        assert len(made) == len(steps)
        devices.append(last["device"])
    device = devices[0]  # of the retired generation, whose turn comes last
    for word, (begin, end) in USES.items():
        removals = REMOVALS[3:] if "tail" in word else REMOVALS  # a process is waited for
        asked = [Step(one.module, one.options, check=check) for one in removals for check in (True, False)]
        target.ssh(begin.replace("DEVICE", device))
        before = target.ssh(KEPT)
        refused = target.drive(asked, go_on=True)
        after = target.ssh(KEPT)
        target.ssh(end)
        found = [
            (one.get("error_kind"), f"device {device[12:]} (snapshot '" in one["msg"], word in one["msg"])
            for one in refused
        ]
        assert found == [("busy", True, True)] * len(asked), refused
        assert [one["changed"] for one in refused] == [False] * len(asked)
        assert after == before
    assert target.ssh("dmsetup ls | grep -c on-top; true").strip() == "0"
    [gone] = target.drive(REMOVALS[3:])
    assert (gone["changed"], len([one for one in gone["removed"] if "/snap-" in one])) == (True, 4)
    assert target.drive(REMOVALS[2:3])[0]["changed"]
    assert target.ssh(f"dmsetup ls | grep -c held; losetup --list | grep -c {STATE_DIR}; true").split() == ["0", "0"]
    target.ssh(f"rm -r {STATE_DIR} /root/user")

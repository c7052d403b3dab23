"""A host that reads devices as hosts do, with snapshots for guests on it.

Invariant: nothing here knows what is right; it does what guests, operators and a boot do, and shows what the host has.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.campaigns.harness.campaign import Campaign
from tests.campaigns.harness.sample_images import KEY, OTHER_KEY
from tests.campaigns.harness.target import COLLECTION, HOME, RESTORE, Shell, Step
from tests.e2e.machine import lab

HERE = Path(__file__).parent
SETTLE = "udevadm settle --timeout=120"
RULE = "/etc/udev/rules.d/10-flyd.rules"
MDADM = "/etc/mdadm/mdadm.conf.d/flyd.conf"
LIST_ARRAYS = "mdadm --detail --scan >> /etc/mdadm/mdadm.conf"
ASSEMBLE = f"mdadm --stop --scan && {SETTLE} && mdadm --assemble --scan"
"""The host's array gets the name of its line, which it has at each boot."""
WALLS = {
    "rule": f"mv {RULE} /root/ && udevadm control --reload",
    "flags": f"sed -i 's/^FLAGS = .*/FLAGS = _PRIMARY_SOURCE/' {HOME}/site/{COLLECTION}/module_utils/_thin/dm/cookie.py",
    "lvm": "sed -i /by-path/d /etc/lvm/lvmlocal.conf",
    "mdadm": f"rm {MDADM}",
}
"""What takes each wall away."""
GUESTS = (
    "ext4",
    "btrfs",
    "swap",
    "luks",
    "gpt",
    "lvm-hostvg",
    "lvm-guestvg",
    "lvm-copy",
    "md-own",
    "md-member",
    "bcache",
)
BY_HAND = (
    "pvscan --cache -aay",
    "vgscan --mknodes",
    "vgchange -ay",
    "multipath -v0",
    "kpartx -l /dev/vdb",
    "mdadm --assemble --scan",
)
POOL = {"data_size": "1G"}
ON_DEVICES = "devices"
VOLUME = {"size": "160M"}
"""Room for the largest of the guests' images."""
_PLAY = """
- hosts: all
  become: true
  gather_facts: false
  tasks:
    - ansible.builtin.import_role:
        name: flyd.lite.prepare
        tasks_from: guests
"""


class Host:
    """The machine of ``campaign``."""

    def __init__(self, campaign: Campaign) -> None:
        self._campaign = campaign
        self.ssh = campaign.target.ssh
        self.succeed = campaign.session.succeed

    def prepare(self, *, without: str) -> None:
        """Its own disk as it is at each boot, what the role prepare installs, a pool and an unpacked image."""
        self.ssh(
            f"cp --sparse=always /root/host.img /dev/vdb && partx --add /dev/vdb; udevadm trigger /dev/vda; {SETTLE}"
        )
        self.ssh(LIST_ARRAYS)
        self.run_role()
        self.ssh(ASSEMBLE)
        if without:
            self.ssh(WALLS[without])
        pool, fetch, unpack = self._campaign.activation(0)[:3]
        larger = [Step(step.module, {**step.options, **more}) for step, more in ((pool, POOL), (unpack, VOLUME))]
        self.succeed([larger[0], fetch, larger[1]])
        self.settle()

    def run_role(self, *arguments: str) -> str:
        """The part of the role prepare that is about guests, with more arguments of ansible-playbook; what it prints."""
        with tempfile.TemporaryDirectory() as directory:
            inventory, book = Path(directory) / "hosts.yml", Path(directory) / "book.yml"
            lab("inventory", "--output", str(inventory))
            book.write_text(_PLAY)
            program = str(Path(sys.executable).parent / "ansible-playbook")
            argv = [program, "-i", str(inventory), "--limit", self.name, *arguments, str(book)]
            quick = {**os.environ, "ANSIBLE_PIPELINING": "1"}
            done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=900, env=quick)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @property
    def name(self) -> str:
        """Of the machine."""
        return self._campaign.target.name

    def activate(self, names: tuple[str, ...], **options: Any) -> dict[str, str]:
        """A snapshot for each of the names; their devices."""
        steps = [Step("flyd_snapshot", {"key": KEY, "name": name, **options}) for name in names]
        return {name: result["device"] for name, result in zip(names, self.succeed(steps), strict=True)}

    def remove(self, names: tuple[str, ...]) -> list[dict[str, Any]]:
        """Remove the snapshots; the results."""
        return self.succeed([Step("flyd_snapshot", {"key": KEY, "name": name, "state": "absent"}) for name in names])

    def write(self, guest: str, device: str) -> None:
        """Let a guest write the image of that name, and close the device."""
        head = f"dd if=/dev/zero of={device} bs=1M count=1 conv=notrunc status=none"
        self.ssh(f"{head} && dd if=/root/guests/{guest}.img of={device} bs=64K conv=sparse,notrunc,fsync status=none")

    def settle(self) -> None:
        """Wait for udev, and for what it has started."""
        self.ssh(f"{SETTLE}; sleep 2; {SETTLE}")

    def look(self) -> list[str]:
        """What the host has, but for devices of guests."""
        return self.ssh("bash -s", stdin=(HERE / "state.sh").read_bytes()).splitlines()

    def by_hand(self) -> None:
        """Have an operator's commands read the host's devices."""
        self.ssh(f"{'; '.join(f'{command} > /dev/null 2>&1' for command in BY_HAND)}; true")
        self.settle()

    def activate_on_devices(self, data: str, metadata: str) -> str:
        """A pool on block devices with an image in it; the device of its snapshot."""
        pool, own = {"name": ON_DEVICES, "data_device": data, "metadata_device": metadata}, {"key": OTHER_KEY}
        fetch = self._campaign.activation(0)[1]
        steps = [Step("flyd_pool", pool), Step(fetch.module, {**fetch.options, **own})]
        steps += [Step("flyd_unpack", {**own, "pool": ON_DEVICES, "size": "64M"})]
        results = self.succeed([*steps, Step("flyd_snapshot", {**own, "pool": ON_DEVICES})])
        device: str = results[-1]["device"]
        return device

    def remove_from_devices(self) -> None:
        """What ``activate_on_devices`` has made."""
        absent = {"key": OTHER_KEY, "state": "absent", "pool": ON_DEVICES}
        steps = [Step(module, absent) for module in ("flyd_snapshot", "flyd_unpack", "flyd_fetch")]
        self.succeed([*steps, Step("flyd_pool", {"name": ON_DEVICES, "state": "absent"})])

    def unmap(self, *devices: str) -> None:
        """Take the mappings away, as a reboot does."""
        self.succeed([Shell(f"dmsetup remove {device}") for device in devices])

    def bring_back(self) -> None:
        """What flyd-restore.service does."""
        self.succeed([Shell(RESTORE)])
        self.settle()

    def reboot(self) -> None:
        """Cut the power and boot, with the second disk plugged in again."""
        self.ssh("sync")
        self._campaign.cut()
        lab("boot", self.name)
        lab("attach", self.name)
        self.settle()

"""What tests of hosts in trouble begin from, how they see that a step is refused, and a disk that fails where its table says."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from tests.campaigns.crashes import Crashes
from tests.campaigns.harness.sample_images import KEY
from tests.campaigns.harness.target import COLLECTION, HOME, Step

LONGEST_SECONDS = 30
HANGING = "for state in /proc/[0-9]*/stat; do awk '$3 == \"D\" { print $1, $2 }' $state 2> /dev/null; done; true"
_LOOKS = 5
SNAPSHOT = "/dev/mapper/$(ls /dev/mapper | grep ^snap-)"
# Appended to the code in the machine.
_BEFORE_THE_TREE = """
import subprocess

_populate = populate


def populate(*arguments, **options):
    subprocess.run({command!r}, shell=True, check=False)
    return _populate(*arguments, **options)
"""


def prepared(crashes: Crashes, *, data_size: str = "256M", **pool: Any) -> dict[str, Step]:
    """An activated image in a pool of that size; the steps by name, of a pool that is asked for as it is."""
    steps = crashes.steps()
    steps["pool"] = Step("flyd_pool", {"data_size": data_size, **pool})
    crashes.succeed([steps[name] for name in ("tear down", "remove archive", "pool", "fetch", "unpack", "snapshot")])
    return steps


def refused(crashes: Crashes, step: Step) -> dict[str, Any]:
    """The result of a step that must fail, in time and with nothing that hangs."""
    begun = time.monotonic()
    [result] = crashes.session.drive([step])
    assert result["driven"] == 1, result
    assert time.monotonic() - begun < LONGEST_SECONDS
    assert hangs(crashes) == []
    return result


def hangs(crashes: Crashes) -> list[str]:
    """The processes that hang in the kernel: those that do whenever they are looked at. Who only waits for the disk is gone soon."""
    found = set(crashes.target.ssh(HANGING).splitlines())
    for _ in range(_LOOKS):
        if found:
            time.sleep(1)
            found &= set(crashes.target.ssh(HANGING).splitlines())
    return sorted(found)


def another(name: str) -> Step:
    return Step("flyd_snapshot", {"key": KEY, "name": name})


@contextlib.contextmanager
def before_the_tree_is_written(crashes: Crashes, command: str) -> Iterator[None]:
    """Have flyd_unpack run a shell command when the file system is made, and before it is mounted."""
    path = f"{HOME}/site/{COLLECTION}/module_utils/_lifecycle/unpack/make_base.py"
    crashes.target.ssh(
        f"cp {path} /root/kept.py; cat >> {path}", stdin=_BEFORE_THE_TREE.format(command=command).encode()
    )
    crashes.session.close()  # the next one imports what is there now
    try:
        yield
    finally:
        crashes.target.ssh(f"cp /root/kept.py {path}")
        crashes.session.close()


DATA_SECTORS, METADATA_SECTORS = (256 << 20) // 512, (4 << 20) // 512
END_FAULTY = """dmsetup remove --retry faulty
for file in /root/faulty-data /root/faulty-metadata; do losetup --detach $(losetup --noheadings --output NAME --associated $file); rm $file; done
"""


class FaultyDisk:
    """Two disks for a pool, of which one goes through the device-mapper device ``faulty``, whose table says where it fails."""

    def __init__(self, crashes: Crashes, part: str, table: str) -> None:
        self._ssh = crashes.target.ssh
        self.loops: dict[str, str] = {}
        for name, sectors in (("data", DATA_SECTORS), ("metadata", METADATA_SECTORS)):
            path = f"/root/faulty-{name}"
            self.loops[name] = self._ssh(f"truncate -s {sectors * 512} {path} && losetup --find --show {path}").strip()
        self._loop = self.loops[part]
        self._ssh(f"modprobe dm-flakey; dmsetup create faulty --table '{table.format(loop=self._loop)}'")
        devices = {**self.loops, part: "/dev/mapper/faulty"}
        self.pool = Step(
            "flyd_pool",
            {
                **{f"{name}_device": device for name, device in devices.items()},
                "data_size": "256M",
                "metadata_size": "4M",
            },
        )

    def become(self, table: str) -> None:
        """Fail elsewhere, or nowhere."""
        told = table.format(loop=self._loop)
        self._ssh(f"dmsetup suspend faulty && dmsetup load faulty --table '{told}' && dmsetup resume faulty")

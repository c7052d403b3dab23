#!/usr/bin/env python3
# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes that were never flushed: the disk below the state directory, as it was at each flush of an activation.

    flushes.py [--cuts N] [--after ENTRY] [--seed S] [--vm NAME] [--minutes M] [--without WHAT]

The state directory of a machine lies on dm-log-writes while a pool is made and an image is fetched, unpacked and activated. The log then
gives the disk at a flush with nothing that had not reached it by then. At the end of each module (what it has said is done must be there)
and at N flushes, chosen by the seed (0: at all of them), that disk is mounted as the state directory, and the activation is run again: it
must succeed, run once more without changing anything, and the invariants (tools/invariants.py) must hold, of which the base's tree is one:
no state is ahead of its data. With ``--after``, only what lies behind ENTRY of the log is looked at.

``--without`` takes flushes out of the code in the machine, to see that this notices: ``archive``, of what was downloaded, it does. Those of
a base (``syncfs``, ``seal`` for the flush of the volume, ``all`` for both and the check of the file system) it does not: unmounting writes
and flushes what they did not. That syncfs is there for errors of what is written is shown by tests/survival.

Prints the seed, a line for each cut, and what it came to.
"""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[2] / "plugins")]

from tests.campaigns.harness import arguments
from tests.campaigns.harness.campaign import Campaign
from tests.campaigns.harness.sample_images import KEY
from tests.campaigns.harness.target import COLLECTION, HOME, STATE_DIR, Shell, Step, Target

_DISK_BYTES = 640 << 20
# Nothing is written back by the clock: what no one flushes stays in memory.
_UP = f"""set -e
echo 0 > /proc/sys/vm/dirty_writeback_centisecs
modprobe dm-log-writes
truncate -s {_DISK_BYTES} /root/disk.img /root/replayed.img
truncate -s 4G /root/log.img
disk=$(losetup --find --show /root/disk.img)
log=$(losetup --find --show /root/log.img)
dmsetup create logged --table "0 $((({_DISK_BYTES}) / 512)) log-writes $disk $log"
mkfs.ext4 -q -E nodiscard,lazy_itable_init=0,lazy_journal_init=0 /dev/mapper/logged
mkdir -p {STATE_DIR}
mount -o commit=3600 /dev/mapper/logged {STATE_DIR}
chmod 0700 {STATE_DIR}
"""
_DOWN = f"""set -e
for device in $(dmsetup ls | awk '/^(snap|base)-/ {{ print $1 }}') $(dmsetup ls | awk '$1 == "pool" {{ print $1 }}'); do dmsetup remove --retry $device; done
for loop in $(losetup --list --noheadings --output NAME,BACK-FILE | awk '$2 ~ "^{STATE_DIR}/" {{ print $1 }}'); do losetup --detach $loop; done
umount {STATE_DIR}
"""
_END_LOG = "dmsetup remove --retry logged; losetup --detach-all; truncate -s 0 /root/disk.img"
_REPLAY = f"python3 {HOME}/tools/replay.py /root/log.img"
# The file and the function in it.
_SYNCFS = ("_host/confinement/isolation.py", "sync_filesystem")
_SEAL = ("_thin/volume.py", "flush")
# While the file system is checked, a second passes, in which the pool flushes its data by itself.
_CHECK = ("_thin/ext4/filesystem.py", "check")
_ARCHIVE = ("_source/download/partfile.py", "PartFile.sync")
_TAKEN_OUT = {"": (), "archive": (_ARCHIVE,), "syncfs": (_SYNCFS,), "seal": (_SEAL,), "all": (_SYNCFS, _SEAL, _CHECK)}


def take_out(target: Target, what: str) -> None:
    """Let functions of the code in the machine do nothing."""
    for path, function in _TAKEN_OUT[what]:
        found = f"{HOME}/site/{COLLECTION}/module_utils/{path}"
        target.ssh(
            f"grep -q 'def {function.rpartition('.')[2]}(' {found} && echo '{function} = lambda *_what: None' >> {found}"
        )


class Flushes:
    """A machine, and the log of an activation on it."""

    def __init__(self, vm: str) -> None:
        self._campaign = Campaign(vm)
        self.session = self._campaign.session
        self.target: Target = self._campaign.target
        self._replayed = 0
        self._tree = ""

    def record(self, without: str) -> tuple[list[int], list[int]]:
        """Activate an image above dm-log-writes; the numbers of the entries at which modules ended, and of the flushes."""
        self._campaign.start()
        self.session.succeed(self.steps())
        self._tree = self.target.invariants("--trees")["trees"][KEY]
        self._campaign.reset()
        take_out(self.target, without)
        self.target.ssh(_UP)
        begun = Shell("dmsetup message logged 0 mark begun")
        ended = Shell("dmsetup message logged 0 mark ended")
        self.session.succeed(
            [begun, *(one for step in self.steps() for one in (step, ended)), Shell(_DOWN), Shell(_END_LOG)]
        )
        marks: list[tuple[int, str]] = json.loads(self.target.ssh(f"{_REPLAY} marks"))
        flushes: list[int] = json.loads(self.target.ssh(f"{_REPLAY} flushes"))
        first = next(number for number, text in marks if text == "begun")
        return [number for number, text in marks if text == "ended"], [one for one in flushes if one > first]

    def steps(self) -> list[Step]:
        """What is run, and run again."""
        return self._campaign.activation(0)

    def cut_at(self, number: int) -> list[str]:
        """What is wrong with the disk as it was at the flush with that number."""
        self.session.succeed(
            [
                Shell(
                    f"{_REPLAY} write /root/replayed.img {self._replayed} {number} && cp --sparse=always /root/replayed.img /root/cut.img"
                    f" && mount -o loop /root/cut.img {STATE_DIR}"
                )
            ]
        )
        self._replayed = number
        steps = self.steps()
        checker = Shell(f"{Target.checker('--tree', f'{KEY}={self._tree}')} || true")
        try:
            results = self.session.succeed([*steps, *steps, checker])
        except AssertionError as error:
            return [str(error)[:1000]]
        finally:
            self.session.succeed([Shell(_DOWN)])
        wrong: list[str] = Target.report_of(results[-1]["stdout"])["violations"]
        changed = [step.module for step, result in zip(steps, results[4:8], strict=True) if result["changed"]]
        return wrong + ([f"the run after the recovery changed something: {changed}"] if changed else [])

    def close(self) -> None:
        """The machine is gone."""
        self._campaign.close()


def run(cuts: int, seed: int, vm: str, without: str = "", minutes: float = 1e6, after: int = 0) -> dict[str, Any]:
    """At so many flushes on that machine, or fewer when the time is over; prints a line for each.

    How many flushes there were, and what was wrong by number.
    """
    flushes = Flushes(vm)
    wrong: dict[int, list[str]] = {}
    try:
        ends, found = flushes.record(without)
        print(f"{len(found)} flushes, modules ended at {ends}", flush=True)
        ends, found = ([number for number in one if number > after] for one in (ends, found))
        chosen = sorted({*ends, *random.Random(seed).sample(found, min(cuts or len(found), len(found)))})
        until = time.monotonic() + minutes * 60
        for count, number in enumerate(chosen, 1):
            begun = time.monotonic()
            if begun > until:
                break
            wrong[number] = flushes.cut_at(number)
            seconds = time.monotonic() - begun
            print(
                f"{count}/{len(chosen)} at entry {number}: {'; '.join(wrong[number]) or 'ok'} ({seconds:.0f} s)",
                flush=True,
            )
    finally:
        flushes.close()
    return {"flushes": len(found), "wrong": wrong}


def main() -> int:
    """Run the campaign; returns the exit code."""
    parser = arguments.parser(__doc__, vm="flushes1")
    parser.add_argument("--cuts", type=int, default=0)
    parser.add_argument("--after", type=int, default=0, help="where a run that had no time for the rest has stopped")
    parser.add_argument("--without", default="", choices=[*_TAKEN_OUT])
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    wrong = run(given.cuts, given.seed, given.vm, given.without, given.minutes, given.after)["wrong"]
    bad = sum(bool(one) for one in wrong.values())
    print(f"{len(wrong)} cuts, {bad} of them with something wrong")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

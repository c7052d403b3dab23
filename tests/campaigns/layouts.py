#!/usr/bin/env python3
# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines with a real device mapper on which others have what looks like ours: nothing of theirs may change.

    layouts.py [--layouts N] [--minutes M] [--seed S] [--vm NAME]

A layout begins at a random stage of our own work, with our devices up or gone as after a reboot. Others have device-mapper devices, loops,
files, a mount and volumes of our pool then, with names and UUIDs that are much like ours, or the very name that ours is about to need. All
that can be asked of the modules is asked, one thing after the other. Each may succeed or refuse in its own words; after each of them,
everything of theirs must be as it was.

Prints the seed, a line for each layout, and how many of the requests were refused.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[2] / "plugins")]

from tests.campaigns.harness import arguments
from tests.campaigns.harness.campaign import Campaign
from tests.campaigns.harness.sample_images import KEY
from tests.campaigns.harness.target import RESTORE, STATE_DIR, Shell, Step
from tests.campaigns.histories import DOWN

STAGES = ("virgin", "pooled", "fetched", "unpacked", "activated")
_ULID = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_HOME = "/root/theirs"
_INFO = Step("flyd_info", {"what": ["images", "snapshots"]})
_OUR_POOL = "dmsetup info -c --noheadings -o uuid pool 2>/dev/null | grep -q ^FLYD-"


class Others:
    """What another program makes on the machine, and the command that reports how it is."""

    def __init__(self, dice: random.Random, recorded: Sequence[str], *, has_pool: bool) -> None:
        self._dice = dice
        self._recorded = recorded
        self._commands = [f"mkdir -p {_HOME}/mnt"]
        self._devices: dict[str, str] = {}
        self._thin_ids: list[int] = []
        self._files: list[str] = []
        for _number in range(dice.randrange(1, 3)):
            self._have_loop()
        for _number in range(dice.randrange(1, 5)):
            self._have_device()
        if has_pool and dice.random() < 0.6:
            self._have_volume()

    def settle_in(self) -> Shell:
        """Make all of it; a name that is taken stays with who has it."""
        return Shell("; ".join(self._commands))

    def look(self) -> Shell:
        """All of theirs as it is; who has a name matters, not what we have under another."""
        told = [
            *(
                f"dmsetup info -c --noheadings -o name,uuid,attr -u {uuid} && dmsetup table -u {uuid} && ls /dev/mapper/{name}"
                for name, uuid in self._devices.items()
            ),
            f"losetup --list --noheadings --output NAME,BACK-FILE | grep {_HOME} | sort",
            f"grep {_HOME} /proc/self/mountinfo",
            f"sha256sum $(find {_HOME} -type f | sort)",
        ]
        if self._thin_ids:
            ids = "|".join(f'dev_id="{number}"' for number in self._thin_ids)
            told.append(
                f"{_OUR_POOL} && dmsetup status pool > /dev/null && cp {STATE_DIR}/pools/*/metadata /var/tmp/looked"
                f" && thin_dump /var/tmp/looked | grep -oE '{ids}'; rm -f /var/tmp/looked"
            )
        return Shell(f"({'; '.join(told)}) 2>&1; true")

    def go_away(self) -> Shell:
        """Take it all away again, by the one that made it."""
        removed = [f"dmsetup remove --retry -u {uuid}" for uuid in reversed(self._devices.values())]
        deleted = [f"{_OUR_POOL} && dmsetup message pool 0 'delete {number}'" for number in self._thin_ids]
        loops = f"for loop in $(losetup --list --noheadings --output NAME,BACK-FILE | awk '$2 ~ \"^{_HOME}\" {{ print $1 }}'); do losetup --detach $loop; done"
        return Shell("; ".join([f"umount {_HOME}/mnt", *removed, *deleted, loops, f"rm -rf {_HOME}", "true"]))

    def _ulid(self) -> str:
        return "0" + "".join(self._dice.choices(_ULID, k=25))

    def _have_loop(self) -> None:
        path = f"{_HOME}/{self._dice.choice(['data', 'metadata', 'flyd.db', 'disk.img'])}"
        self._files.append(path)
        self._commands.append(
            f"test -e {path} || {{ truncate -s 4M {path}; mkfs.ext4 -q {path}; losetup --find {path}; }}"
        )
        if self._dice.random() < 0.5:
            self._commands.append(
                f"mountpoint -q {_HOME}/mnt || mount $(losetup --noheadings --output NAME --associated {path}) {_HOME}/mnt -o ro"
            )

    def _have_device(self) -> None:
        dice, ulid = self._dice, self._ulid()
        name = dice.choice([f"base-{ulid}", f"snap-{ulid}", "pool", "pool2", "data", *self._recorded])
        uuid = dice.choice(
            [
                f"LVM-{ulid}",
                f"mpath-{ulid}",
                f"flyd-{ulid}",
                f"FLYD-{ulid}-pool",
                f"FLYD-{ulid}-{self._ulid()}",
            ]
        )
        table = dice.choice(
            [
                "0 2048 error",
                "0 8192 zero",
                f"0 2048 linear $(losetup --noheadings --output NAME --associated {self._files[0]}) 0",
            ]
        )
        if name not in self._devices:
            self._commands.append(
                f'dmsetup info {name} > /dev/null 2>&1 || dmsetup create {name} --uuid {uuid} --table "{table}"'
            )
            self._devices[name] = uuid

    def _have_volume(self) -> None:
        number = self._dice.choice([3, 7, 100, 2**24 - 1])
        self._commands.append(f"dmsetup message pool 0 'create_thin {number}'")
        self._thin_ids.append(number)
        if self._dice.random() < 0.5:
            name = f"theirs-{number}"
            self._commands.append(
                f"dmsetup create {name} --uuid theirs-{number} --table '0 8192 thin /dev/mapper/pool {number}'"
                f" && echo theirs | dd of=/dev/mapper/{name} conv=fsync status=none"
            )
            self._devices[name] = f"theirs-{number}"


class Layouts:
    """A machine on which one layout comes after the other."""

    def __init__(self, vm: str, seed: int) -> None:
        self._campaign = Campaign(vm)
        self._dice = random.Random(seed)

    def prepare(self) -> None:
        """A machine with the modules and the images within reach."""
        self._campaign.start()

    def run(self) -> tuple[str, list[str]]:
        """One layout: how many requests succeeded and were refused, and what was wrong."""
        dice, session = self._dice, self._campaign.session
        stage, is_down = dice.choice(STAGES), dice.random() < 0.4
        life = self._campaign.activation(0)
        harm = [Shell(DOWN)] if is_down else []
        try:
            results = session.succeed([*self._virgin(), *life[: STAGES.index(stage)], *harm, _INFO])
            info = results[-1]
            recorded = [one["device"] for one in info["snapshots"]] + [one["base_device"] for one in info["images"]]
            names = [device.rpartition("/")[2] for device in recorded if device]
            others = Others(dice, names, has_pool=stage != "virgin" and not is_down)
            session.drive([others.settle_in()])
            answered, wrong = self._ask_everything(others)
            session.succeed([others.go_away(), *self._virgin()])
        except AssertionError as error:
            answered, wrong = "broke off", [str(error)[:1000]]
        if wrong:
            self._campaign.reset()
        return f"{stage}{', down' if is_down else ''}: {answered}", wrong

    def _ask_everything(self, others: Others) -> tuple[str, list[str]]:
        look, asked = others.look(), self._requests()
        results = self._campaign.session.drive([look, *(one for step in asked for one in (step, look))], go_on=True)
        if len(results) != 2 * len(asked) + 1:
            return "broke off", [f"only {len(results)} of {2 * len(asked) + 1} came back"]
        before, wrong, refused = results[0]["stdout"], [], 0
        for step, result, after in zip(asked, results[1::2], results[2::2], strict=True):
            refused += result["driven"] != 0
            if after["stdout"] != before:
                wrong.append(f"{step} changed what is not ours: {before} became {after['stdout']}")
                break
            if isinstance(step, Step) and result["driven"] and result.get("error_kind") in (None, "internal"):
                wrong.append(f"{step} ended with {str(result)[:500]}")
        return f"{len(asked) - refused} requests succeeded, {refused} were refused", wrong

    def _requests(self) -> list[Step | Shell]:
        absent = {"key": KEY, "state": "absent"}
        return [
            *self._campaign.activation(0),
            Step("flyd_snapshot", {"key": KEY, "name": "second"}),
            Shell(RESTORE),
            Step("flyd_pool", {"state": "repaired"}),
            Step("flyd_snapshot", absent),
            Step("flyd_unpack", {**absent, "force": True}),
            Step("flyd_fetch", absent),
            Step("flyd_pool", {"state": "absent"}),
        ]

    @staticmethod
    def _virgin() -> list[Step]:
        return [
            Step("flyd_pool", {"state": "absent", "force": True}),
            Step("flyd_fetch", {"key": KEY, "state": "absent"}),
        ]

    def close(self) -> None:
        """The machine is gone."""
        self._campaign.close()


def run(count: int, seed: int, vm: str, minutes: float = 1e6) -> tuple[int, list[str]]:
    """So many layouts, or fewer when the time is over; prints a line for each. How many there were, and what was wrong."""
    layouts = Layouts(vm, seed)
    wrong: list[str] = []
    done, until = 0, time.monotonic() + minutes * 60
    try:
        layouts.prepare()
        while done < count and time.monotonic() < until:
            begun, done = time.monotonic(), done + 1
            told, found = layouts.run()
            wrong += found
            print(f"{done}/{count} {told}: {'; '.join(found) or 'ok'} ({time.monotonic() - begun:.0f} s)", flush=True)
    finally:
        layouts.close()
    return done, wrong


def main() -> int:
    """Run the campaign; returns the exit code."""
    parser = arguments.parser(__doc__, vm="layouts1")
    parser.add_argument("--layouts", type=int, default=100)
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    done, wrong = run(given.layouts, given.seed, given.vm, given.minutes)
    print(f"{done} layouts, {len(wrong)} of them with something wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

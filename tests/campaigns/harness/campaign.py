# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every campaign has: a machine of the lab that runs the modules, two generations of an image within its reach, and the steps of a life.

Invariant: no fault is made here, and nothing is judged.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.campaigns.harness.sample_images import BUCKETS, KEY, publish
from tests.campaigns.harness.session import Session
from tests.campaigns.harness.target import HOME, Step, Target
from tests.e2e.machine import lab

_INIT = f"{HOME}/campaigns/quick_init.sh"


_WELL = ["/bin/true"]
BIND = Step(
    "flyd_instance", {"key": KEY, "name": "web", "switch": _WELL, "health": {"command": _WELL}, "min_healthy": 0}
)
UNBIND = Step("flyd_instance", {"key": KEY, "name": "web", "state": "absent"})
GO_BACK = Step("flyd_instance", {"key": KEY, "name": "web", "state": "previous"})


class Campaign:
    """The machine ``vm`` (a prefix and the number 1), which ``start`` brings up."""

    def __init__(self, vm: str) -> None:
        self.target = Target(vm)
        self.session = Session(self.target)
        self._s3: dict[str, str] = {}

    def start(self) -> None:
        """A pristine machine with the modules and both generations within reach."""
        name = self.target.name
        lab("s3", "up")
        lab("up", "1", "--name", name.rstrip("0123456789"))
        self._s3 = dict(line.split("=", 1) for line in lab("s3", "env").splitlines())
        with tempfile.TemporaryDirectory() as directory:
            publish(Path(directory))
        self.reset()

    def reset(self) -> None:
        """Make the machine pristine, but for the modules."""
        self.session.close()
        lab("reset", self.target.name)
        self.target.install()

    def cut(self) -> None:
        """Cut the power."""
        lab("cut", self.target.name, "--no-boot")
        self.session.close()

    def boot(self) -> None:
        """Boot a machine that is off, without systemd: nothing of the collection is brought back by that."""
        lab("boot", self.target.name, "--init", _INIT)

    def close(self) -> None:
        """The machine is gone."""
        self.session.close()
        lab("down", self.target.name)

    def activation(self, generation: int) -> list[Step]:
        """From nothing to a snapshot of that generation."""
        access = {
            "endpoint_url": self._s3["FLYD_S3_ENDPOINT_FROM_VM"],
            "access_key": self._s3["AWS_ACCESS_KEY_ID"],
            "secret_key": self._s3["AWS_SECRET_ACCESS_KEY"],
        }
        return [
            Step("flyd_pool", {"data_size": "256M"}),
            Step("flyd_fetch", {"key": KEY, "bucket": BUCKETS[generation], **access}),
            Step("flyd_unpack", {"key": KEY}),
            Step("flyd_snapshot", {"key": KEY}),
        ]

    def life(self, generation: int) -> list[Step]:
        """From nothing to an instance that points at a snapshot of that generation."""
        return [*self.activation(generation), BIND]

    def end(self) -> list[Step]:
        """Remove what a life made, to the last file."""
        return [UNBIND, Step("flyd_snapshot", {"key": KEY, "name": "web", "state": "absent"}), *self.removal()]

    @staticmethod
    def removal() -> list[Step]:
        """Remove everything, to the last file."""
        absent = {"state": "absent"}
        return [
            Step("flyd_snapshot", {"key": KEY, **absent}),
            Step("flyd_unpack", {"key": KEY, **absent}),
            Step("flyd_fetch", {"key": KEY, **absent}),
            Step("flyd_pool", absent),
        ]

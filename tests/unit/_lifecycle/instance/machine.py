# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests of instances do on the simulated host: bind, confirm, go back, with hooks that leave a trace."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from module_utils._host.health import Check
from module_utils._lifecycle.instance.bind import bind
from module_utils._lifecycle.instance.confirm import confirm_bind
from module_utils._lifecycle.instance.options import Asked, InstanceOptions
from module_utils._lifecycle.instance.previous import go_back
from module_utils._lifecycle.instance.remove import remove_instance
from module_utils._lifecycle.outcome import Outcome
from module_utils._lifecycle.run import Run
from module_utils._lifecycle.snapshot.device_node import NodeAccess
from module_utils._lifecycle.snapshot.options import SnapshotOptions
from module_utils._lifecycle.store.records import Image
from module_utils._names import ObjectKey, ShortName
from tests.unit._lifecycle.machine import ARCHIVE, KEY, Machine
from tests.unit.builders import images, tar

NAME = "web"
_WORK = {"present": bind, "confirmed": confirm_bind, "previous": go_back, "absent": remove_instance}


class Bound:
    """The instance ``web`` on a machine. Its switch command writes down the device it was called with."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.trace = machine.root / "files" / "switched"
        self.well = machine.root / "files" / "well"
        self.well.touch()

    def switch(self, *, code: int = 0) -> tuple[str, ...]:
        """A command that notes FLYD_DEVICE and ends with ``code``."""
        return ("/bin/sh", "-c", f'echo "$FLYD_DEVICE" >> {self.trace}; exit {code}')

    def check(self) -> Check:
        """A command that is well while the file ``well`` is there."""
        return Check(command=("/usr/bin/test", "-e", str(self.well)))

    def call(
        self, state: str = "present", *, dry_run: bool = False, key: ObjectKey = KEY, sha256: str = "", **asked: Any
    ) -> Outcome:
        """flyd_instance."""
        snapshot = SnapshotOptions(key, ShortName(NAME), 0, None, NodeAccess())
        options = InstanceOptions(ShortName(NAME), key, sha256, Asked(**asked), snapshot)

        def work(host: Run) -> Outcome:
            return _WORK[state](host, options)

        return self.machine.run(work, dry_run=dry_run)

    def bind(self, *, dry_run: bool = False, key: ObjectKey = KEY, sha256: str = "", **asked: Any) -> Outcome:
        """Bind with the switch and the check of this class, unless ``asked`` says otherwise; health is quick."""
        given = {
            "switch": self.switch(),
            "check": self.check(),
            "min_healthy": 0.0,
            "healthy_deadline": 0.05,
            "health_interval": 0.01,
            **asked,
        }
        return self.call("present", dry_run=dry_run, key=key, sha256=sha256, **given)

    def publish_new_generation(self, name: str = "") -> Image:
        """Another object behind the key, fetched and unpacked; the image. ``name`` makes it one of its own where generations have gone."""
        now = self.machine.image()
        assert now is not None
        number = (name or str(len(self.machine.generations()))).encode()
        layer = tar.tar(tar.directory(b"etc"), tar.file(b"etc/number", number))
        self.machine.s3.put(KEY.value, images.docker_archive((layer,)))
        self.machine.fetch()
        self.machine.unpack()
        image = self.machine.image()
        assert image is not None
        assert image.id != now.id
        return image

    def flip(self) -> None:
        """Bind to a new generation; the object behind the key is the first one again afterwards."""
        self.publish_new_generation()
        self.call()
        self.machine.s3.put(KEY.value, ARCHIVE)

    def publish_several(self) -> None:
        """Three more generations, each with a snapshot, which the instance does not point at."""
        for _number in range(3):
            self.publish_new_generation()
            self.machine.snapshot()

    @property
    def link(self) -> Path:
        return self.machine.root / "run/flyd/instances" / NAME

    @property
    def device(self) -> str:
        """Where the name points."""
        return os.readlink(self.link / "device")

    def points_at(self, ulid: str) -> bool:
        """Whether the name points at that snapshot."""
        return self.device.endswith(f"snap-{ulid}")

    def document(self, name: str) -> Any:
        """A file of the public directory."""
        return json.loads((self.link / name).read_text())

    def switched(self) -> list[str]:
        """The devices that the switch command was called with, in order."""
        return self.trace.read_text().splitlines() if self.trace.exists() else []

    def timers(self) -> list[str]:
        """The timers of systemd that run."""
        return sorted(path.name for path in (self.machine.root / "run/systemd").glob("*"))

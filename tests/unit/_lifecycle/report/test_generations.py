# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What flyd_info says of generations in short, and whether an instance is in place: what a rollout decides by."""

from __future__ import annotations

from module_utils._lifecycle.report.info import Subject
from tests.unit._lifecycle.instance.machine import Bound
from tests.unit._lifecycle.machine import Machine
from tests.unit._lifecycle.report.test_info import report


def test_generations_are_the_images_in_short(activated: Machine) -> None:
    bound = Bound(activated)
    bound.bind()
    bound.publish_new_generation()
    activated.s3.put("other.tar", b"no archive")
    told = report(activated, Subject.IMAGES, Subject.GENERATIONS)
    short = ("key", "sha256", "current", "state", "confirmed_at")
    wanted = [
        {**{name: image[name] for name in short}, "has_base": bool(image["base_device"])} for image in told["images"]
    ]
    assert told["generations"] == wanted
    assert [(one["current"], bool(one["confirmed_at"])) for one in wanted] == [(True, False), (False, True)]
    assert all(one["has_base"] for one in wanted)


def in_place(machine: Machine) -> bool:
    [instance] = report(machine, Subject.INSTANCES)["instances"]
    assert instance["confirmed"]
    return bool(instance["in_place"])


def test_an_instance_is_in_place_until_its_link_or_its_device_is_gone(activated: Machine) -> None:
    bound = Bound(activated)
    bound.bind()
    assert in_place(activated)
    link = activated.root / "run/flyd/instances/web"
    target = link.readlink()
    link.unlink()
    assert not in_place(activated)
    link.symlink_to(target)
    assert in_place(activated)
    activated.fake.reboot()
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink():
        link.symlink_to(target)
    assert not in_place(activated), "its device is not mapped"

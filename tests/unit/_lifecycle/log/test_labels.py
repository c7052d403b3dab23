# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A device is named in messages by the image and the snapshot that it is."""

from __future__ import annotations

from module_utils._lifecycle.log.labels import label
from module_utils._lifecycle.store.records import Volume
from tests.unit._lifecycle.machine import KEY, OTHER_ARCHIVE, Machine


def labels(machine: Machine) -> dict[str, str]:
    """The labels of all volumes, by kind."""
    with machine.host(dry_run=True) as host:
        return {volume.kind: label(host.store, volume.device_name) for volume in machine.records(Volume)}


def test_a_volume_is_known_by_its_image_and_name(activated: Machine) -> None:
    assert labels(activated) == {"base": f"base of {KEY}", "snap": f"snapshot 'default' of {KEY}"}


def test_a_volume_of_an_earlier_generation_too(activated: Machine) -> None:
    activated.s3.put(KEY.value, OTHER_ARCHIVE)
    activated.fetch()
    assert labels(activated) == {"base": f"base of {KEY}", "snap": f"snapshot 'default' of {KEY}"}


def test_what_the_store_does_not_know_has_no_label(activated: Machine) -> None:
    with activated.host(dry_run=True) as host:
        assert [label(host.store, name) for name in ("pool", "snap-01J9Z3M4N5P6Q7R8S9T0V1W2X3", "theirs", "")] == [
            ""
        ] * 4

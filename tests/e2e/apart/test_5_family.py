# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A family of objects, from the bucket to a snapshot: pinned, without its layers on disk afterwards, grown by a layer, and removed."""

from __future__ import annotations

import hashlib
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.campaigns.harness.target import Step, Target
from tests.e2e.machine import Machine, lab
from tests.unit.builders import tar

pytestmark = pytest.mark.timeout(1800)

FAMILY = f"families/{uuid.uuid4().hex}/"  # the server keeps what earlier runs have put
LAYERS = {
    "2.tar": tar.tar(
        tar.directory(b"etc"), tar.file(b"etc/old", b"gone\n"), tar.file(b"etc/kept", b"from the lowest layer\n")
    ),
    "10.tar": tar.tar(
        tar.directory(b"etc"), tar.file(b"etc/.wh.old"), tar.file(b"etc/new", b"from the second layer\n")
    ),
}
THIRD = {"11.tar": tar.tar(tar.file(b"third", b"from the third layer\n"))}


def put(layers: dict[str, bytes], directory: Path) -> None:
    for name, content in layers.items():
        (directory / name).write_bytes(content)
        lab("s3", "put", str(directory / name), FAMILY + name)


def digest(*families: dict[str, bytes]) -> str:
    """What ``sha256sum $(ls -v) | sha256sum`` prints for the layers."""
    layers = {name: content for family in families for name, content in family.items()}
    lines = "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in layers.items())
    return f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"


def contents(machine: Machine, device: str) -> str:
    """The files of a snapshot, with what is in them."""
    return machine.ssh(
        f"mkdir -p /mnt/family && mount -o ro,noload,nodev,nosuid {device} /mnt/family"
        " && cd /mnt/family && grep -r '' $(find . -type f | LC_ALL=C sort); cd / && umount /mnt/family"
    )


def kept(machine: Machine, layers: dict[str, bytes]) -> set[str]:
    """Those of the layers' digests that are names of archives."""
    names = machine.ssh("ls /var/lib/flyd/archives").split()
    return {hashlib.sha256(content).hexdigest() for content in layers.values()} & set(names)


def fetch(prepared: Machine, *, check: bool = False, **options: Any) -> Step:
    return Step("flyd_fetch", {**prepared.s3_options(), "key": FAMILY, **options}, check=check)


@pytest.fixture(scope="module")
def bucket(prepared: Machine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory whose layers lie in the bucket, too."""
    directory = tmp_path_factory.mktemp("family")
    put(LAYERS, directory)
    return directory


def test_a_pinned_family_becomes_a_device_and_its_layers_need_not_stay(
    prepared: Machine, target: Target, bucket: Path
) -> None:
    asked: dict[str, Any] = {"activate_checksum": digest(LAYERS), "activate_keep_archive": False}
    play = prepared.play("playbooks/activate.yml", key=FAMILY, **asked)
    assert play.returncode == 0, play.output
    assert contents(prepared, play.device) == "./etc/kept:from the lowest layer\n./etc/new:from the second layer\n"
    assert not kept(prepared, LAYERS)
    again = target.drive(
        [
            fetch(prepared, checksum=digest(LAYERS)),
            Step("flyd_unpack", {"key": FAMILY, "keep_archive": False}),
            Step("flyd_snapshot", {"key": FAMILY}),
        ]
    )
    assert [one["changed"] for one in again] == [False, False, False], again
    assert again[-1]["device"] == play.device


def test_a_family_that_grew_is_a_new_generation_beside_the_old_one(
    prepared: Machine, target: Target, bucket: Path
) -> None:
    put(THIRD, bucket)
    told, refused = target.drive(
        [fetch(prepared, check=True), fetch(prepared, checksum=f"sha256:{'0' * 64}")], go_on=True
    )
    assert (told["changed"], told["new_generation"], told["received_bytes"]) == (True, True, 0)
    assert refused["error_kind"] == "untrusted"
    play = prepared.play("playbooks/activate.yml", key=FAMILY, activate_checksum=digest(LAYERS, THIRD))
    assert play.returncode == 0, play.output
    assert "./third:from the third layer" in contents(prepared, play.device)
    secret = prepared.environment["AWS_SECRET_ACCESS_KEY"]
    assert secret not in play.output
    assert prepared.ssh(f"grep -rlF -e {secret} /var/lib/flyd /var/log 2>/dev/null || true") == ""


def test_a_family_is_removed_with_all_its_generations(prepared: Machine, target: Target, bucket: Path) -> None:
    steps = [
        Step("flyd_unpack", {"key": FAMILY, "state": "absent", "force": True}),
        *[Step("flyd_fetch", {"key": FAMILY, "state": "absent"})] * 2,
        Step("flyd_pool", {"state": "absent"}),
        Step("flyd_info", {}),
    ]
    results = target.drive(steps)
    assert [one["changed"] for one in results] == [True, True, False, True, False], results
    assert FAMILY not in [image["key"] for image in results[-1]["images"]]
    assert not kept(prepared, {**LAYERS, **THIRD})
    assert prepared.ssh("ls /var/lib/flyd/spool") == ""

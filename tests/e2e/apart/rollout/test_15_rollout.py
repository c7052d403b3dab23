# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rollouts of redis to three VMs: good ones, one that goes back, and hosts that lose power, are off, or have no room.

The tests run in order; each finds the fleet as the one before has left it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.machine import LAB, ROOT, lab
from tests.e2e.redis_versions import version

pytestmark = pytest.mark.timeout(3600)

KEY, LINK = "rollout/redis.tar", "/run/flyd/instances/web"
PREFIX, COUNT = os.environ.get("FLYD_E2E_VM", "roll"), 3
NAMES = [f"{PREFIX}{number}" for number in range(1, COUNT + 1)]
FIRST, SECOND, THIRD = NAMES
VENV = Path(sys.executable).parents[1]
OPTIONS: dict[str, Any] = {
    "rollout_key": KEY,
    "rollout_instances": "web",
    "rollout_waves": [1, "100%"],
    "rollout_switch": ["systemctl", "restart", "guest.service"],
    "rollout_health_command": ["/root/ping"],
    "rollout_min_healthy": 2,
    "rollout_healthy_deadline": 60,
    "activate_pool_data_size": "4G",
}


class Fleet:
    """Three machines with a guest each, and the directory of the reports."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.inventory = directory / "inventory.yml"
        lab("inventory", "--output", str(self.inventory))
        self._environment = dict(line.split("=", 1) for line in lab("s3", "env").splitlines())
        self._environment["AWS_ENDPOINT_URL"] = self._environment["FLYD_S3_ENDPOINT_FROM_VM"]
        self._redis = Path(lab("image", "redis").strip())

    def publish(self, number: int, *, is_broken: bool = False) -> None:
        """Replace the object by a version of redis."""
        path = self.directory / "version.tar"
        path.write_bytes(version(self._redis, number, is_broken=is_broken))
        lab("s3", "put", str(path), KEY)

    def begin(self, playbook: str = "rollout", **options: Any) -> subprocess.Popen[str]:
        """Begin to run a playbook of the collection for the fleet."""
        given = {**OPTIONS, "rollout_directory": str(ROOT / "build/rollouts"), **options}
        argv = ["ansible-playbook", "-i", str(self.inventory), "--limit", ",".join(NAMES)]
        return subprocess.Popen(
            [*argv, str(ROOT / f"playbooks/{playbook}.yml"), "--extra-vars", json.dumps(given)],
            env={
                **os.environ,
                **self._environment,
                "PATH": f"{VENV / 'bin'}:{os.environ['PATH']}",
                "ANSIBLE_CONFIG": str(ROOT / "playbooks/ansible.cfg"),
                "ANSIBLE_STDOUT_CALLBACK": "flyd.lite.fleet",
                "ANSIBLE_NOCOLOR": "1",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, playbook: str = "rollout", **options: Any) -> tuple[int, str]:
        """The exit code and the output of a playbook."""
        return ended(self.begin(playbook, **options))

    def version_of(self, name: str) -> str:
        """The version that the instance of a host points at; its guest must answer."""
        answered = lab("ssh", name, "--", "for i in $(seq 60); do /root/ping && break; sleep 1; done")
        assert answered.strip() == "+PONG", name
        return lab("ssh", name, "--", f"debugfs -R 'cat /version' $(readlink -f {LINK}/device) 2>/dev/null").strip()

    def versions(self) -> list[str]:
        """Those of all hosts."""
        return [self.version_of(name) for name in NAMES]

    def device_of(self, name: str) -> str:
        """The device that the instance of a host points at."""
        return lab("ssh", name, "--", f"readlink -f {LINK}/device").strip()


def ended(play: subprocess.Popen[str]) -> tuple[int, str]:
    output, _none = play.communicate(timeout=3000)
    print(output)
    return play.returncode, output


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    s3_was_up = subprocess.run([*LAB, "s3", "url"], capture_output=True, check=False).returncode == 0
    lab("s3", "up")
    try:
        argv: list[Any] = [ROOT / "tools/lab/prepared_vm.sh", VENV, PREFIX, str(COUNT)]
        subprocess.run(argv, stdout=subprocess.DEVNULL, check=True)
        for name in NAMES:
            subprocess.run([ROOT / "tests/vm/guest/install.sh", VENV, name], check=True)
        yield Fleet(tmp_path_factory.mktemp("fleet"))
    finally:
        for name in NAMES:
            lab("down", name)
        if not s3_was_up:
            lab("s3", "down")


def test_a_fleet_that_has_nothing_yet_gets_the_image(fleet: Fleet) -> None:
    fleet.publish(1)
    code, output = fleet.run()
    assert code == 0, output
    assert fleet.versions() == ["1"] * COUNT
    assert "3 confirmed" in output


def test_the_next_version_reaches_all_hosts_and_a_second_run_changes_nothing(fleet: Fleet) -> None:
    fleet.publish(2)
    code, output = fleet.run()
    assert code == 0, output
    assert fleet.versions() == ["2"] * COUNT
    before = [fleet.device_of(name) for name in NAMES]
    code, output = fleet.run()
    assert (code, [fleet.device_of(name) for name in NAMES]) == (0, before), output


def test_a_version_that_does_not_start_reaches_one_host_and_goes_back(fleet: Fleet) -> None:
    fleet.publish(3, is_broken=True)
    before = [fleet.device_of(name) for name in (SECOND, THIRD)]
    code, output = fleet.run()
    assert code != 0
    assert fleet.versions() == ["2"] * COUNT
    assert [fleet.device_of(name) for name in (SECOND, THIRD)] == before
    assert FIRST in output.partition("Verdict")[2]


def test_a_host_that_loses_power_after_its_flip_boots_with_the_earlier_version(fleet: Fleet) -> None:
    """It is one lost host too many, so that the first host goes back, too."""
    fleet.publish(4)
    before = fleet.device_of(SECOND)
    play = fleet.begin(rollout_min_healthy=45, rollout_healthy_deadline=120)
    deadline = time.monotonic() + 2400
    while fleet.device_of(SECOND) == before:
        assert time.monotonic() < deadline, "it did not flip"
        assert play.poll() is None, ended(play)
        time.sleep(2)
    lab("cut", SECOND)
    code, output = ended(play)
    assert code != 0
    assert SECOND in output.partition("Verdict")[2]
    assert fleet.versions() == ["2"] * COUNT


def test_it_converges_when_the_same_command_is_run_again(fleet: Fleet) -> None:
    code, output = fleet.run()
    assert code == 0, output
    assert fleet.versions() == ["4"] * COUNT


def test_a_host_that_is_off_goes_back_with_the_next_rollback(fleet: Fleet) -> None:
    leave = json.loads(lab("ssh", FIRST, "--", f"cat {LINK}/image.json"))["sha256"]
    lab("cut", THIRD, "--no-boot")
    code, output = fleet.run("rollback", rollout_leave=leave)
    assert code != 0
    assert THIRD in output
    assert [fleet.version_of(name) for name in (FIRST, SECOND)] == ["2", "2"]
    lab("boot", THIRD)
    assert fleet.version_of(THIRD) == "4"
    code, output = fleet.run("rollback", rollout_leave=leave)
    assert code == 0, output
    assert fleet.versions() == ["2"] * COUNT


def test_a_host_without_room_stops_the_rollout_before_any_host_is_changed(fleet: Fleet) -> None:
    fleet.publish(5)
    state = "/var/lib/flyd"
    free = int(lab("ssh", THIRD, "--", f"df --output=avail --block-size=1M {state} | tail -n 1"))
    lab("ssh", THIRD, "--", f"fallocate --length {free - 150}M {state}/full")
    before = [fleet.device_of(name) for name in NAMES]
    code, output = fleet.run()
    lab("ssh", THIRD, "--", f"rm {state}/full")
    assert code != 0
    assert f"{THIRD}" in output.partition("Capacity")[2], output
    assert ("short" in output, [fleet.device_of(name) for name in NAMES]) == (True, before)
    assert fleet.versions() == ["2"] * COUNT

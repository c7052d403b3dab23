# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A redis server as the guest of an instance, from version to version: flips, goes back by itself, and survives cuts of power.

The tests run in order; each finds the machine as the one before has left it.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.campaigns.harness.target import Step, Target
from tests.e2e.machine import LAB, ROOT, Machine, lab
from tests.e2e.redis_versions import version

pytestmark = pytest.mark.timeout(3600)

KEY = "instances/redis.tar"
LINK = "/run/flyd/instances/web"
CUTS = int(os.environ.get("FLYD_CUTS", "10"))
SEED = int(os.environ.get("FLYD_SEED", "21001"))
OPTIONS: dict[str, Any] = {
    "name": "web",
    "key": KEY,
    "switch": ["systemctl", "restart", "guest.service"],
    "health": {"command": ["/root/ping"]},
    "min_healthy": 2,
    "healthy_deadline": 60,
}
Upload = Callable[[str, bytes], None]


@pytest.fixture(scope="module")
def redis() -> Path:
    return Path(lab("image", "redis").strip())


@pytest.fixture(scope="module")
def guest(prepared: Machine, target: Target) -> Machine:
    """The host with the guest's unit, and a pool."""
    subprocess.run([ROOT / "tests/vm/guest/install.sh", sys.prefix, prepared.name], check=True)
    succeed(target, Step("flyd_pool", {"data_size": "4G"}))
    return prepared


@pytest.fixture(scope="module")
def digests() -> dict[str, str]:
    """By name of a version, its digest, as far as the tests have come."""
    return {}


def succeed(target: Target, *steps: Step) -> list[dict[str, Any]]:
    results = target.drive(list(steps))
    assert [one.get("driven") for one in results] == [0] * len(steps), results
    return results


def publish(guest: Machine, target: Target, upload: Upload, archive: bytes) -> str:
    """A version that is fetched and unpacked; its digest."""
    upload(KEY, archive)
    fetch = Step("flyd_fetch", {"key": KEY, **guest.s3_options()})
    result = succeed(target, fetch, Step("flyd_unpack", {"key": KEY}))
    return str(result[0]["sha256"])


def shown(guest: Machine) -> str:
    """The digest that the name points at."""
    return str(json.loads(guest.ssh(f"cat {LINK}/image.json"))["sha256"])


def answers(guest: Machine) -> str:
    """What the guest says, waited for; and it must run on the device that the name points at."""
    said = guest.ssh("for i in $(seq 60); do /root/ping && break; sleep 1; done")
    assert guest.ssh("cat /run/guest.device") == guest.ssh(f"readlink -f {LINK}/device")
    return said.strip()


def at_rest(guest: Machine, target: Target) -> None:
    assert guest.module("flyd_info")["drift"] == []
    assert target.violations() == []


def test_the_first_version_is_bound(
    guest: Machine, target: Target, upload: Upload, redis: Path, digests: dict[str, str]
) -> None:
    digests["one"] = publish(guest, target, upload, version(redis, 1))
    result = guest.module("flyd_instance", **OPTIONS)
    assert (result.get("changed"), result.get("confirmed"), result.get("previous")) == (True, True, None), result
    assert answers(guest) == "+PONG"
    again = guest.module("flyd_instance", **OPTIONS)
    assert (again["changed"], again["seconds"]) == (False, {}), again
    at_rest(guest, target)


def test_a_user_who_may_not_enter_the_state_directory_reads_the_name(guest: Machine) -> None:
    said = guest.ssh(f"setpriv --reuid 65534 --regid 65534 --clear-groups cat {LINK}/drive.json {LINK}/config.json")
    assert '"drive_id": "rootfs"' in said
    assert '"Env"' in said


def test_a_new_version_flips_in_one_task(
    guest: Machine, target: Target, upload: Upload, redis: Path, digests: dict[str, str]
) -> None:
    digests["two"] = publish(guest, target, upload, version(redis, 2))
    foreseen = guest.module("flyd_instance", check=True, **OPTIONS)
    assert (foreseen["current"], foreseen["previous"]) == (digests["two"], digests["one"]), foreseen
    assert shown(guest) == digests["one"]
    result = guest.module("flyd_instance", **OPTIONS)
    assert (result["changed"], result["current"], result["previous"]) == (True, digests["two"], digests["one"]), result
    assert answers(guest) == "+PONG"
    assert shown(guest) == digests["two"]
    at_rest(guest, target)


def test_a_version_whose_server_ends_at_once_goes_back_automatically(
    guest: Machine, target: Target, upload: Upload, redis: Path, digests: dict[str, str]
) -> None:
    publish(guest, target, upload, version(redis, 3, is_broken=True))
    result = guest.module("flyd_instance", **{**OPTIONS, "healthy_deadline": 15})
    assert result.get("error_kind") == "unhealthy", result
    assert "command /root/ping: ended with 1" in result["msg"]
    assert f"went back to sha256:{digests['two']}, which is healthy" in result["msg"]
    assert answers(guest) == "+PONG"
    assert shown(guest) == digests["two"]
    stays = guest.module("flyd_instance", **{**OPTIONS, "state": "previous"})
    assert (stays["changed"], stays["current"]) == (False, digests["two"]), stays
    at_rest(guest, target)


def test_back_by_hand(guest: Machine, target: Target, digests: dict[str, str]) -> None:
    bind = Step("flyd_instance", {**OPTIONS, "sha256": digests["two"], "healthy_deadline": 60})
    assert not succeed(target, bind)[0]["changed"]
    succeed(target, Step("flyd_instance", {**OPTIONS, "sha256": digests["one"]}), bind)
    result = guest.module("flyd_instance", name="web", key=KEY, state="previous")
    assert (result["changed"], result["went_back"], result["current"]) == (True, True, digests["one"]), result
    assert answers(guest) == "+PONG"
    again = guest.module("flyd_instance", name="web", key=KEY, state="previous")
    assert (again["changed"], again["current"]) == (False, digests["one"]), again
    at_rest(guest, target)


def test_a_bind_that_is_confirmed_in_time(guest: Machine, target: Target, digests: dict[str, str]) -> None:
    two = {**OPTIONS, "sha256": digests["two"]}
    waiting, confirmed = succeed(
        target,
        Step("flyd_instance", {**two, "confirm_within": 900}),
        Step("flyd_instance", {"name": "web", "key": KEY, "sha256": digests["two"], "state": "confirmed"}),
    )
    assert (waiting["confirmed"], confirmed["confirmed"], confirmed["changed"]) == (False, True, True)
    assert "flyd-confirm-web" not in guest.ssh("systemctl list-timers --all")
    assert answers(guest) == "+PONG"
    at_rest(guest, target)


def test_one_that_nobody_confirms_goes_back_alone(guest: Machine, target: Target, digests: dict[str, str]) -> None:
    one = Step("flyd_instance", {**OPTIONS, "sha256": digests["one"], "confirm_within": 20})
    assert not succeed(target, one)[0]["confirmed"]
    assert shown(guest) == digests["one"]
    deadline = time.monotonic() + 300
    while shown(guest) != digests["two"]:
        assert time.monotonic() < deadline, guest.ssh("systemctl list-timers --all; journalctl --no-pager -n 50")
        time.sleep(5)
    assert answers(guest) == "+PONG"
    at_rest(guest, target)
    late = target.drive(
        [Step("flyd_instance", {"name": "web", "key": KEY, "sha256": digests["one"], "state": "confirmed"})]
    )
    assert (late[0]["failed"], late[0]["error_kind"]) == (True, "out_of_order"), late


@pytest.mark.parametrize("number", range(CUTS))
def test_the_power_is_cut_between_flip_and_confirmation(
    guest: Machine, target: Target, digests: dict[str, str], number: int
) -> None:
    """After the start the earlier version answers, before any play."""
    dice = random.Random(SEED + number)
    # Every other time it waits to be confirmed.
    wait = {"confirm_within": 3600, "min_healthy": 0} if number % 2 else {"confirm_within": 0, "min_healthy": 600}
    options = {**OPTIONS, "sha256": digests["one"], **wait}
    steps = json.dumps([Step("flyd_instance", options).to_json()]).encode()
    with subprocess.Popen([*LAB, "ssh", guest.name, "--", target.command()], stdin=subprocess.PIPE) as bind:
        assert bind.stdin is not None
        bind.stdin.write(steps)
        bind.stdin.close()
        deadline = time.monotonic() + 300
        while shown(guest) != digests["one"]:
            assert time.monotonic() < deadline, "it did not flip"
        time.sleep(dice.uniform(0, 8))
        lab("cut", guest.name)
    guest.ssh("systemctl start flyd-restore.service")  # returns when the one of this start has ended
    assert shown(guest) == digests["two"]
    assert answers(guest) == "+PONG"
    at_rest(guest, target)


def test_what_an_instance_points_at_is_not_removed(guest: Machine, target: Target, digests: dict[str, str]) -> None:
    absent = {"key": KEY, "state": "absent", "force": True}
    [refused] = target.drive([Step("flyd_fetch", absent)])
    assert (refused["failed"], refused["error_kind"]) == (True, "out_of_order"), refused
    assert answers(guest) == "+PONG"
    guest.ssh("systemctl disable --now guest.service 2>&1")
    succeed(target, Step("flyd_instance", {"name": "web", "key": KEY, "state": "absent"}), Step("flyd_fetch", absent))
    assert guest.ssh("ls -A /run/flyd/instances") == ""
    at_rest(guest, target)

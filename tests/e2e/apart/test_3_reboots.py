"""Ways back from a reboot other than the usual one, and the numbers that a timer writes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.conftest import REDIS_KEY
from tests.e2e.machine import ROOT, Machine, Play, lab
from tests.e2e.test_3_reboot import MOST_EXPOSURE, OUR_DEVICES, exposure

pytestmark = pytest.mark.timeout(1800)

NUMBERS = "/var/lib/node-exporter"
# As the machine was prepared: else its environment would be made again.
WHEELS: dict[str, Any] = {"prepare_wheels": str(ROOT / "build/wheels")}
# node-exporter's directory belongs to another user on Debian, who may put anything in the way.
TRAPS = f"""
id exporter > /dev/null 2>&1 || useradd --system exporter
mkdir -p {NUMBERS}
echo secret > /root/secret
ln -sf /root/secret {NUMBERS}/flyd.prom
ln -sf /root/secret {NUMBERS}/.flyd.prom.new
chown --no-dereference exporter: {NUMBERS} {NUMBERS}/flyd.prom {NUMBERS}/.flyd.prom.new
"""


def test_without_the_unit_the_next_play_brings_all_back(prepared: Machine, activation: Play) -> None:
    digest = f"head -c 64M {activation.device} | sha256sum"
    second = prepared.module("flyd_snapshot", key=REDIS_KEY, name="second-name")
    before = {command: prepared.ssh(command) for command in (OUR_DEVICES, digest)}
    prepared.ssh("rm /etc/systemd/system/multi-user.target.wants/flyd-restore.service && sync")
    lab("cut", prepared.name)
    assert prepared.ssh(f"{OUR_DEVICES}; true") == ""
    back = prepared.play("playbooks/activate.yml", key=REDIS_KEY)
    assert (back.returncode, back.device) == (0, activation.device), back.output
    assert prepared.ssh(digest) == before[digest]
    assert prepared.ssh(OUR_DEVICES) == before[OUR_DEVICES]  # other names of the image too, though the play names one
    assert second["device"].rpartition("/")[2] in before[OUR_DEVICES]
    assert prepared.module("flyd_snapshot", key=REDIS_KEY, name="second-name", state="absent")["changed"]
    prepared.ssh("systemctl enable flyd-restore.service 2> /dev/null")


def test_the_numbers_for_node_exporter_are_written_by_a_timer(prepared: Machine, activation: Play) -> None:
    prepared.ssh(TRAPS)
    play = prepared.play("playbooks/prepare.yml", prepare_textfile_directory=NUMBERS, **WHEELS)
    assert play.returncode == 0, play.output
    assert prepared.ssh("systemctl is-active flyd-metrics.timer").strip() == "active"
    prepared.ssh("systemctl start flyd-metrics.service")  # returns when it has ended
    numbers = prepared.ssh(f"cat {NUMBERS}/flyd.prom").splitlines()
    assert 'flyd_pool_healthy{pool="pool",mode="rw"} 1' in numbers
    assert 'flyd_images{state="activated"} 1' in numbers
    assert 'flyd_snapshots{mapped="false"} 0' in numbers
    assert any(line.startswith("flyd_transitions_total{") for line in numbers)
    assert prepared.ssh(f"stat -c '%n %F %U %a' {NUMBERS}/* {NUMBERS}/.f*; cat /root/secret; true").splitlines() == [
        f"{NUMBERS}/flyd.prom regular file exporter 644",
        "secret",
    ]
    assert exposure(prepared, "flyd-metrics.service") <= MOST_EXPOSURE

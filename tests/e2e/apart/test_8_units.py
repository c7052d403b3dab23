"""Units of systemd that an option of the role prepare asks for no more are removed, with what they wrote."""

from __future__ import annotations

import pytest

from tests.e2e.apart.test_3_reboots import NUMBERS, WHEELS
from tests.e2e.machine import Machine, Play
from tests.e2e.test_3_reboot import OUR_DEVICES

pytestmark = pytest.mark.timeout(1800)

UNITS = "find /etc/systemd/system /usr/local/lib /var/lib/node-exporter -name '*flyd*' | sort"


def test_units_that_are_wanted_no_more_are_removed_with_their_numbers(prepared: Machine, activation: Play) -> None:
    prepared.ssh(f"mkdir -p {NUMBERS}")
    play = prepared.play("playbooks/prepare.yml", prepare_textfile_directory=NUMBERS, **WHEELS)
    assert play.returncode == 0, play.output
    prepared.ssh("systemctl start flyd-metrics.service")
    devices, units = prepared.ssh(OUR_DEVICES), prepared.ssh(UNITS)
    assert units.count("flyd-restore.service") == 2
    looked = prepared.play("playbooks/prepare.yml", check=True, **WHEELS)
    assert (looked.returncode, looked.changed, prepared.ssh(UNITS)) == (0, 1, units), looked.output
    play = prepared.play("playbooks/prepare.yml", **WHEELS)
    assert (play.returncode, play.changed > 0) == (0, True), play.output
    assert prepared.ssh(UNITS).splitlines() == [
        line for line in units.splitlines() if "metrics" not in line and "prom" not in line
    ]
    assert prepared.ssh("systemctl is-active flyd-metrics.timer; true").strip() == "inactive"
    assert prepared.ssh("systemctl is-active flyd-grow.service").strip() == "active"
    play = prepared.play(
        "playbooks/prepare.yml", prepare_restore=False, prepare_grow=False, prepare_backup=False, **WHEELS
    )
    assert play.returncode == 0, play.output
    assert prepared.ssh(UNITS) == ""
    assert prepared.ssh(OUR_DEVICES) == devices
    assert prepared.ssh("systemctl is-active flyd-grow.service; true").strip() == "inactive"
    again = prepared.play(
        "playbooks/prepare.yml", prepare_restore=False, prepare_grow=False, prepare_backup=False, **WHEELS
    )
    assert (again.returncode, again.changed) == (0, 0), again.output


NEEDS_RELOAD = "systemctl show --property=NeedDaemonReload --value flyd-restore.service"


def test_a_unit_that_a_killed_run_has_written_is_read_by_the_next(prepared: Machine) -> None:
    """The run that wrote it ended before it had systemd read it: nothing changes any more, and systemd must still be asked."""
    play = prepared.play("playbooks/prepare.yml", **WHEELS)
    assert play.returncode == 0, play.output
    unit = "/etc/systemd/system/flyd-restore.service"
    prepared.ssh(
        f"cp --preserve {unit} /root/unit && sed -i 's/^Description=.*/Description=older/' {unit} && systemctl daemon-reload"
        f" && systemctl start {unit.rpartition('/')[2]} && cp /root/unit {unit} && rm /root/unit"
    )
    assert prepared.ssh(NEEDS_RELOAD).strip() == "yes"
    again = prepared.play("playbooks/prepare.yml", **WHEELS)
    assert (again.returncode, again.changed) == (0, 0), again.output
    assert prepared.ssh(NEEDS_RELOAD).strip() == "no"
    assert "older" not in prepared.ssh("systemctl show --property=Description flyd-restore.service")


def test_numbers_are_removed_from_their_old_place_when_a_run_was_killed_before_that(prepared: Machine) -> None:
    """The unit that names the old place is replaced after it: here, the timer has stopped and nothing else has happened."""
    prepared.ssh(f"mkdir -p {NUMBERS} {NUMBERS}-new")
    play = prepared.play("playbooks/prepare.yml", prepare_textfile_directory=NUMBERS, **WHEELS)
    assert play.returncode == 0, play.output
    prepared.ssh("systemctl start flyd-metrics.service && systemctl stop flyd-metrics.timer")
    moved = prepared.play("playbooks/prepare.yml", prepare_textfile_directory=f"{NUMBERS}-new", **WHEELS)
    assert moved.returncode == 0, moved.output
    prepared.ssh("systemctl start flyd-metrics.service")
    assert prepared.ssh(f"ls {NUMBERS} {NUMBERS}-new").split() == [f"{NUMBERS}:", f"{NUMBERS}-new:", "flyd.prom"]
    assert prepared.ssh("systemctl is-active flyd-metrics.timer").strip() == "active"
    gone = prepared.play("playbooks/prepare.yml", **WHEELS)
    assert gone.returncode == 0, gone.output
    assert prepared.ssh(f"ls {NUMBERS}-new; systemctl is-active flyd-metrics.timer; true").split() == ["inactive"]

"""Nothing that a guest writes is read by the host: not by udev's rules, LVM, md, bcache, btrfs or multipath, at no time."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from tests.campaigns.harness.target import Shell, Step
from tests.guests.host import GUESTS, MDADM, POOL, RULE, SETTLE, Host

pytestmark = pytest.mark.timeout(3600)

OURS = "udevadm info --query=property"


@pytest.fixture(scope="module")
def guests(host: Host) -> dict[str, str]:
    """A snapshot for each kind of guest, before any has written; name and device."""
    return host.activate(GUESTS)


@pytest.fixture(scope="module")
def before(host: Host, guests: dict[str, str]) -> list[str]:
    """What the host has before guests write, read by hand too."""
    host.by_hand()
    return host.look()


@pytest.fixture(scope="module")
def written(host: Host, guests: dict[str, str], before: list[str]) -> dict[str, str]:
    """The same snapshots after each guest has written its image and closed its device."""
    for name, device in guests.items():
        host.write(name, device)
    host.settle()
    return guests


def drift(host: Host) -> list[str]:
    """What flyd_info reports."""
    found = host.succeed([Step("flyd_info", {"what": ["drift"]})])[0]["drift"]
    return [one["text"] for one in found]


def test_the_host_has_what_guests_will_look_like(before: list[str]) -> None:
    text = "\n".join(before)
    for name in ("hostroot", "hostdata", "hostpart", "hostvg data active", "active raid1"):
        assert name in text


def test_an_array_that_is_listed_is_still_assembled(host: Host, before: list[str]) -> None:
    """The host's own: by a scan, and when its disk is seen."""
    md = "/dev/$(awk '/^md/ { print $1; exit }' /proc/mdstat)"
    for assemble in ("mdadm --assemble --scan", "udevadm trigger --action=add /dev/vdb3"):
        host.ssh(f"mdadm --stop {md} && {SETTLE} && {assemble}")
        host.settle()
        assert host.look() == before, assemble


def test_what_guests_write_changes_nothing_when_they_close(
    host: Host, written: dict[str, str], before: list[str]
) -> None:
    assert host.look() == before


@pytest.mark.parametrize("action", ["change", "add"])
def test_nor_when_udev_is_triggered(host: Host, written: dict[str, str], before: list[str], action: str) -> None:
    host.ssh(f"udevadm trigger --action={action} --subsystem-match=block")
    host.settle()
    assert host.look() == before


def test_nor_when_an_operator_scans(host: Host, written: dict[str, str], before: list[str]) -> None:
    host.by_hand()
    assert host.look() == before


def test_nor_when_they_are_mapped_again(host: Host, written: dict[str, str], before: list[str]) -> None:
    begun = time.monotonic()
    host.unmap(*written.values())
    assert time.monotonic() - begun < 10 * len(written), "something held them"
    host.bring_back()
    host.by_hand()
    assert host.look() == before


def test_nor_after_a_reboot(host: Host, written: dict[str, str], before: list[str]) -> None:
    host.reboot()
    host.by_hand()
    assert host.look() == before, "without guests' devices"
    host.bring_back()
    host.by_hand()
    assert host.look() == before


def test_drift_has_nothing_of_it(host: Host, written: dict[str, str]) -> None:
    assert drift(host) == []


def test_the_snapshots_are_removed_at_once(host: Host, written: dict[str, str], before: list[str]) -> None:
    results = host.remove(tuple(written))
    assert all(result["changed"] for result in results)
    actions = [one for result in results for one in result["actions"] if one["action"] == "remove_device"]
    removals = [one["subject"] for one in actions for _ in range(one["count"])]
    # Each as the guest's device, and once more when its blocks have been discarded.
    assert list(Counter(removals).values()) == [2] * len(written), "one was busy, and was tried again"
    host.settle()
    assert host.look() == before


def test_the_flags_hold_without_the_rule(host: Host, before: list[str]) -> None:
    host.ssh(f"mv {RULE} /root/kept.rules && udevadm control --reload")
    try:
        devices = host.activate(("flags-ext4", "flags-md", "flags-lvm"))
        for guest, device in zip(("ext4", "md-own", "lvm-guestvg"), devices.values(), strict=True):
            host.write(guest, device)
        host.ssh(f"udevadm trigger --subsystem-match=block; {SETTLE}")
        host.settle()
        # lvs and pvs read devices without udev, and their filter knows the devices by a name that the rule gives.
        seen_by_lvm = [line for line in host.look() if "/dev/mapper/snap-" in line]
        assert not [line for line in seen_by_lvm if " active " in line]
        assert [line for line in host.look() if line not in seen_by_lvm] == before
    finally:
        host.remove(("flags-ext4", "flags-md", "flags-lvm"))
        # The trigger has had udev process the pool without the rule, too.
        host.ssh(f"mv /root/kept.rules {RULE} && udevadm control --reload && udevadm trigger --subsystem-match=block")
        host.settle()


def test_the_rule_holds_without_the_flags(host: Host, before: list[str]) -> None:
    """A device that dmsetup has made again by hand, with an event of its own."""
    device = host.activate(("rule",))["rule"]
    name = device.rpartition("/")[2]
    again = (
        f"table=$(dmsetup table {name}) && uuid=$(dmsetup info -c --noheadings -o uuid {name}) && "
        f'dmsetup remove {name} && dmsetup create {name} --uuid $uuid --table "$table"'
    )
    for guest in ("ext4", "md-own", "lvm-guestvg"):
        host.write(guest, device)
        host.succeed([Shell(again)])
        host.settle()
        assert host.look() == before, guest
    host.remove(("rule",))


def test_the_node_keeps_who_may_open_it(host: Host) -> None:
    device = host.activate(("access",), owner="1234", mode="0640")["access"]
    wanted = host.ssh(f"stat --dereference --format='%u %a' {device}")
    assert wanted.split() == ["1234", "640"]
    for command in (
        f"python3 -c 'import os; os.close(os.open(\"{device}\", os.O_RDWR))'",
        f"udevadm trigger {device}",
        f"udevadm trigger --action=add {device}",
        f"dmsetup suspend {device} && dmsetup resume {device}",
    ):
        host.ssh(f"{command}; {SETTLE}")
        assert host.ssh(f"stat --dereference --format='%u %a' {device}") == wanted, command
    host.remove(("access",))


def test_loops_of_a_pool_are_not_probed(host: Host) -> None:
    for loop in host.ssh("losetup --list --noheadings --output NAME,BACK-FILE | awk '/flyd/ { print $1 }'").split():
        found = host.ssh(f"udevadm trigger {loop}; {SETTLE}; {OURS} {loop}")
        assert "FLYD_RULES=1" in found
        assert "ID_FS_" not in found


def test_the_role_changes_nothing_when_it_runs_again(host: Host) -> None:
    assert "changed=0" in host.run_role()
    assert "changed=0" in host.run_role("--check")


def warnings(host: Host, *, check: bool = False) -> list[str]:
    """What flyd_pool warns of."""
    return [str(one) for one in host.succeed([Step("flyd_pool", POOL, check=check)])[0].get("warnings", [])]


def test_a_rule_that_a_killed_run_of_the_role_has_installed_is_applied_by_the_next(host: Host) -> None:
    assert warnings(host) == []
    host.ssh(f"mv {RULE} /root/kept.rules && udevadm control --reload")
    for check in (False, True):
        [warning] = warnings(host, check=check)
        assert "10-flyd.rules is missing" in warning
        assert "flyd.lite.prepare" in warning
    [missing] = drift(host)
    assert missing in warning
    host.activate(("late",))
    host.ssh(f"mv /root/kept.rules {RULE}")
    [missing] = drift(host)
    assert "has not been applied to snap-" in missing
    assert "changed=0" in host.run_role()
    assert drift(host) == []
    host.remove(("late",))


def test_the_role_lets_mdadm_be_while_an_array_is_not_listed(host: Host) -> None:
    """The host would miss it at its next boot."""
    host.ssh("sed -i.kept /^ARRAY/d /etc/mdadm/mdadm.conf")
    [missing] = drift(host)
    assert "mdadm will not assemble md" in missing
    said = host.run_role()
    assert "No ARRAY line of mdadm.conf names md" in said
    host.ssh(f"! test -e {MDADM}")
    [missing] = drift(host)
    assert "no ARRAY line names md" in missing
    host.ssh("mv /etc/mdadm/mdadm.conf.kept /etc/mdadm/mdadm.conf")
    [missing] = drift(host)
    assert "prepare_mdadm" in missing
    assert "changed=0" in host.run_role("--extra-vars", '{"prepare_mdadm": false}')
    assert "changed=1" in host.run_role("--check")
    host.ssh(f"! test -e {MDADM}")
    assert "changed=1" in host.run_role()
    assert drift(host) == []

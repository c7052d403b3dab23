"""A host that was prepared, used and left again is as it was, by a list of all its files: path, type, mode, owner, content."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import REDIS_KEY, VENV
from tests.e2e.machine import LAB, ROOT, Machine, lab

pytestmark = pytest.mark.timeout(3600)

NAME = "leaving1"
NUMBERS = "/var/lib/node-exporter"
# apt needs python3-apt of Ansible's own module, too.
PACKAGES = ("thin-provisioning-tools", "python3-apt", "python-apt-common")
LIST = """find / -xdev -printf '%y %m %U:%G %p %l\\n' | sort > /run/list
find / -xdev -type f -print0 | sort -z | xargs -0 sha256sum >> /run/list; cat /run/list"""
# But for what the timer writes each minute.
OURS = "find / -xdev -path '*flyd*' ! -name flyd.prom -printf '%y %m %U:%G %s %T@ %p %l\\n' | sort"
# What belongs to the system and changes while it runs, and what packages leave that came and went.
SYSTEM = re.compile(
    r"/var/(log|cache|tmp|backups)(/|$)|/tmp(/|$)|/var/lib/(apt|dpkg|systemd|private|ucf|logrotate)(/|$)|/root/\.ansible(/|$)"
    r"|.*/__pycache__(/|$)|/etc/(ld\.so\.cache|machine-id|resolv\.conf|mtab|adjtime)$|/boot/initrd|/root/\.ssh(/|$)"
)


def listed(machine: Machine) -> set[str]:
    """Return a line for each path with its attributes, and one for each file with a hash."""
    lines = machine.ssh(LIST).splitlines()
    return {line for line in lines if not SYSTEM.match(line[line.index(" /") + 1 :].split(" ")[0])}


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A pristine VM whose packages come from a directory of its own, without one that prepare installs."""
    directory = tmp_path_factory.mktemp("leaving")
    s3_was_up = subprocess.run([*LAB, "s3", "url"], capture_output=True, check=False).returncode == 0
    lab("s3", "up")
    try:
        lab("up", "1", "--name", NAME[:-1])
        lab("inventory", "--output", str(directory / "inventory.yml"))
        environment = dict(line.split("=", 1) for line in lab("s3", "env").splitlines())
        environment["AWS_ENDPOINT_URL"] = environment["FLYD_S3_ENDPOINT_FROM_VM"]
        lab("s3", "put", lab("image", "redis").strip(), REDIS_KEY)
        found = Machine(NAME, directory / "inventory.yml", environment)
        offer_packages(found, directory / "packages")
        yield found
    finally:
        if not os.environ.get("FLYD_E2E_KEEP"):
            lab("down", NAME)
            if not s3_was_up:
                lab("s3", "down")


def offer_packages(machine: Machine, directory: Path) -> None:
    """Have apt in the VM know these packages and no others."""
    directory.mkdir()
    subprocess.run(["apt-get", "download", "--quiet", *PACKAGES], cwd=directory, check=True)
    index = ""
    for package in sorted(directory.glob("*.deb")):
        control = subprocess.run(["dpkg-deb", "--field", package], check=True, capture_output=True, text=True).stdout
        digest = hashlib.sha256(package.read_bytes()).hexdigest()
        index += f"{control.strip()}\nFilename: ./{package.name}\nSize: {package.stat().st_size}\nSHA256: {digest}\n\n"
    (directory / "Packages").write_text(index)
    packed = subprocess.run(["tar", "--create", "--directory", directory, "."], check=True, capture_output=True).stdout
    machine.ssh(
        "mkdir /srv/packages && tar --extract --directory /srv/packages && rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*"
        " && echo 'deb [trusted=yes] file:/srv/packages ./' > /etc/apt/sources.list && chmod -R a+rX /srv/packages"
        " && echo update_initramfs=no > /etc/initramfs-tools/update-initramfs.conf"  # it takes minutes, each time
        f" && dpkg --purge {PACKAGES[0]} && mkdir {NUMBERS}",
        stdin=packed,
    )


def on_the_host_itself(machine: Machine, command: str) -> str:
    """Run a command in the VM, which is its own controller and has no inventory; returns what it printed."""
    argv = [str(ROOT / "tools/lab/local_controller.sh"), str(VENV), machine.name]
    done = subprocess.run(
        argv, env={**os.environ, **machine.environment}, stdout=subprocess.PIPE, text=True, check=True
    )
    return machine.ssh(f"{done.stdout.strip()} && {command}")


@pytest.fixture(scope="module")
def before(machine: Machine) -> set[str]:
    """What the host has before it is prepared."""
    return listed(machine)


@pytest.fixture(scope="module")
def used(machine: Machine, before: set[str]) -> Machine:
    """The host, prepared and with an image."""
    options: dict[str, Any] = {"prepare_wheels": str(ROOT / "build/wheels"), "prepare_textfile_directory": NUMBERS}
    subprocess.run([ROOT / "tools/lab/wheels.sh", VENV, ROOT / "build/wheels"], check=True)
    prepared = machine.play("playbooks/prepare.yml", **options)
    assert prepared.returncode == 0, prepared.output
    machine.ssh(f"systemctl start flyd-metrics.service; dpkg --status {PACKAGES[0]}")
    activated = on_the_host_itself(machine, f"ansible-playbook activate.yml -e key={REDIS_KEY}")
    assert re.search(r"^localhost .* changed=4 .* failed=0 ", activated, re.MULTILINE), activated
    machine.ssh(f"systemctl start flyd-metrics.service; test -s {NUMBERS}/flyd.prom")
    return machine


def test_a_host_with_a_pool_is_not_left(used: Machine) -> None:
    units = used.ssh("systemctl list-units --all 'flyd*'; ls /opt/flyd")
    play = used.play("playbooks/unprepare.yml", unprepare_state=True)
    assert (play.returncode, play.changed) == (2, 0), play.output
    said = " ".join(play.output.split())
    assert "this host still has the pool pool, the snapshot /dev/mapper/snap-" in said
    assert used.ssh("systemctl list-units --all 'flyd*'; ls /opt/flyd") == units


def test_a_host_that_is_left_is_as_it_was(used: Machine, before: set[str]) -> None:
    for book in ("deactivate", "teardown"):
        given = {"deactivate_key": REDIS_KEY} if book == "deactivate" else {}
        play = used.play(f"playbooks/{book}.yml", check=False, **given)
        assert (play.returncode, play.changed) == (0, 1), play.output
    options: dict[str, Any] = {"unprepare_state": True, "unprepare_packages": True}
    there = used.ssh(OURS)
    looked = used.play("playbooks/unprepare.yml", check=True, **options)
    assert looked.returncode == 0, looked.output
    assert sorted(set(used.ssh(OURS).splitlines()) ^ set(there.splitlines())) == []
    left = used.play("playbooks/unprepare.yml", **options)
    assert (left.returncode, left.changed) == (0, looked.changed + 1), left.output  # check mode stops no units
    after = listed(used)
    assert sorted(before ^ after) == []
    assert used.ssh("systemctl list-units --all --no-legend 'flyd*'; udevadm info --export-db | grep FLYD; true") == ""


def test_a_second_run_changes_nothing(used: Machine) -> None:
    play = used.play("playbooks/unprepare.yml", unprepare_state=True, unprepare_packages=True)
    assert (play.returncode, play.changed) == (0, 0), play.output

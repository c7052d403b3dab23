# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A simulated fleet and its controller: inventory, ansible-playbook, and what the hosts are in the end.

Invariant: the controller is the real one. What is said of a host is read from its own database and its own files, never from what
ansible-playbook printed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import socket as sockets
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from module_utils._lifecycle.store.instance_record import Instance
from module_utils._lifecycle.store.records import Operation
from tests.fleet.hosts import CALLS, Fleet, running
from tests.unit._lifecycle.conftest import make_directory
from tests.unit._lifecycle.instance.machine import NAME
from tests.unit._lifecycle.machine import KEY
from tests.unit._lifecycle.s3_stand_in import BUCKET, S3StandIn
from tests.unit.builders import images, tar
from tests.unit.fakes.kernel import Kernel

ROOT = Path(__file__).parents[2]
ANSIBLE = Path(sys.executable).with_name("ansible-playbook")
HEALTHY = ROOT / "tests/fleet/healthy.sh"


def archive(number: int) -> bytes:
    """An image of which every number has another one."""
    return images.docker_archive((tar.tar(tar.directory(b"etc"), tar.file(b"etc/version", str(number).encode())),))


POOL = {"data_size": "4M", "metadata_size": "256K", "min_free_percent": 0}


def digest(number: int) -> str:
    """The SHA-256 of an image."""
    return hashlib.sha256(archive(number)).hexdigest()


class Host(NamedTuple):
    """A host as it is: its instance, and what is left open.

    ``was_tried``: its guest was asked for its health since the hosts were repaired last, so it was switched. ``was_hurt``: it was not well then,
    or fell ill afterwards.
    """

    current: str
    previous: str
    confirmed: bool
    points_at: str
    open_operations: int
    is_dead: bool
    was_tried: bool = False
    was_hurt: bool = False


class Done(NamedTuple):
    """How ansible-playbook ended."""

    returncode: int
    output: str
    cpu_seconds: float

    def lines(self, head: str) -> list[str]:
        """The lines of the summary that begin with ``head``."""
        found = (line.strip().removeprefix('"msg": ').strip('",') for line in self.output.splitlines())
        return [line for line in found if line.startswith(head)]


def _numbered(count: int) -> list[str]:
    width = len(str(count))
    return [f"h{number:0{width}}" for number in range(1, count + 1)]


class Simulation:
    """A fleet of so many hosts, or of hosts with these names. ``faults`` has what goes wrong, by host, as STEP:KIND."""

    def __init__(self, directory: Path, s3: S3StandIn, socket: Path, hosts: int | list[str]) -> None:
        self.directory, self.s3, self.socket = directory, s3, socket
        self.fleet = Fleet(directory, s3)
        self.names = hosts if isinstance(hosts, list) else _numbered(hosts)
        self.faults: dict[str, str] = {}
        self.host_variables: dict[str, dict[str, Any]] = {}
        self.options: dict[str, Any] = {}

    def install(self, number: int) -> None:
        """Bring an image to all hosts and bind the instance to it, by the modules and without a controller."""
        self.publish(number)
        for name in self.names:
            its = {key: str(value).replace("{{ inventory_hostname }}", name) for key, value in self.variables().items()}
            common = {"state_dir": its["activate_state_dir"], "retries": 0}
            source = {"bucket": BUCKET, "endpoint_url": self.s3.url, "anonymous": True, "region": "us-east-1"}
            self.call(name, "flyd_pool", {**common, "name": "pool", **POOL})
            self.call(name, "flyd_fetch", {**common, "key": KEY.value, **source})
            self.call(name, "flyd_unpack", {**common, "key": KEY.value, "size": "1M"})
            health = {"health": {"command": [str(HEALTHY), str(self.directory / name)]}, "min_healthy": 0}
            self.call(name, "flyd_instance", {**common, "key": KEY.value, "name": NAME, **health})
            (self.directory / name / "files/tried").unlink()

    def call(self, host: str, module: str, options: dict[str, Any]) -> dict[str, Any]:
        """The result of a module on a host."""
        with sockets.socket(sockets.AF_UNIX) as connection:
            connection.connect(str(self.socket))
            request = {"host": host, "module": module, "options": options, "fault": ""}
            connection.sendall(json.dumps(request).encode())
            connection.shutdown(sockets.SHUT_WR)
            with connection.makefile("rb") as file:
                answer = json.loads(file.read())
        result: dict[str, Any] = answer["result"]
        assert not result.get("failed"), result
        return result

    def count_calls(self) -> int:
        """How often a host was called so far."""
        return (self.directory / CALLS).stat().st_size

    def publish(self, number: int) -> None:
        """Put another image behind the key."""
        self.s3.put(KEY.value, archive(number))

    def inventory(self) -> Path:
        """The inventory of the fleet as it is now."""
        hosts = {
            name: {"sim_fault": self.faults.get(name, ""), **self.host_variables.get(name, {})} for name in self.names
        }
        path = self.directory / "inventory.json"
        variables = {
            "ansible_connection": "sim",
            "ansible_become": False,
            "ansible_python_interpreter": sys.executable,
            "sim_socket": str(self.socket),
        }
        path.write_text(json.dumps({"all": {"hosts": hosts, "vars": variables}}))
        return path

    def command(
        self, book: str, options: Mapping[str, Any], *arguments: str, variables: Mapping[str, Any] | None = None
    ) -> list[str]:
        """The command line of a playbook; ``variables`` are given instead of those of a rollout."""
        return [
            str(ANSIBLE),
            "-i",
            str(self.inventory()),
            str(ROOT / "playbooks" / book),
            "-e",
            json.dumps({**(self.variables() if variables is None else variables), **options}),
            *arguments,
        ]

    @property
    def state_dir(self) -> str:
        """Where hosts have their database, as a variable."""
        return f"{self.directory}/{{{{ inventory_hostname }}}}/state"

    def groups(self) -> dict[str, list[str]]:
        """The groups of the inventory that docs/guides/rollouts.md makes of what fleet.yml has found."""
        guide = (ROOT / "docs/guides/rollouts.md").read_text()
        [block] = re.findall(r"^    plugin: ansible\.builtin\.constructed\n(?:^ {4}.*\n|^\n)+", guide, re.MULTILINE)
        source = self.directory / "groups.constructed.yml"
        source.write_text(textwrap.dedent(block))
        argv = [str(ANSIBLE.with_name("ansible-inventory")), "-i", str(self.inventory()), "-i", str(source), "--list"]
        done = subprocess.run(argv, env=self.environment(), capture_output=True, text=True, check=True)
        return {name: group.get("hosts", []) for name, group in json.loads(done.stdout).items()}

    def variables(self) -> dict[str, Any]:
        """What all playbooks are given."""
        return {
            "rollout_key": KEY.value,
            "rollout_instances": NAME,
            "rollout_health_command": [str(HEALTHY), f"{self.directory}/{{{{ inventory_hostname }}}}"],
            "rollout_min_healthy": 0,
            "rollout_healthy_deadline": 0.05,
            "rollout_health_interval": 0.01,
            "rollout_directory": str(self.directory / "rollouts"),
            "activate_state_dir": self.state_dir,
            "activate_bucket": BUCKET,
            "activate_endpoint_url": self.s3.url,
            "activate_anonymous": True,
            "activate_region": "us-east-1",
            "activate_retries": 0,
            **{f"activate_pool_{name}": value for name, value in POOL.items()},
            "activate_size": "1M",
            **self.options,
        }

    def environment(self) -> dict[str, str]:
        """The settings of the controller."""
        return {
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "build/collections"),
            "ANSIBLE_CONNECTION_PLUGINS": str(ROOT / "tests/fleet/connection_plugins"),
            "ANSIBLE_FORKS": os.environ.get("FLEET_FORKS", "8"),
            "ANSIBLE_HOME": str(self.directory / "ansible"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_CALLBACKS_ENABLED": "flyd.lite.rollout",
            "ANSIBLE_PIPELINING": "1",
            "ANSIBLE_CACHE_PLUGIN": "ansible.builtin.jsonfile",
            "ANSIBLE_CACHE_PLUGIN_CONNECTION": str(self.directory / "facts"),
        }

    def play(
        self,
        book: str = "rollout.yml",
        *arguments: str,
        variables: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Done:
        """Run a playbook to its end."""
        before = os.times()
        done = subprocess.run(
            self.command(book, options, *arguments, variables=variables),
            env=self.environment(),
            cwd=self.directory,
            capture_output=True,
            text=True,
            check=False,
        )
        after = os.times()
        seconds = after.children_user + after.children_system - before.children_user - before.children_system
        return Done(done.returncode, done.stdout + done.stderr, seconds)

    def host(self, name: str) -> Host:
        """A host as it is."""
        machine = self.fleet.machine(name)
        is_dead = (machine.root / "dead").exists()
        if not (machine.state / "flyd.db").exists():
            return Host("", "", False, "", 0, is_dead)
        found = machine.records(Instance)
        image = machine.root / "run/flyd/instances" / NAME / "image.json"
        points_at = json.loads(image.read_text())["sha256"] if image.exists() else ""
        operations = len(machine.records(Operation))
        mine = [one for one in found if one.name == NAME]
        tried, hurt = ((machine.root / "files" / mark).exists() for mark in ("tried", "hurt"))
        if not mine:
            return Host("", "", False, points_at, operations, is_dead, tried, hurt)
        [instance] = mine
        current, previous = (machine.digest_of(one) for one in (instance.current_id, instance.previous_id))
        return Host(current, previous, instance.is_confirmed, points_at, operations, is_dead, tried, hurt)

    def pointed(self, name: str) -> dict[str, str]:
        """By instance, the digest that its name points at."""
        links = (self.fleet.machine(name).root / "run/flyd/instances").iterdir()
        return {
            link.name: json.loads((link / "image.json").read_text())["sha256"] for link in links if link.is_symlink()
        }

    def generations(self, name: str) -> list[str]:
        """The digests of all generations on a host."""
        return [one.sha256 for one in self.fleet.machine(name).generations()]

    def hosts(self) -> dict[str, Host]:
        """All hosts."""
        return {name: self.host(name) for name in self.names}

    def revive(self) -> None:
        """Repair all hosts: no faults, nobody dead, nobody ill, room in all pools."""
        for name in [name for name, fault in self.faults.items() if fault.endswith(":full")]:
            self._make_room(name)
        self.faults = {}
        for name in self.names:
            for mark in ("dead", "happened", "files/ill", "files/hurt", "files/tried"):
                (self.directory / name / mark).unlink(missing_ok=True)

    def _make_room(self, name: str) -> None:
        with Kernel.of(str(self.directory / name)) as kernel:
            table = kernel.devices["pool"]["table"].split()
            data = kernel.metadata(table)
            data.pop("used_data_blocks", None)
            kernel.save_metadata(table, data)


@contextlib.contextmanager
def simulation(hosts: int | list[str]) -> Iterator[Simulation]:
    """A fleet until the block ends."""
    with make_directory() as name:
        directory = Path(name)
        (directory / "s3").mkdir()
        s3 = S3StandIn(directory / "s3")
        with s3.running(), running(directory, s3) as socket:
            yield Simulation(directory, s3, socket, hosts)

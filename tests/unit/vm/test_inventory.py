"""The inventory says all that Ansible needs to reach a machine."""

from __future__ import annotations

import json
from pathlib import Path

from inventory import inventory_text
from ssh import Endpoint


def _endpoint(name: str, port: int) -> Endpoint:
    return Endpoint(name, port, Path("/c/id"), Path(f"/c/{name} 100%/ssh.sock"))


def test_every_machine_is_a_host_with_its_own_port() -> None:
    text = inventory_text([_endpoint("vm1", 22001), _endpoint("vm2", 22002)])
    assert text.startswith("all:\n  hosts:\n    vm1:\n")
    assert "    vm2:\n" in text
    assert text.count("ansible_port: ") == 2
    assert "      ansible_port: 22002\n" in text


def test_values_are_json_which_is_yaml() -> None:
    lines = inventory_text([_endpoint("vm1", 22001)]).splitlines()[3:]
    values = {name.strip(): json.loads(value) for name, _, value in (line.partition(": ") for line in lines)}
    assert values["ansible_host"] == "127.0.0.1"
    assert values["ansible_user"] == "root"
    assert values["ansible_ssh_private_key_file"] == "/c/id"
    assert values["ansible_python_interpreter"] == "/usr/bin/python3"
    assert values["ansible_control_path"] == "/c/vm1 100%%/ssh.sock"
    assert "-o UserKnownHostsFile=/dev/null" in values["ansible_ssh_common_args"]


def test_no_machine_is_an_empty_inventory() -> None:
    assert inventory_text([]) == "all:\n  hosts: {}\n"

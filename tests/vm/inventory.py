"""The running machines as an Ansible inventory.

Invariant: the text is YAML that needs nothing beside it: address, port, key and ssh options are all in
it. Strings are written in JSON's form, which is YAML as well (YAML 1.2, section 1.3).
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable

from ssh import ADDRESS, USER, Endpoint

_INTERPRETER = "/usr/bin/python3"


def inventory_text(endpoints: Iterable[Endpoint]) -> str:
    """An inventory with one host for each machine, all in the group ``all``."""
    blocks = [_host(endpoint) for endpoint in endpoints]
    hosts = "\n" + "".join(blocks) if blocks else " {}\n"
    return f"all:\n  hosts:{hosts}"


def _host(endpoint: Endpoint) -> str:
    variables: dict[str, str | int] = {
        "ansible_host": ADDRESS,
        "ansible_port": endpoint.port,
        "ansible_user": USER,
        "ansible_ssh_private_key_file": str(endpoint.key),
        "ansible_ssh_common_args": shlex.join(endpoint.options),
        # The lab's own socket, which reset and cut drop: Ansible's would outlive the machine's state.
        "ansible_control_path": str(endpoint.control_socket).replace("%", "%%"),
        "ansible_python_interpreter": _INTERPRETER,
    }
    lines = [f"      {name}: {json.dumps(value)}\n" for name, value in variables.items()]
    return f"    {endpoint.name}:\n{''.join(lines)}"

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A connection to a simulated host: what Ansible would send over ssh goes to tests/fleet/hosts.py, as the name of a module and its options.

Invariant: this is the only place of the tests that knows how ansible-core wraps a module. A wrapper that is not understood is an error.
"""

from __future__ import annotations

DOCUMENTATION = """
name: sim
short_description: Simulated hosts
description: [Runs the modules of the collection on simulated hosts.]
author: The flyd.lite authors
options:
  fault:
    description: [What goes wrong on this host, as STEP:KIND.]
    vars: [{name: sim_fault}]
    default: ''
  socket:
    description: [Where the simulation listens. Without it, the host is dead.]
    vars: [{name: sim_socket}]
"""

import ast
import json
import re
import socket
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.connection import ConnectionBase

_MODULE = re.compile(rb"module_fqn='([^']+)'")
_OPTIONS = re.compile(rb"\nparams=('(?:[^'\\]|\\.)*'),\n")


class Connection(ConnectionBase):  # type: ignore[misc]  # ansible-core comes without types
    """One task on one host."""

    transport = "sim"
    has_pipelining = True
    has_tty = False

    def _connect(self) -> Connection:
        self._connected = True
        return self

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> tuple[int, bytes, bytes]:
        """Run the module that ``in_data`` wraps."""
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        text = in_data or b""
        if not self.get_option("socket"):
            raise AnsibleConnectionFailure("Failed to connect to the host via ssh: Connection timed out")
        module, options = _MODULE.search(text), _OPTIONS.search(text)
        if module is None or options is None:
            raise AnsibleConnectionFailure(f"not a module that the simulation understands: {cmd[:200]}")
        given = json.loads(ast.literal_eval(options.group(1).decode()))["ANSIBLE_MODULE_ARGS"]
        name = module.group(1).decode().rpartition(".")[2]
        request = {
            "host": self._play_context.remote_addr,
            "module": name,
            "options": given,
            "fault": self.get_option("fault"),
        }
        try:
            answer = self._ask(request)
        except OSError as error:
            raise AnsibleConnectionFailure(f"no simulation there: {error}") from error
        if answer.get("unreachable"):
            raise AnsibleConnectionFailure(f"Failed to connect to the host via ssh: {answer['unreachable']}")
        return 0, json.dumps(answer["result"]).encode(), b""

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self.get_option("socket"))
            connection.sendall(json.dumps(request).encode())
            connection.shutdown(socket.SHUT_WR)
            with connection.makefile("rb") as file:
                text = file.read()
        return json.loads(text) if text else {"unreachable": "Connection reset by peer"}

    def put_file(self, in_path: str, out_path: str) -> None:
        """Simulated hosts take no files."""
        raise AnsibleConnectionFailure("simulated hosts take no files")

    def fetch_file(self, in_path: str, out_path: str) -> None:
        """Simulated hosts give no files."""
        raise AnsibleConnectionFailure("simulated hosts give no files")

    def close(self) -> None:
        """Nothing is kept open."""
        self._connected = False

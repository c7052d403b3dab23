"""QEMU's monitor, spoken to over its QMP socket (docs/interop/qmp-spec of QEMU).

Invariant: one command at a time, each with its answer before the next, in bounded time.
"""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from programs import LabError

_TIMEOUT_SECONDS = 120.0
"""Saving the memory of a machine is the slowest command."""


class Monitor:
    """A connection to QEMU's QMP socket (docs/interop/qmp-spec)."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(_TIMEOUT_SECONDS)
        self._socket.connect(str(path))
        self._lines = self._socket.makefile("rwb")
        self._lines.readline()  # the greeting
        self._execute("qmp_capabilities")

    def human(self, command: str) -> str:
        """Run one command of the human monitor and return what it says, which is nothing when all is well."""
        answer = self._execute("human-monitor-command", **{"command-line": command})
        return str(answer).strip()

    def _execute(self, command: str, **arguments: str) -> Any:
        self._lines.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        self._lines.flush()
        for line in self._lines:
            answer = json.loads(line)
            if "error" in answer:
                raise LabError(f"QEMU refuses {command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]
        return ""  # closed: the answer of QEMU to "quit"

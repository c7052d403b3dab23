"""Talking to a virtual machine as root.

Invariant: one shared connection a machine, whose socket lies in the machine's own directory and is
dropped whenever the machine is replaced by another state of itself.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from disks.cache import Cache
from disks.packages import ensure_programs
from programs import LabError, run

ADDRESS = "127.0.0.1"
USER = "root"

_GREETING = b"SSH-"
_GREETING_SECONDS = 1.0
_ANSWER_TIMEOUT_SECONDS = 30.0
"""For one command while a machine comes up: an emulated one needs seconds for a key exchange."""


@dataclass(frozen=True)
class Endpoint:
    """Where a machine's sshd is, and what it takes to log in."""

    name: str
    port: int
    key: Path
    control_socket: Path

    @property
    def options(self) -> list[str]:
        """Options that ssh and Ansible share; host keys change with every base image."""
        return [
            "-o", "UserKnownHostsFile=/dev/null",
            "-o", "StrictHostKeyChecking=no",
            "-o", "IdentitiesOnly=yes",
            "-o", "LogLevel=ERROR",
            # The default exchange is post-quantum, which an emulated machine pays half a second for.
            "-o", "KexAlgorithms=curve25519-sha256",
        ]  # fmt: skip

    def argv(self, command: Sequence[str]) -> list[str]:
        """The ssh command line that runs ``command``, or a shell when it is empty."""
        return [
            "ssh", "-F", "none",
            *self.options,
            "-o", "BatchMode=yes",
            "-o", "ConnectTimeout=15",
            "-o", "ControlMaster=auto",
            "-o", f"ControlPath={str(self.control_socket).replace('%', '%%')}",
            "-o", "ControlPersist=10m",
            "-i", str(self.key),
            "-p", str(self.port),
            f"{USER}@{ADDRESS}",
            *command,
        ]  # fmt: skip

    def run(self, command: str, *, timeout_seconds: float = 60.0) -> str:
        """Run one command line in the machine and return its stdout; LabError when it fails."""
        return run(self.argv([command]), timeout_seconds=timeout_seconds)

    def drop_connection(self) -> None:
        """Forget the shared connection; its process ends by itself when QEMU closes the other end."""
        self.control_socket.unlink(missing_ok=True)

    def wait_until_it_answers(self, command: str, *, timeout_seconds: float, alive: Callable[[], bool]) -> None:
        """Try ``command`` until it succeeds; LabError when time is up or the machine is not ``alive``."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            while not self._is_there() and alive() and time.monotonic() < deadline:
                time.sleep(0.1)
            try:
                self.run(command, timeout_seconds=_ANSWER_TIMEOUT_SECONDS)
                return
            except LabError as error:
                if not alive():
                    raise LabError(f"{self.name} has ended while it came up") from None
                if time.monotonic() > deadline:
                    message = f"{self.name} does not answer ssh after {timeout_seconds:g} s: {error}"
                    raise LabError(message) from None
                time.sleep(0.2)

    def _is_there(self) -> bool:
        """Whether an sshd greets the one that connects.

        QEMU takes a connection before the guest can, and then asks the guest at ever longer intervals: better to ask again than to wait.
        """
        try:
            with socket.create_connection((ADDRESS, self.port), timeout=_GREETING_SECONDS) as connection:
                return connection.recv(len(_GREETING)) == _GREETING
        except OSError:
            return False


def private_key(cache: Cache) -> Path:
    """The lab's key, made when missing."""
    key = cache.directory("ssh") / "id_ed25519"
    with cache.lock("ssh-key"):
        if not key.exists():
            ensure_programs("ssh", "ssh-keygen", log=cache.directory("logs") / "packages.log")
            key.with_suffix(".pub").unlink(missing_ok=True)
            argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "flyd-lab", "-f"]
            run([*argv, key], timeout_seconds=30)
    return key


def public_key(cache: Cache) -> str:
    """The line that lets the lab in."""
    return private_key(cache).with_suffix(".pub").read_text()

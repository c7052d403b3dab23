"""The life of one virtual machine.

        (absent) --up--> running, pristine --power_off--> off --boot--> running, same disk
                              ^                            |                  |
                              '----- up, reset ------------'----- reset ------'

``save`` keeps a running machine under a name, and ``up`` and ``reset`` can start from that state instead of the pristine one.

Invariant: the machine's own lock is held while it changes, so that two commands cannot both start it.
Nothing but its directory and its QEMU is touched.
"""

from __future__ import annotations

import random
import re
import shutil
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from disks.base_image import BaseImage, base_image
from disks.cache import Cache, discard, made_whole
from disks.golden import COLD_BOOT_TIMEOUT_SECONDS, SNAPSHOT, golden_disk
from disks.saved import save_state, saved_disk
from processes import Daemon
from programs import LabError, run
from qemu import Machine, host_accelerator
from session_note import note_session
from ssh import ADDRESS, Endpoint, private_key

_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")
_PORTS = range(22001, 23000)
"""Below the ephemeral range, so that no outgoing connection takes a port while its machine is off."""

_RESTORE_TIMEOUT_SECONDS = 120.0
_SECOND_DISK_SIZE = "4G"

# sun_path holds 107 bytes, and ssh appends 17 to the name while it makes its socket.
_SOCKET_PATH_BYTES = 107 - 17


@dataclass(frozen=True)
class Vm:
    """A machine of the lab, running or not."""

    cache: Cache
    name: str

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise LabError(f"{self.name!r} is no name for a VM: up to 31 of a-z, 0-9 and -, a letter first")
        if len(bytes(self.control_socket)) > _SOCKET_PATH_BYTES:
            raise LabError(f"{self.cache.root} is too long for a socket below it: set FLYD_LAB_CACHE to a shorter path")

    @property
    def directory(self) -> Path:
        return self.cache.vms / self.name

    @property
    def control_socket(self) -> Path:
        return self.directory / "ssh.sock"

    @property
    def port_file(self) -> Path:
        return self.directory / "port"

    @property
    def port(self) -> int:
        try:
            return int(self.port_file.read_text())
        except FileNotFoundError:
            raise LabError(f"there is no VM {self.name}: bring it up first (lab.py up)") from None

    @property
    def session_file(self) -> Path:
        return self.directory / "session"

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(self.name, self.port, private_key(self.cache), self.control_socket)

    @property
    def daemon(self) -> Daemon:
        pid_file = self.directory / "pid"
        return Daemon(pid_file, mark=str(pid_file))

    @property
    def base_link(self) -> Path:
        """Says which base the disk was made over: a changed recipe must not change the kernel under it."""
        return self.directory / "base"

    @property
    def machine(self) -> Machine:
        base = BaseImage(self.base_link)
        return Machine(self.name, self.directory, base.kernel, base.initrd, self.port, host_accelerator())

    def is_running(self) -> bool:
        return self.daemon.is_running()

    def up(self, state: str = "") -> None:
        """Have the machine running; one that is not starts pristine, or from the saved ``state``."""
        with self.cache.lock(f"vm-{self.name}"):
            if not self.is_running():
                self._claim_port()
                note_session(self.session_file)
                self._restore(state)

    def reset(self, state: str = "") -> None:
        """Make the machine pristine and running, or as it was saved as ``state``, whatever it was before."""
        with self.cache.lock(f"vm-{self.name}"):
            self._restore(state)

    def save(self, state: str) -> None:
        """Keep the machine as it is now, memory and all, as ``state``; it goes on from there."""
        with self.cache.lock(f"vm-{self.name}"):
            if not self.is_running():
                raise LabError(f"VM {self.name} is not running")
            self.endpoint.run("sync")
            self.endpoint.drop_connection()
            save_state(self.cache, golden_of(self.cache), state, self.machine, self.daemon)
            self._restore(state)

    def power_off(self) -> None:
        """Cut the power: QEMU gets SIGKILL, the disk stays as it is (see qemu.Machine for what that loses)."""
        with self.cache.lock(f"vm-{self.name}"):
            if not self._stop():
                raise LabError(f"VM {self.name} is not running")

    def boot(self, *, init: str = "") -> None:
        """Boot the machine from its own disk, as after a power cut; ``init`` is its first process instead of systemd."""
        with self.cache.lock(f"vm-{self.name}"):
            if self.is_running():
                raise LabError(f"VM {self.name} is running")
            machine = self.machine
            if not machine.disk.exists():
                raise LabError(f"VM {self.name} has no disk to boot from: bring it up first (lab.py up)")
            machine.start(init=init)
            self._await("true", COLD_BOOT_TIMEOUT_SECONDS)

    def attach(self, *, new: bool = False) -> None:
        """Plug a second disk into the running machine, /dev/vdb there, made when missing or when it is to be ``new``.

        It is no part of the machine's saved states, so that it keeps what is on it when the power is cut, or the machine is reset or booted, and
        has to be plugged in again then.
        """
        with self.cache.lock(f"vm-{self.name}"):
            if not self.is_running():
                raise LabError(f"VM {self.name} is not running")
            disk = self.machine.second_disk
            if new or not disk.exists():
                with made_whole(disk) as part:
                    run(["qemu-img", "create", "-q", "-f", "qcow2", part, _SECOND_DISK_SIZE], timeout_seconds=30)
            self.machine.attach()
            self.endpoint.run("until test -b /dev/vdb; do sleep 0.1; done")

    def remove(self) -> None:
        """End the machine and remove its files."""
        with self.cache.lock(f"vm-{self.name}"):
            self._stop()
            discard(self.directory)

    def _restore(self, state: str) -> None:
        self._claim_port()
        golden = golden_of(self.cache)
        saved = saved_disk(self.cache, golden, state) if state else golden
        base = base_image(self.cache)
        self._stop()
        with made_whole(self.base_link) as part:
            part.symlink_to(base.directory)
        machine = self.machine
        discard(machine.console)
        with made_whole(machine.disk) as part:
            shutil.copyfile(saved, part)
        machine.start(snapshot=SNAPSHOT)
        # The guest's clock stands where it was saved.
        self._await(f"date -u -s @{time.time():.2f} >/dev/null && hostname {self.name}", _RESTORE_TIMEOUT_SECONDS)

    def _stop(self) -> bool:
        self.control_socket.unlink(missing_ok=True)
        return self.daemon.kill()

    def _await(self, command: str, timeout_seconds: float) -> None:
        try:
            self.endpoint.wait_until_it_answers(command, timeout_seconds=timeout_seconds, alive=self.is_running)
        except LabError as error:
            raise LabError(f"{error}; its console is in {self.directory / 'console.log'}") from None

    def _claim_port(self) -> None:
        with self.cache.lock("ports"):
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self.port_file.exists():
                with made_whole(self.port_file) as part:
                    part.write_text(f"{_free_port(self.cache)}\n")


def golden_of(cache: Cache) -> Path:
    """The golden disk of this host's machines, made when missing."""
    return golden_disk(cache, base_image(cache), host_accelerator(), _free_port(cache))


def known_vms(cache: Cache) -> list[Vm]:
    """All machines that have files, by name in natural order (vm2 before vm10)."""
    names = [path.parent.name for path in cache.vms.glob("*/port")]
    return [Vm(cache, name) for name in sorted(names, key=lambda name: (len(name), name))]


def _free_port(cache: Cache) -> int:
    taken = {vm.port for vm in known_vms(cache)}
    candidates = [port for port in _PORTS if port not in taken]
    random.shuffle(candidates)
    for port in candidates:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((ADDRESS, port))
                return port
            except OSError:
                continue
    raise LabError(f"no port is free from {_PORTS[0]} to {_PORTS[-1]}")

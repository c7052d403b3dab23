# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet of simulated hosts behind a socket: the real modules on the engine of tests/unit, one directory a host, one process a call.

Invariant: nothing of a host outlives a call but its directory, as on a real one. Faults are what happens to a host, never another answer
of a module: a host that dies stays dead, a module that is killed is killed at a point of the engine.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from module_utils._host.processes.crash import VARIABLE
from module_utils._host.processes.death_signal import die_with_parent
from module_utils._lifecycle.store.schema import VERSION
from module_utils._names import ObjectKey
from tests.unit._lifecycle.conftest import replace
from tests.unit._lifecycle.instance.machine import Bound
from tests.unit._lifecycle.machine import ARCHIVE, KEY, OTHER_ARCHIVE, Machine
from tests.unit._lifecycle.s3_stand_in import S3StandIn
from tests.unit.modules.modules import MODULES, Modules, source

CALLS = "calls"  # a file with a byte for each
POOL_BLOCKS = 64
STEPS = {"flyd_pool": "pool", "flyd_fetch": "fetch", "flyd_unpack": "unpack", "flyd_prune": "prune"}
STATES = {"present": "flip", "confirmed": "confirm", "previous": "back"}
KILLED_AT = {"flip": "bind:switched", "back": "back:planned", "unpack": "unpack:sealed"}


class Fleet:
    """The hosts below ``directory``."""

    def __init__(self, directory: Path, s3: S3StandIn) -> None:
        self.directory = directory
        self.s3 = s3

    def machine(self, name: str) -> Machine:
        """A host; made when it is asked for first."""
        root = self.directory / name
        machine = Machine(root, self.s3)
        machine.state.mkdir(mode=0o700, exist_ok=True)
        program = root / "usr/local/lib/flyd-host.py"  # what the role prepare installs, and confirm_within asks for
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(f"# Schema of the database: {VERSION}\n")
        return machine

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """What a call comes to; nothing at all when its process is killed."""
        module, options = request["module"], request["options"]
        with (self.directory / CALLS).open("ab") as file:
            file.write(b".")
        if module == "ping":
            return {"result": {"ping": "pong", "changed": False}}
        machine = self.machine(request["host"])
        fault = Fault(machine, request["fault"])
        step = _step(module, options)
        fault.before(step)
        if fault.is_dead:
            return {"unreachable": "Connection timed out"}
        flags = {name: options.pop(name) for name in list(options) if name.startswith("_ansible_")}
        with pytest.MonkeyPatch.context() as patch:
            replace(patch, machine)
            check, diff = bool(flags.get("_ansible_check_mode")), bool(flags.get("_ansible_diff"))
            found = Modules(machine).run(module, options, check=check, diff=diff)
        fault.after(step)
        return {"unreachable": "Connection reset by peer"} if fault.is_dead else {"result": found}


def _step(module: str, options: dict[str, Any]) -> str:
    if module == "flyd_info":
        return "plan"
    return STATES[options.get("state") or "present"] if module == "flyd_instance" else STEPS.get(module, module)


class Fault:
    """What goes wrong on a host, once: STEP:KIND. A third part, DIRECTORY,…, names hosts that lose power together with it."""

    def __init__(self, machine: Machine, text: str) -> None:
        self._machine = machine
        self._step, self._kind, *rack = text.split(":") if text else ("", "")
        self._rack = rack[0].split(",") if rack else []
        self._dead = machine.root / "dead"
        self._happened = machine.root / "happened"
        self._will_be_killed = False
        well_with = machine.root / "files/well_with"
        self._well_with = well_with.read_text() if well_with.exists() else ""

    @property
    def is_dead(self) -> bool:
        return self._dead.exists() and not self._will_be_killed

    def before(self, step: str) -> None:
        """What happens before the module runs."""
        if step != self._step or self._happened.exists():
            return
        kinds: dict[str, Callable[[], object]] = {
            "unreachable": self._die,
            "killed": self._kill_inside,
            "slow": lambda: time.sleep(1.5),
            "ill": lambda: (self._machine.root / "files/ill").touch(),
            "replaced": self._replace_object,
            "full": lambda: self._machine.fake.set_pool("pool", used_data_blocks=POOL_BLOCKS),
        }
        if self._kind in kinds:
            self._happened.touch()
            kinds[self._kind]()

    def after(self, step: str) -> None:
        """What happens when the module has run and before its answer is sent."""
        kinds = {"dies": self._die, "ill_later": self._sicken}
        if step == self._step and self._kind in kinds and not self._happened.exists():
            self._happened.touch()
            kinds[self._kind]()

    def _die(self) -> None:
        self._dead.touch()
        for name in self._rack:
            (self._machine.root.with_name(name) / "dead").touch()

    def _sicken(self) -> None:
        """The guest is well no more with the device that it has now."""
        (self._machine.root / "files/hurt").touch()
        (self._machine.root / "files/ill").touch()
        (self._machine.root / "files/well_with").write_text(self._well_with)

    def _kill_inside(self) -> None:
        """The module is killed at a point of the engine, and with it the host: it answers no more."""
        self._die()
        self._will_be_killed = True
        os.environ[VARIABLE] = KILLED_AT[self._step]

    def _replace_object(self) -> None:
        self._machine.s3.put(KEY.value, OTHER_ARCHIVE)


def serve(directory: Path, path: Path, s3: S3StandIn) -> None:
    """Answer until the process is ended, each call in a process of its own."""
    fleet = Fleet(directory, s3)
    _import_all(fleet)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(256)
        while True:
            connection, _ = listener.accept()
            if os.fork() == 0:
                _answer_one(fleet, connection)
            connection.close()


def _import_all(fleet: Fleet) -> None:
    """Do all of it once on a host that is thrown away, so that no call has to import anything."""
    for name in MODULES:
        source(name)
    machine = fleet.machine("warm-up")
    machine.s3.put("warm-up.tar", ARCHIVE)
    with pytest.MonkeyPatch.context() as patch:
        replace(patch, machine)
        key = ObjectKey("warm-up.tar")
        for step in (machine.pool, partial(machine.fetch, key=key), partial(machine.unpack, key=key)):
            step()
        Bound(machine).call(key=key)
        for module in ("flyd_info", "flyd_prune"):
            Modules(machine).run(module, {})
    shutil.rmtree(machine.root)


def _answer_one(fleet: Fleet, connection: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        with connection.makefile("rb") as file:
            request = json.loads(file.read())
        connection.sendall(json.dumps(fleet.answer(request)).encode())
    except BaseException as error:  # noqa: BLE001 - told to the caller, as the process ends here
        with contextlib.suppress(OSError):
            connection.sendall(json.dumps({"unreachable": f"simulation: {error!r}"}).encode())
    finally:
        os._exit(0)


@contextlib.contextmanager
def running(directory: Path, s3: S3StandIn) -> Iterator[Path]:
    """The path of a socket behind which the hosts are until the block ends."""
    path = directory / "fleet.sock"
    set_death_signal = die_with_parent()
    pid = os.fork()
    if pid == 0:
        try:
            set_death_signal()
            serve(directory, path, s3)
        finally:
            os._exit(1)
    try:
        while not path.exists():
            time.sleep(0.01)
        yield path
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)

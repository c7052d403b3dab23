# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Device-mapper: one method for each verb of dmsetup; without the program where control.py has the ioctl.

Invariant: only devices whose UUID begins with ``FLYD-`` are ever changed; what was made is read back before it is returned;
nothing is removed by force; udev's rules are kept off whatever is made or resumed (cookie.py). sysfs is the source of what there is,
dmsetup of what is changed.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator

from ..._errors import Busy, CommandFailed, CorruptStore, FlydError, ForeignDevice, Internal
from ..._host.processes.command import Runner
from ..._host.retry import Retry
from ..._names import printable
from .control import Control, ControlNode, ask, create, resume
from .device import NODE_DIRECTORY, OUR_PREFIX, Device, read_devices, refuse_foreign
from .dmsetup import IoctlFailed, half_made_uuid, require_target, run_dmsetup, unconfirmed, wait_for_node

__all__ = ["Device", "DeviceMapper", "IoctlFailed", "OUR_PREFIX"]


class DeviceMapper:
    """Devices of device-mapper below ``sysfs``, with their nodes in ``dev`` and their users in ``proc``.

    ``busy`` says how patiently to remove one; ``root`` is where the files of udev, LVM and mdadm are (guards/).
    """

    def __init__(
        self,
        runner: Runner,
        *,
        sysfs: str = "/sys",
        dev: str = NODE_DIRECTORY,
        proc: str = "/proc",
        root: str = "/",
        busy: Retry | None = None,
        control: Control | None = None,
    ) -> None:
        self.runner = runner
        self.sysfs = sysfs
        self.dev = dev
        self.proc = proc
        self.root = root
        self.control = control or ControlNode()
        self.label: Callable[[str], str] = lambda name: ""  # what a device is to an operator, for messages
        self.busy = busy or Retry(attempts=100, base_seconds=0.05, cap_seconds=1.0, deadline_seconds=15.0)

    def devices(self) -> tuple[Device, ...]:
        """All devices of this host, ours and others'."""
        return read_devices(self.sysfs, self.dev)

    def find(self, uuid: str) -> Device | None:
        """The device with this UUID."""
        found = read_devices(self.sysfs, self.dev, uuid=uuid) if uuid else ()
        return found[0] if found else None

    def by_name(self, name: str) -> Device | None:
        """The device with this name, a foreign one too."""
        found = read_devices(self.sysfs, self.dev, name=name) if name else ()
        return found[0] if found else None

    def on_top_of(self, device: Device) -> tuple[Device, ...]:
        """The devices whose tables name ``device``, ours and others'."""
        holders = os.path.join(self.sysfs, "dev", "block", device.number, "holders")
        try:
            numbers = {entry[len("dm-") :] for entry in os.listdir(holders) if entry.startswith("dm-")}
        except FileNotFoundError:  # it is gone, and so is whatever was on it
            return ()
        return tuple(other for other in self.devices() if str(other.minor) in numbers)

    def require_target(self, target: str) -> None:
        """Raise ``Unsupported`` unless the kernel has ``target`` ("thin-pool") or can load its module."""
        if not os.path.isdir(os.path.join(self.sysfs, "module", f"dm_{target.replace('-', '_')}")):
            require_target(self.runner, target)

    def create(self, name: str, uuid: str, table: str, *, read_only: bool = False) -> Device:
        """Make a device that does not exist yet; its node is there when this returns.

        Raises ``ForeignDevice`` when another device has the name, ``CorruptStore`` when one of another name has the UUID,
        and ``CommandFailed`` for a table that the kernel refuses.
        An own device without a table, left by an interrupted run, is replaced.
        """
        if not uuid.startswith(OUR_PREFIX):
            raise Internal(
                f"the device UUID {printable(uuid)} does not begin with {OUR_PREFIX}",
                hint="please report it",
            )
        self._make_way(name, uuid)
        try:
            create(self.runner, self.control, name, uuid, table, read_only=read_only)
        except IoctlFailed as error:
            if error.number != errno.EBUSY or half_made_uuid(self.runner, name) != uuid:
                raise
            self._dmsetup("remove", name)
            create(self.runner, self.control, name, uuid, table, read_only=read_only)
        except CommandFailed as error:
            device = self.find(uuid)
            raise unconfirmed(name, "made", error, is_done=device is not None and device.sectors > 0) from None
        return self._read_back(name, uuid)

    def remove(self, name: str, uuid: str = "") -> bool:
        """Remove the device, which must have ``uuid`` when that is given; ``False`` when there is none.

        ``Busy`` names who holds it once patience is at its end; ``ForeignDevice``: another program has made it.
        """
        device = self.by_name(name)
        if device is None:
            return self._remove_half_made(name, uuid)
        refuse_foreign(device, uuid)
        try:
            self.busy.call(lambda: self._remove_once(device))
        except Busy as error:
            from .holders import held_by

            error.msg = held_by(device, self.label(device.name), sysfs=self.sysfs, proc=self.proc)
            raise
        return True

    def suspend(self, name: str) -> None:
        """Hold back all writes to the device, after those under way, with its file system frozen."""
        self._ours(name)
        self._dmsetup("suspend", name)

    def resume(self, name: str) -> None:
        """Let writes go on, with the newly loaded table if there is one."""
        self._ours(name)
        resume(self.runner, self.control, name)

    def running(self, device: Device) -> Device:
        """The device, resumed if a run that was cut short left it suspended, and with its node."""
        if device.suspended:
            self.resume(device.name)
        wait_for_node(self.runner, device.name, device.path)
        return self.by_name(device.name) or device if device.suspended else device

    @contextlib.contextmanager
    def suspended(self, name: str) -> Iterator[None]:
        """Suspend a device for as long as the block runs; it is resumed whatever happens."""
        self.suspend(name)
        try:
            yield
        except BaseException:
            with contextlib.suppress(FlydError):  # the first error is the one to report
                self.resume(name)
            raise
        self.resume(name)

    def message(self, name: str, text: str) -> None:
        """Send ``text`` to the device's target; raises ``IoctlFailed`` with the kernel's errno."""
        self._ours(name)
        ask(self.runner, ("message", name, "0", text), lambda: self.control.message(name, text))

    def status(self, name: str) -> str:
        """The status line. The pool's metadata is not committed for it: looking changes nothing."""
        return ask(self.runner, ("status", "--noflush", name), lambda: self.control.status(name)).strip()

    def table(self, name: str) -> str:
        """The live table."""
        return self._dmsetup("table", name).strip()

    def load(self, name: str, table: str, *, read_only: bool = False) -> None:
        """Load a table beside the live one; ``suspend`` and ``resume`` put it in its place."""
        self._ours(name)
        self._dmsetup("load", name, *(["--readonly"] if read_only else []), "--table", table)

    def clear(self, name: str) -> None:
        """Forget a table that was loaded and not put in its place."""
        self._ours(name)
        self._dmsetup("clear", name)

    def _dmsetup(self, *args: str) -> str:
        return run_dmsetup(self.runner, *args)

    def _ours(self, name: str) -> Device:
        device = self.by_name(name)
        if device is None:
            raise CommandFailed(
                f"there is no device {printable(name)}",
                hint="run the module again: it finds out what exists",
                errno="ENXIO",
            )
        refuse_foreign(device)
        return device

    def _make_way(self, name: str, uuid: str) -> None:
        found = read_devices(self.sysfs, self.dev, name=name, uuid=uuid)
        taken = next((device for device in found if device.name == name), found[0] if found else None)
        if taken is None:
            return
        if taken.name == name and taken.uuid == uuid and taken.sectors == 0:
            self.remove(name)
            return
        error = ForeignDevice if taken.uuid != uuid else CorruptStore
        raise error(
            f"device {taken.name} with UUID {printable(taken.uuid) or '(none)'} is there already; {name} with {uuid} was to be made",
            hint=f"see `dmsetup info {taken.name}`: remove or rename it if it is not needed, or choose another name",
            errno="EEXIST",
            device=taken.name,
        )

    def _remove_half_made(self, name: str, uuid: str) -> bool:
        found = half_made_uuid(self.runner, name)
        if found is None or not found.startswith(OUR_PREFIX) or (uuid and found != uuid):
            return False
        self._dmsetup("remove", name)
        return True

    def _read_back(self, name: str, uuid: str) -> Device:
        device = self.by_name(name)
        if device is None or device.uuid != uuid or not device.sectors or device.suspended:
            raise CommandFailed(
                f"dmsetup made device {name}, but the kernel shows {device}",
                hint="another program changes devices at the same time: run again",
            )
        wait_for_node(self.runner, device.name, device.path)
        return device

    def _remove_once(self, device: Device) -> None:
        try:
            self._dmsetup("remove", "--verifyudev", device.name)
        except IoctlFailed as error:
            if error.number == errno.EBUSY:
                raise Busy(
                    f"device {device.name} is in use",
                    hint="unmount it or end what uses it, then run again; it is never removed by force",
                    device=device.name,
                ) from None
            if error.number != errno.ENXIO:  # gone already is what was wanted
                raise
        except CommandFailed as error:
            raise unconfirmed(device.name, "removed", error, is_done=self.find(device.uuid) is None) from None

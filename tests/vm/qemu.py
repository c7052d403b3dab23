"""QEMU: its command line, its start and its monitor.

Invariant: two machines started with the same settings differ only in disk, name and port, so the
saved state of one can be loaded by any other (``-loadvm`` demands the same devices and processor).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from monitor import Monitor
from programs import LabError, run

PROGRAM = "qemu-system-x86_64"
MEMORY_MIB = 1536
_PROCESSORS = 2

_START_TIMEOUT_SECONDS = 60.0


class Accelerator(Enum):
    """What runs the guest's code; the value is QEMU's own spelling."""

    KVM = "kvm"
    TCG = "tcg,thread=multi"

    @property
    def processor(self) -> str:
        # Page tables of five levels and guards between kernel and programs cost an emulated machine a quarter of its speed.
        return "host" if self is Accelerator.KVM else "max,la57=off,smap=off,smep=off"


def choose_accelerator(wanted: str, *, cpuinfo: str, kvm_usable: bool) -> Accelerator:
    """KVM where it really works, else emulation; ``wanted`` (FLYD_LAB_ACCEL: kvm or tcg) overrules.

    /dev/kvm alone proves nothing: on hosts without vmx or svm it may be there and a stock guest hangs on it.
    """
    if wanted:
        try:
            return Accelerator[wanted.upper()]
        except KeyError:
            raise LabError(f"FLYD_LAB_ACCEL is {wanted!r}: it must be kvm or tcg") from None
    flags = {flag for line in cpuinfo.splitlines() if line.startswith("flags") for flag in line.split()}
    return Accelerator.KVM if kvm_usable and flags & {"vmx", "svm"} else Accelerator.TCG


def host_accelerator() -> Accelerator:
    """The accelerator for this host."""
    kvm_usable = os.access("/dev/kvm", os.R_OK | os.W_OK)
    cpuinfo = Path("/proc/cpuinfo").read_text()
    return choose_accelerator(os.environ.get("FLYD_LAB_ACCEL", ""), cpuinfo=cpuinfo, kvm_usable=kvm_usable)


def processors(wanted: str) -> int:
    """How many processors a machine has; ``wanted`` (FLYD_LAB_PROCESSORS) overrules."""
    if wanted and (not wanted.isdecimal() or int(wanted) < 1):
        raise LabError(f"FLYD_LAB_PROCESSORS is {wanted!r}: it must be a whole number from 1 on")
    return int(wanted or _PROCESSORS)


@dataclass(frozen=True)
class Machine:
    """One machine: its files are in ``directory``, its sshd at ``ssh_port`` of the host's loopback.

    The disk is opened with cache=writeback. A flush of the guest makes QEMU write out its qcow2 tables
    and fsync the file, so what the guest flushed survives a kill of QEMU; what sat in the guest's page
    cache, or in clusters whose tables QEMU had not written, is lost, as with a real power cut. But the
    host's page cache survives: a block the guest wrote and did not flush is often still there
    after a cut. A test may conclude from lost data that a flush is missing, not from data that is
    there that the flush was made.
    """

    name: str
    directory: Path
    kernel: Path
    initrd: Path
    ssh_port: int
    accelerator: Accelerator

    @property
    def disk(self) -> Path:
        return self.directory / "disk.qcow2"

    @property
    def second_disk(self) -> Path:
        return self.directory / "second.qcow2"

    @property
    def console(self) -> Path:
        return self.directory / "console.log"

    @property
    def pid_file(self) -> Path:
        return self.directory / "pid"

    @property
    def monitor(self) -> Path:
        return self.directory / "qmp.sock"

    def argv(self, *, snapshot: str | None, init: str = "") -> list[str]:
        """The command line; with ``snapshot`` the machine goes on from that saved state.

        ``init`` names a program of the guest that is to be its first process instead of systemd.
        """
        append = f"root=/dev/vda rw console=ttyS0 quiet mitigations=off systemd.hostname={self.name}"
        append += f" init={init} net.ifnames=0" if init else ""
        disk = f"if=none,id=disk,format=qcow2,cache=writeback,discard=unmap,file={_quoted(self.disk)}"
        network = f"user,id=net,hostfwd=tcp:127.0.0.1:{self.ssh_port}-:22"
        return [
            PROGRAM, "-nodefaults", "-no-user-config", "-display", "none",
            "-machine", "pc",
            "-accel", self.accelerator.value,
            "-cpu", self.accelerator.processor,
            "-smp", str(processors(os.environ.get("FLYD_LAB_PROCESSORS", ""))),
            "-m", str(MEMORY_MIB),
            "-kernel", str(self.kernel),
            "-initrd", str(self.initrd),
            "-append", append,
            "-drive", disk,
            "-device", "virtio-blk-pci,drive=disk",
            "-netdev", network,
            "-device", "virtio-net-pci,netdev=net,romfile=",
            "-device", "virtio-rng-pci",
            # Tells a guest that was loaded from a saved state to draw new randomness: else two would share their ids.
            "-device", "vmgenid,guid=auto",
            "-chardev", f"file,id=console,append=on,path={_quoted(self.console)}",
            "-serial", "chardev:console",
            "-qmp", f"unix:{_quoted(self.monitor)},server=on,wait=off",
            "-daemonize",
            "-pidfile", str(self.pid_file),
            *(["-loadvm", snapshot] if snapshot else []),
        ]  # fmt: skip

    def start(self, *, snapshot: str | None = None, init: str = "") -> None:
        """Start QEMU in the background; returns when it runs, long before the guest is up."""
        run(self.argv(snapshot=snapshot, init=init), timeout_seconds=_START_TIMEOUT_SECONDS)

    def save(self, snapshot: str) -> None:
        """Save memory, devices and disk under that name inside the disk's file."""
        said = Monitor(self.monitor).human(f"savevm {snapshot}")
        if said:
            raise LabError(f"QEMU cannot save {self.name}: {said}")

    def attach(self) -> None:
        """Plug the second disk in; it is no part of what is saved."""
        monitor = Monitor(self.monitor)
        drive = f"if=none,id=second,format=qcow2,cache=writeback,discard=unmap,file={_quoted(self.second_disk)}"
        for command in (f"drive_add 0 {drive}", "device_add virtio-blk-pci,drive=second"):
            said = monitor.human(command)
            if said not in ("", "OK"):
                raise LabError(f"QEMU does not plug a second disk into {self.name}: {said}")

    def forget(self, snapshot: str) -> None:
        """Remove what was saved under that name from the disk's file."""
        said = Monitor(self.monitor).human(f"delvm {snapshot}")
        if said:
            raise LabError(f"QEMU cannot forget {snapshot} of {self.name}: {said}")

    def quit(self) -> None:
        """Let QEMU close its files and end."""
        Monitor(self.monitor).human("quit")


def _quoted(path: Path) -> str:
    """A path as a value in an option of QEMU, where a comma ends the value unless doubled."""
    return str(path).replace(",", ",,")

"""A host without root: fake programs, a fake /sys and a fake /dev/mapper over one simulated kernel.

Use the fixture ``fake_host`` (import it in a conftest.py: ``from tests.unit.fakes.host import fake_host``)::

    def test_a_volume_is_mapped_once(fake_host: FakeHost) -> None:
        dm = fake_host.dm                       # DeviceMapper over the fake /sys and /dev/mapper
        spec = fake_host.pool_spec()            # a small pool on two backing files
        allocate_files(fake_host.runner, spec)
        pool = activate(dm, fake_host.runner, spec, may_format=True)

Every program is a real process that ``Runner`` finds on its search path; nothing is patched. Thin ids, ``EBUSY``, ``EEXIST``,
24-bit ids, suspension and transaction ids follow the kernel's rules (see kernel.py). Thin ids are kept in the metadata file, so
``reboot`` forgets devices and loops only. A volume's node is a sparse file: mkfs.ext4, e2fsck and blkid are stand-ins that look
for a magic number. Where a tree must be written without mounting, put ``fake_host.populate`` in the place of
``_thin.filesystem.populate``: the tree of a volume is a directory then, a snapshot gets a copy, ``tree(device)`` shows it.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from module_utils._errors import CommandFailed, Unsupported
from module_utils._host.processes.answer import Json
from module_utils._host.processes.child import in_child
from module_utils._host.processes.command import Program, Runner
from module_utils._host.retry import Retry
from module_utils._thin.dm.device_mapper import DeviceMapper
from module_utils._thin.pool.geometry import compute_geometry
from module_utils._thin.pool.thin_pool import Backing, PoolSpec
from tests.unit.fakes import dmsetup
from tests.unit.fakes.kernel import Kernel, KernelError, empty_state

State = dict[str, Any]
REPOSITORY = Path(__file__).parents[3]
POOL_UUID = "FLYD-01J9Z3M4N5P6Q7R8S9T0V1W2X3-pool"
FAKES = {
    Program.DMSETUP: "dmsetup",
    Program.LOSETUP: "losetup",
    Program.MKFS_EXT4: "ext4",
    Program.E2FSCK: "ext4",
    Program.RESIZE2FS: "ext4",
    Program.BLKID: "ext4",
    Program.BLKDISCARD: "ext4",
    Program.THIN_CHECK: "thin_tools",
    Program.THIN_REPAIR: "thin_tools",
    Program.THIN_DUMP: "thin_tools",
    Program.SYSTEMCTL: "systemd",
    Program.SYSTEMD_RUN: "systemd",
}
LAUNCHER = """#!{python} -SE
import sys
sys.path.insert(0, {repository!r})
from tests.unit.fakes.{module} import run
sys.exit(run({root!r}, {program!r}, sys.argv[1:]))
"""


class FakeControl:
    """The simulated kernel's control node."""

    def __init__(self, root: str) -> None:
        self._root = root

    def message(self, name: str, text: str) -> str:
        return self._called(("message", name, "0", text))

    def status(self, name: str) -> str:
        return self._called(("status", "--noflush", name))

    def open_count(self, name: str) -> int:
        with Kernel.of(self._root) as kernel:
            try:
                return kernel.open_count(name)
            except KernelError as error:
                raise OSError(error.number, os.strerror(error.number)) from None

    def create(self, name: str, uuid: str, table: str, *, read_only: bool, limit_seconds: float) -> str:
        options = ("--readonly",) if read_only else ()
        return self._called(("create", name, "--uuid", uuid, *options, "--table", table), limit_seconds)

    def resume(self, name: str, *, limit_seconds: float) -> str:
        return self._called(("resume", name), limit_seconds)

    def _called(self, words: tuple[str, ...], limit_seconds: float = 3600.0) -> str:
        printed = io.StringIO()
        try:
            with contextlib.redirect_stdout(printed):
                is_stuck = dmsetup.called(self._root, list(words))
        except KernelError as error:
            if (error.number, error.ioctl) == (errno.ENODEV, ""):
                raise Unsupported("/dev/mapper/control cannot be opened: no device-mapper", hint="load it") from None
            raise OSError(error.number, os.strerror(error.number)) from None
        if is_stuck:
            time.sleep(limit_seconds)
            raise CommandFailed.late("udev", limit_seconds, "with its rules for the device")
        return printed.getvalue()


class FakeHost:
    """The host, and the switches of its faults. Files live below ``root``; a host that is there already is taken as it is."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.sticks = False  # whether a program may never end
        if not (root / "state.json").exists():
            self._make(root)
        self.runner = Runner(timeout_seconds=20.0, search=(str(root / "bin"),))
        self.dm = self.device_mapper(self.runner)

    @staticmethod
    def _make(root: Path) -> None:
        for directory in ("run", "bin", "dev/mapper", "sys/block", "sys/module", "proc", "files"):
            (root / directory).mkdir(parents=True)
        (root / "files").chmod(0o700)
        (root / "state.json").write_text(json.dumps(empty_state()))
        for program, module in FAKES.items():
            launcher = root / "bin" / program.value
            launcher.write_text(
                LAUNCHER.format(
                    python=sys.executable,
                    repository=str(REPOSITORY),
                    module=module,
                    root=str(root),
                    program=program.value,
                )
            )
            launcher.chmod(0o755)

    @property
    def sysfs(self) -> str:
        return str(self.root / "sys")

    def device_mapper(self, runner: Runner) -> DeviceMapper:
        """Another DeviceMapper of this host, as another run would have; busy devices are tried three times."""
        busy = Retry(attempts=3, base_seconds=0.01, cap_seconds=0.02, deadline_seconds=5.0)
        dev = str(self.root / "dev/mapper")
        proc, root = str(self.root / "proc"), str(self.root)
        control = FakeControl(root)
        return DeviceMapper(runner, sysfs=self.sysfs, dev=dev, proc=proc, root=root, busy=busy, control=control)

    def pool_spec(self, name: str = "pool", uuid: str = POOL_UUID, data_bytes: int = 64 << 20) -> PoolSpec:
        """A small pool on two files."""
        files = self.root / "files"
        backing = Backing(str(files / f"{name}.data"), str(files / f"{name}.metadata"), is_loop=True)
        return PoolSpec(name, uuid, backing, compute_geometry(data_bytes))

    # What the kernel holds

    def devices(self) -> dict[str, State]:
        """Name to table and state of every device, also of those without a table."""
        with Kernel.of(str(self.root)) as kernel:
            return dict(kernel.devices)

    def loops(self) -> dict[str, str]:
        """Number to backing file of every loop device."""
        with Kernel.of(str(self.root)) as kernel:
            return dict(kernel.loops)

    def thin_ids(self, pool: str) -> set[int]:
        """The thin ids in the pool's metadata."""
        with Kernel.of(str(self.root)) as kernel:
            return {int(number) for number in kernel.metadata(kernel.devices[pool]["table"].split())["thins"]}

    def set_pool(self, pool: str, **facts: Any) -> None:
        """Change the pool's metadata: ``mode`` (rw, ro, out_of_data_space, Fail, Error), ``needs_check``, ``transaction_id``,
        ``used_data_blocks``, ``used_metadata_blocks``."""
        with Kernel.of(str(self.root)) as kernel:
            table = kernel.devices[pool]["table"].split()
            kernel.save_metadata(table, {**kernel.metadata(table), **facts})

    def commit(self, name: str) -> None:
        """Let the pool's metadata have what was written to the volume ``name``, as the kernel does each second."""
        with Kernel.of(str(self.root)) as kernel:
            kernel.commit(name)

    # What happens to the host

    def make_foreign(self, name: str, uuid: str = "LVM-somebody", table: str = "0 2048 error") -> None:
        """A device that another program has made."""
        with Kernel.of(str(self.root)) as kernel:
            kernel.create(name, uuid, table, read_only=False)

    def make_half(self, name: str, uuid: str) -> None:
        """A device as a killed dmsetup leaves it: created, without a table."""
        with Kernel.of(str(self.root)) as kernel:
            kernel.create(name, uuid, None, read_only=False)

    def hold(self, *names: str) -> None:
        """Keep devices open until ``let_go``."""
        self._change(held=list(names))

    def hold_after(self, line: str, name: str) -> None:
        """Keep a device open from the moment on when a program is run whose command line contains ``line``."""
        with Kernel.of(str(self.root)) as kernel:
            kernel.state["held_after"] = [line, name]

    def mount(self, name: str, place: str) -> None:
        """Keep a device open, and show it as mounted by process 4000001."""
        self.hold(name)
        directory = self.root / "proc/4000001"
        directory.mkdir()
        number = f"253:{self.devices()[name]['minor']}"
        (directory / "mountinfo").write_text(f"36 35 {number} / {place} rw - ext4 /dev/mapper/{name} rw\n")

    def let_go(self) -> None:
        self._change(held=[])
        shutil.rmtree(self.root / "proc")
        (self.root / "proc").mkdir()

    def refuse(self, line: str, number: int, times: int = 1) -> None:
        """Programs whose command line contains ``line`` ("dmsetup message") fail with errno ``number``, this many times."""
        self._add_fault({"match": line, "errno": number, "times": times})

    def stick(self, line: str) -> None:
        """dmsetup does what ``line`` says, then never ends, as with a udev that does not answer."""
        self.sticks = True
        self._add_fault({"match": line, "errno": 0, "times": 1})

    def lose_nodes(self) -> None:
        """udev makes no nodes any more; only ``dmsetup mknodes`` does."""
        self._change(nodes_get_lost=True)

    def without_target(self) -> None:
        """The kernel's modules have no thin-pool."""
        self._change(loadable=[])

    def without_driver(self) -> None:
        """The kernel has no device-mapper at all."""
        self._change(driver=False)

    def reboot(self) -> None:
        """Forget devices and loops; files stay. The next loops have other numbers."""
        with Kernel.of(str(self.root)) as kernel:
            kernel.devices.clear()
            kernel.loops.clear()
            for node in (self.root / "dev/mapper").iterdir():
                node.unlink()
            kernel.state["loops_begin"] = kernel.state.get("loops_begin", 0) + 3
        shutil.rmtree(self.root / "run")
        (self.root / "run").mkdir()

    # Trees

    def populate(
        self,
        device: str,
        mount_point: str,
        work: Callable[[int], Json],
        *,
        stalled_seconds: float | None = None,
        trim_bytes: int = 0,
    ) -> Json:
        """Like ``_thin.filesystem.populate``, into the directory that stands for the volume's tree; that of a snapshot is there."""
        tree = self.tree(device)
        tree.mkdir(exist_ok=bool(trim_bytes))
        root_fd = os.open(tree, os.O_RDONLY | os.O_DIRECTORY)
        try:
            return in_child(lambda: work(root_fd), what="writing the tree")
        finally:
            os.close(root_fd)

    def tree(self, device: str) -> Path:
        """The directory that stands for the tree on a volume."""
        return Path(f"{os.path.realpath(device)}.tree")

    def _change(self, **facts: Any) -> None:
        with Kernel.of(str(self.root)) as kernel:
            kernel.state.update(facts)

    def _add_fault(self, fault: State) -> None:
        with Kernel.of(str(self.root)) as kernel:
            kernel.state["faults"].append(fault)


@pytest.fixture
def fake_host(tmp_path: Path) -> FakeHost:
    """A host of its own for one test."""
    return FakeHost(tmp_path)

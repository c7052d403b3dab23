# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A store alone, and the whole machine on a simulated host in each of its states.

Two things of the real host have no simulation and are replaced here: mounting a volume (its tree is a directory, see
tests/unit/fakes/host.py) and BLKFLSBUF, which a volume that is a file does not know. fsync before it is real. Two more are replaced for
their time: the fake programs answer without a process each (see programs.py), and botocore reads each of its large files once.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from module_utils._host.processes.child import in_child
from module_utils._lifecycle.store.store import Store, open_store
from tests.unit._lifecycle.instance.machine import Bound
from tests.unit._lifecycle.machine import ARCHIVE, KEY, Machine
from tests.unit._lifecycle.programs import run_in_this_process
from tests.unit._lifecycle.s3_stand_in import S3StandIn

FIOCLEX = 0x5451  # an ioctl that every descriptor knows and that changes nothing here


def make_directory() -> contextlib.AbstractContextManager[str]:
    """A directory in memory where there is room: every commit is an fsync, and nothing here outlives the machine."""
    memory = "/dev/shm"
    roomy = os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 512 << 20
    return tempfile.TemporaryDirectory(prefix="flyd-", dir=memory if roomy else None)


@pytest.fixture
def store_path() -> Iterator[Path]:
    """Where a store would be, in a directory that is ours alone."""
    with make_directory() as directory:
        (Path(directory) / "state").mkdir(mode=0o700)
        yield Path(directory) / "state" / "flyd.db"


@pytest.fixture
def store(store_path: Path) -> Iterator[Store]:
    """A new store, whose waits for other programs are short."""
    opened = open_store(str(store_path), writable=True, busy_seconds=0.1)
    yield opened
    opened.close()


class Stages:
    """One machine that is put into any of its states; each is made once."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._made = {"virgin"}
        self._steps: dict[str, tuple[str, Callable[[], object]]] = {
            "pooled": ("virgin", machine.pool),
            "fetched": ("pooled", machine.fetch),
            "unpacked": ("fetched", machine.unpack),
            "activated": ("unpacked", machine.snapshot),
            "bound": ("activated", lambda: Bound(machine).call()),
            "flipped": ("bound", lambda: Bound(machine).flip()),
            "lost": ("activated", lambda: (machine.state / "flyd.db").unlink()),
            "many": ("flipped", lambda: Bound(machine).publish_several()),
            "retired": ("activated", lambda: Bound(machine).publish_several()),
            "roomy": ("virgin", lambda: machine.pool(data_bytes=256 << 20, metadata_bytes=2 << 20)),
            "sealed": ("roomy", lambda: (machine.fetch(), machine.unpack_onto())),
            "renewed": ("sealed", machine.fetch_next),
            "shared": ("sealed", machine.publish_other),
            "hidden": ("shared", machine.unpack_other),
            "unneeded": ("hidden", machine.remove_sharers),
            "rebooted": ("activated", machine.fake.reboot),
            "damaged": ("activated", lambda: machine.fake.set_pool("pool", needs_check=True, damaged=True)),
        }
        machine.save("virgin")

    def at(self, stage: str) -> Machine:
        """The machine as it is when it has come to ``stage``."""
        if stage not in self._made:
            before, step = self._steps[stage]
            self.at(before)
            step()
            self.machine.save(stage)
            self._made.add(stage)
        self.machine.restore(stage)
        self.machine.s3.put(KEY.value, ARCHIVE)
        self.machine.s3.reset()
        self.machine.fake.sticks = False
        self.machine.lock_timeout_seconds = 30.0
        self.machine.store_busy_seconds = 5.0
        self.machine.retries = 0
        self.machine.waits = []
        return self.machine


@pytest.fixture(scope="session")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stages]:
    pytest.importorskip("ulid", reason="python-ulid is not installed")
    pytest.importorskip("boto3", reason="boto3 is not installed")
    with make_directory() as directory, S3StandIn(tmp_path_factory.mktemp("s3")).running() as s3:
        s3.put(KEY.value, ARCHIVE)
        yield Stages(Machine(Path(directory) / "host", s3))


@pytest.fixture(autouse=True)
def replaced(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has no simulation, for each test by itself: tests of other packages want the real one back."""
    if "stages" in request.fixturenames:
        replace(monkeypatch, request.getfixturevalue("stages").machine)


def replace(monkeypatch: pytest.MonkeyPatch, machine: Machine) -> None:
    """Put the stand-ins in their places until the end of ``monkeypatch``."""
    monkeypatch.setattr("module_utils._lifecycle.unpack.make_base.populate", machine.fake.populate)
    monkeypatch.setattr("module_utils._thin.volume._BLKFLSBUF", FIOCLEX)
    monkeypatch.setattr("module_utils._host.processes.command._run", run_in_this_process)
    monkeypatch.setattr("module_utils._thin.dm.control._in_child", _in_child_if_needed(machine))
    for name, once in _read_once().items():
        monkeypatch.setattr(f"botocore.loaders.{name}", once)


def _in_child_if_needed(machine: Machine) -> Callable[..., object]:
    """Only a request that may hang needs a child; to fork the whole test run for each takes longer than all else.

    The simulated kernel answers on standard output, which the threads of a process share.
    """

    def answer(work: Callable[[], dict[str, object]], what: str, timeout_seconds: float) -> object:
        if machine.fake.sticks or threading.current_thread() is not threading.main_thread():
            return in_child(work, what=what, kept_fds=(), timeout_seconds=timeout_seconds)
        return work()

    return answer


@functools.cache
def _read_once() -> dict[str, object]:
    """botocore's reading of its own data, remembered for all clients."""
    from botocore.loaders import JSONFileLoader, create_loader

    def remembered(read: Callable[..., object]) -> object:
        cached = functools.cache(read)
        return lambda _self, *asked, **options: cached(*asked, **options)

    return {
        "JSONFileLoader.load_file": remembered(JSONFileLoader().load_file),
        "Loader.list_available_services": remembered(create_loader().list_available_services),
    }


@pytest.fixture
def virgin(stages: Stages) -> Machine:
    """A host on which nothing was done yet."""
    return stages.at("virgin")


@pytest.fixture
def pooled(stages: Stages) -> Machine:
    """A host with a pool."""
    return stages.at("pooled")


@pytest.fixture
def fetched(stages: Stages) -> Machine:
    """A host with a pool and an archive."""
    return stages.at("fetched")


@pytest.fixture
def unpacked(stages: Stages) -> Machine:
    """A host with a base."""
    needs_root()
    return stages.at("unpacked")


@pytest.fixture
def damaged(stages: Stages) -> Machine:
    """A host with a snapshot, in a pool whose metadata is damaged."""
    needs_root()
    return stages.at("damaged")


@pytest.fixture
def activated(stages: Stages) -> Machine:
    """A host with a snapshot."""
    needs_root()
    return stages.at("activated")


def needs_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("writing a tree with its owners needs root")

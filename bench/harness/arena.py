# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine of the lab in which generations of one image are made, and what each takes."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bench.harness.measuring import BenchError
from bench.harness.snapshotter import Imported, Snapshotter, now
from tests.campaigns.harness.target import HOME, STATE_DIR, Step, Target
from tests.e2e.machine import lab
from tests.unit.builders import images

_SOURCE, _LOOK = "/root/generation.tar", "look"
_HOST = "10.0.2.2"  # as QEMU's user network shows it
_SECONDS_OF_UNPACK = (
    'tail -n 20 {0}/log/flyd.jsonl | grep \'"event": *"end"\' | grep \'"transition": *"unpack"\' | tail -n 1'
)


@dataclass(frozen=True)
class Cost:
    """What one unpacking took."""

    blocks: int
    seconds: float
    cpu_seconds: float
    to_device_seconds: float
    fresh_because: str = ""


@dataclass(frozen=True)
class Checked:
    """What e2fsck says of a file system: ``seconds`` that it took, and the share of its files that are not contiguous (per cent)."""

    seconds: float
    non_contiguous: float


@contextlib.contextmanager
def served(content: bytes) -> Iterator[int]:
    """A port of this host; the first to connect gets ``content``."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        sender = threading.Thread(target=_send, args=(server, content))
        sender.start()
        try:
            yield server.getsockname()[1]
        finally:
            with contextlib.suppress(OSError):  # without a client, accept() would wait for ever
                server.shutdown(socket.SHUT_RDWR)
            sender.join()


def _send(server: socket.socket, content: bytes) -> None:
    with contextlib.suppress(OSError):  # the other end sees that bytes are missing
        connection, _address = server.accept()
        with connection:
            connection.sendall(content)


class Arena:
    """The machine, with a pool; the generations are those of ``key``, which is in use by this object alone."""

    def __init__(self, vm: str, key: str = "bench/generations.tar") -> None:
        self._target = Target(vm)
        self._key = key
        self._containerd = Snapshotter(self._target)
        self._device = ""

    def beside(self, key: str) -> Arena:
        """The same machine, with generations of ``key``."""
        return Arena(self._target.name, key)

    def prepare(self, data_size: str) -> None:
        """The modules in a pristine machine, a pool of ``data_size``, containerd."""
        lab("up", "1", "--name", self._target.name.rstrip("0123456789"))
        lab("reset", self._target.name)
        self._target.install()
        self._containerd.install()
        self._run("flyd_pool", data_size=data_size)

    def publish(self, layers: Sequence[bytes]) -> str:
        """Make ``layers`` the current generation, fetched; returns the path of its archive."""
        archive = images.docker_archive(layers)
        # Not through ssh: an emulated processor decrypts slowly.
        with served(archive) as port:
            got = self._target.ssh(f"cat < /dev/tcp/{_HOST}/{port} > {_SOURCE} && stat -c %s {_SOURCE}")
        if int(got) != len(archive):
            raise BenchError(f"{int(got)} of {len(archive)} bytes arrived in the machine")
        return str(self._run("flyd_fetch", key=self._key, src=f"file://{_SOURCE}", max_size="8G")["path"])

    def unpack(self, archive: str, reuse: str) -> Cost:
        """What unpacking the current generation takes; a read-only snapshot of it stays until ``forget_look``."""
        self._warm(archive)
        before, begun = self._used_blocks(), now(self._target)
        made, look = self._drive(
            Step("flyd_unpack", {"key": self._key, "reuse": reuse}),
            Step("flyd_snapshot", {"key": self._key, "name": _LOOK, "read_only": True}),
        )
        took = now(self._target) - begun
        blocks = self._used_blocks() - before
        self._device = shlex.quote(str(look["device"]))
        line = json.loads(self._target.ssh(_SECONDS_OF_UNPACK.format(STATE_DIR)))
        because = "" if made["origin"] else str(made["fresh_because"])
        return Cost(blocks, line["seconds"], line["cpu_seconds"], took, because)

    def tree(self) -> str:
        """The digest of what tree.py says of the tree in the snapshot that ``unpack`` has left."""
        return self._target.ssh(
            f"mount -o ro,noload {self._device} /mnt && python3 {HOME}/tools/tree.py /mnt --exact | sha256sum; umount /mnt"
        ).strip()

    def checked(self) -> Checked:
        """What e2fsck says of that snapshot, read from the disk."""
        begun = now(self._target)
        said = self._target.ssh(f"blockdev --flushbufs {self._device}; e2fsck -f -n {self._device} 2>/dev/null")
        found = re.search(r"files \(([0-9.]+)% non-contiguous", said)
        if found is None:
            raise BenchError(f"e2fsck: {said}")
        return Checked(now(self._target) - begun, float(found[1]))

    def forget_look(self) -> None:
        """Remove that snapshot."""
        self._run("flyd_snapshot", key=self._key, name=_LOOK, state="absent")

    def mapped_bytes(self) -> tuple[int, int]:
        """Bytes of the pool that the current base has alone, and that it shares."""
        current = self._current()
        return int(current["base_own"]), int(current["base_shared"])

    def containerd(self, archives: Sequence[tuple[str, Sequence[bytes]]]) -> list[Imported]:
        """What importing each of ``archives`` (path, layers) after the ones before takes."""
        found = []
        with self._containerd.running():
            for number, (archive, layers) in enumerate(archives):
                self._warm(archive)
                found.append(self._containerd.import_image(archive, layers, f"active-{number}"))
        return found

    def first(self, archive: str) -> None:
        """The base of the first generation."""
        self._target.ssh(f"cat {shlex.quote(archive)} > /dev/null")
        self._run("flyd_unpack", key=self._key)

    def remove(self) -> None:
        """Remove the base of the current generation alone."""
        self._run("flyd_unpack", key=self._key, sha256=self._current()["sha256"], state="absent")

    def forget(self) -> None:
        """Remove all generations, and hidden bases that nothing needs."""
        self._run("flyd_fetch", key=self._key, state="absent", force=True)
        self._run("flyd_prune")

    def _current(self) -> dict[str, Any]:
        [current] = [one for one in self._run("flyd_info", what=["images"], key=self._key)["images"] if one["current"]]
        return dict(current)

    def _warm(self, archive: str) -> None:
        self._target.ssh(f"sync; cat {shlex.quote(archive)} > /dev/null")

    def _used_blocks(self) -> int:
        return int(self._target.ssh("dmsetup status pool").split()[5].split("/")[0])

    def _run(self, module: str, **options: Any) -> dict[str, Any]:
        return self._drive(Step(module, options))[0]

    def _drive(self, *steps: Step) -> list[dict[str, Any]]:
        results = self._target.drive(steps)
        if len(results) < len(steps) or results[-1].get("failed"):
            raise BenchError(f"{steps[max(0, len(results) - 1)].module} failed: {results[-1:]}")
        return results

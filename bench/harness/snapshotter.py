# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""containerd with its devmapper snapshotter in a machine of the lab, with a pool of its own.

Invariant: it stands while it is measured, and nothing of it is left afterwards.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from bench.harness.measuring import BenchError
from tests.campaigns.harness.target import Target

HOME = "/root/race"
POOL = "race-pool"
_CTR = f"{HOME}/ctr --address {HOME}/run/containerd.sock"
_SNAPSHOTTER = "--snapshotter devmapper"
_CONFIG = f"""version = 2
root = "{HOME}/root"
state = "{HOME}/run"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "{HOME}/run/containerd.sock"
[plugins."io.containerd.snapshotter.v1.devmapper"]
root_path = "{HOME}/devmapper"
pool_name = "{POOL}"
base_image_size = "2GB"
"""
_UP = f"""set -e
mkdir -p {HOME}/run; cd {HOME}; truncate -s 4G data; truncate -s 64M meta
data=$(losetup --find --show data); meta=$(losetup --find --show meta)
dmsetup create {POOL} --table "0 $(blockdev --getsz $data) thin-pool $meta $data 128 32768 1 skip_block_zeroing"
setsid {HOME}/containerd --config {HOME}/config.toml >{HOME}/log 2>&1 </dev/null & echo $! >{HOME}/pid
for _ in $(seq 100); do {_CTR} version >/dev/null 2>&1 && exit 0; sleep 0.2; done; cat {HOME}/log >&2; exit 1"""
# Devices that stand on others are busy until these are gone.
_DOWN = f"""cd {HOME}; kill $(cat pid); while kill -0 $(cat pid) 2>/dev/null; do sleep 0.1; done
for _ in $(seq 20); do
    for name in $(dmsetup ls | cut -f 1 | grep '^{POOL}-'); do dmsetup remove $name 2>/dev/null; done
    dmsetup remove {POOL} 2>/dev/null && break; sleep 0.2
done
for file in data meta; do losetup --detach $(losetup --noheadings --output NAME --associated $file); rm -f $file; done
rm -rf root devmapper run"""


class Imported(NamedTuple):
    """What an import took: ``seconds`` from the archive to the device of a writable snapshot, ``blocks`` of the pool (64 KiB)."""

    device: str
    seconds: float
    blocks: int


class Snapshotter:
    """containerd in the machine ``target``."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def install(self) -> None:
        """Bring the programs of this host into the machine."""
        programs = [shutil.which(name) for name in ("containerd", "ctr")]
        if None in programs:
            raise BenchError("containerd and ctr are not installed here: apt-get install containerd")
        parts = [part for path in programs if path for part in ("-C", os.path.dirname(path), os.path.basename(path))]
        packed = subprocess.run(["tar", "-chf", "-", *parts], capture_output=True, check=True)
        self._target.ssh(f"rm -rf {HOME} && mkdir -p {HOME} && tar -C {HOME} -x", stdin=packed.stdout)
        self._target.ssh(f"cat >{HOME}/config.toml", stdin=_CONFIG.encode())

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """The daemon, with an empty pool."""
        self._target.ssh(_UP)
        try:
            yield
        finally:
            self._target.ssh(_DOWN)

    def import_image(self, archive: str, layers: Sequence[bytes], active: str) -> Imported:
        """Import ``archive``, whose uncompressed layers are ``layers``, and make the snapshot ``active`` of the last one."""
        blocks, begun = self._used_blocks(), now(self._target)
        self._target.ssh(
            f"{_CTR} images import {_SNAPSHOTTER} {shlex.quote(archive)} >/dev/null && "
            f"{_CTR} snapshots {_SNAPSHOTTER} prepare {active} {chain_id(layers)} >/dev/null"
        )
        took = now(self._target) - begun
        self._target.ssh("sync")
        device = self._target.ssh(
            f"{_CTR} snapshots {_SNAPSHOTTER} mounts /mnt {active} | grep -o '/dev/mapper/[^ ]*'"
        ).strip()
        return Imported(device, took, self._used_blocks() - blocks)

    def _used_blocks(self) -> int:
        return int(self._target.ssh(f"dmsetup status {POOL}").split()[5].split("/")[0])


def now(target: Target) -> float:
    """The clock of the machine, in seconds: that of an emulated one differs from ours."""
    return float(target.ssh("date +%s.%N"))


def chain_id(layers: Sequence[bytes]) -> str:
    """The name that containerd gives to the snapshot of the last of ``layers`` upon the others (OCI image specification, ChainID)."""
    chain = ""
    for layer in layers:
        digest = f"sha256:{hashlib.sha256(layer).hexdigest()}"
        chain = f"sha256:{hashlib.sha256(f'{chain} {digest}'.encode()).hexdigest()}" if chain else digest
    return chain

"""A device-mapper that is only files: the rules of the kernel's thin-pool target, for tests without root.

The state is ``state.json`` below the fake host's root, changed under a lock, so that fake programs may run side by side. Thin ids
live where the kernel keeps them, in the pool's metadata file (behind a superblock with the kernel's magic), so that a pool
survives a reboot and a foreign metadata file brings its own ids. A volume is a sparse file; its node is a link to it. No two volumes share
blocks here; which ones they have is in the metadata, as of the last message, suspension or removal of a device.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import struct
from collections.abc import Iterator

from tests.unit.fakes.sysfs import LOOP_MAJOR, MAJOR, show_in_sysfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

    from tests.unit.fakes.sysfs import State

DISK_MAJOR = 8  # of a file in the directory disks, which stands for a block device
MAX_THIN_ID = 2**24 - 1
# As in drivers/md/dm-thin-metadata.c and persistent-data/dm-btree-internal.h; see plugins/module_utils/_thin/pool/metadata.py
SUPERBLOCK = struct.Struct("<IIQ16sQIIQQ Q120x QQ112x QQI")
NODE = struct.Struct("<IIQIIII")
MAGIC = 27022010
INTERNAL, LEAF = 1, 2
ENTRIES = 126  # of 8 bytes of key and 24 of details
NUMBERS = 252  # of 8 bytes of key and 8 of number
BLOCK_BYTES = 4096
OURS_BYTES = 2 * BLOCK_BYTES  # where the simulation keeps its own


class KernelError(Exception):
    """An ioctl that the kernel refuses; ``ioctl`` is dmsetup's name for it."""

    def __init__(self, number: int, ioctl: str = "") -> None:
        super().__init__(os.strerror(number))
        self.number = number
        self.ioctl = ioctl


def empty_state() -> State:
    return {
        "driver": True,
        "targets": ["striped", "linear", "error"],
        "loadable": ["thin-pool", "thin"],
        "nodes_get_lost": False,
        "faults": [],
        "devices": {},
        "loops": {},
        "held": [],
    }


class Kernel:
    """The state, and what may be done to it. Use as ``with Kernel.of(root) as kernel``."""

    def __init__(self, root: str, state: State) -> None:
        self.root = root
        self.state = state
        self.devices: dict[str, State] = state["devices"]
        self.loops: dict[str, str] = state["loops"]

    @classmethod
    @contextlib.contextmanager
    def of(cls, root: str) -> Iterator[Kernel]:
        with open(f"{root}/lock", "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with open(f"{root}/state.json") as file:
                kernel = cls(root, json.load(file))
            try:
                yield kernel
            finally:
                with open(f"{root}/state.json", "w") as file:
                    json.dump(kernel.state, file)
                show_in_sysfs(root, kernel.state)

    def take_fault(self, program: str, arguments: list[str]) -> State | None:
        """The next fault that waits for this call, one time fewer left of it."""
        line = " ".join((program, *arguments))
        if self.state.get("held_after") and self.state["held_after"][0] in line:
            self.state["held"].append(self.state.pop("held_after")[1])
        for fault in self.state["faults"]:
            if fault["match"] in line:
                fault["times"] -= 1
                self.state["faults"] = [other for other in self.state["faults"] if other["times"] > 0]
                found: State = fault
                return found
        return None

    # Devices

    def create(self, name: str, uuid: str, table: str | None, *, read_only: bool) -> None:
        if name in self.devices or any(uuid and device["uuid"] == uuid for device in self.devices.values()):
            raise KernelError(errno.EBUSY, "create")
        minors = {device["minor"] for device in self.devices.values()}
        minor = next(number for number in range(len(minors) + 1) if number not in minors)
        self.devices[name] = {
            "uuid": uuid,
            "minor": minor,
            "ro": read_only,
            "suspended": False,
            "table": None,
            "next": None,
        }
        if table is None:
            return
        try:
            self.load(name, table)
        except KernelError:
            del self.devices[name]
            raise
        self.resume(name)

    def remove(self, name: str) -> None:
        if self.open_count(name):
            raise KernelError(errno.EBUSY, "remove")
        self.commit(name)
        del self.devices[name]
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{self.root}/dev/mapper/{name}")

    def open_count(self, name: str) -> int:
        """How often it is open: held by another program, and once by each device whose table names it."""
        number = f"{MAJOR}:{self.device(name)['minor']}"
        tables = [(device["table"] or "").split() for device in self.devices.values()]
        held: list[str] = self.state["held"]
        return held.count(name) + sum(number in table for table in tables)

    def commit(self, name: str) -> None:
        """Let the metadata have what was written to the thin volume ``name``."""
        fields = (self.devices[name]["table"] or "").split()
        if fields[2:3] == ["thin"]:
            with contextlib.suppress(KernelError):  # the pool may be gone
                pool = self.pool_of(fields)
                self.save_metadata(pool, self.metadata(pool))

    def device(self, name: str) -> State:
        if name not in self.devices:
            raise KernelError(errno.ENXIO, "")
        return self.devices[name]

    def load(self, name: str, table: str) -> None:
        device = self.device(name)
        fields = table.split()
        if len(fields) < 3 or not self.has_target(fields[2]):
            raise KernelError(errno.EINVAL, "reload")
        if fields[2] == "thin-pool":
            fields[3:5] = [self.block_number(fields[3]), self.block_number(fields[4])]
            self.open_pool(name, fields)
        elif fields[2] == "thin":
            fields[3] = self.block_number(fields[3])
            if str(int(fields[4])) not in self.metadata(self.pool_of(fields))["thins"]:
                raise KernelError(errno.ENODATA, "reload")
        device["next"] = " ".join(fields)

    def resume(self, name: str) -> None:
        device = self.device(name)
        device["table"] = device["next"] or device["table"]
        device["next"] = None
        device["suspended"] = False
        fields = device["table"].split()
        if fields[2] == "thin-pool":
            self.take_sizes(fields)
        if not self.state["nodes_get_lost"]:
            self.make_node(name)

    def take_sizes(self, fields: list[str]) -> None:
        """What maybe_resize_data_dev and its like do before a pool is resumed: only growing, and not when it needs repair."""
        data, sizes = self.metadata(fields), self.sizes(fields)
        if sizes["data_blocks"] < data["data_blocks"] or sizes["metadata_blocks"] < data["metadata_blocks"]:
            raise KernelError(errno.EINVAL, "resume")
        if data["needs_check"] or all(data[what] == size for what, size in sizes.items()):
            return
        was_full = data.get("used_metadata_blocks", 0) >= data["metadata_blocks"] < sizes["metadata_blocks"]
        if data["mode"] == "out_of_data_space" or (data["mode"] == "ro" and was_full):
            data["mode"] = "rw"
        self.save_metadata(fields, {**data, **sizes})

    def make_node(self, name: str) -> None:
        node = f"{self.root}/dev/mapper/{name}"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(node)
        fields = self.devices[name]["table"].split()
        if fields[2] == "thin":
            target = self.volume(self.pool_of(fields), int(fields[4]))
            with open(target, "ab") as file:
                file.truncate(max(file.tell(), int(fields[1]) * 512))
            os.symlink(target, node)
        else:
            open(node, "x").close()

    def has_target(self, target: str) -> bool:
        """Whether there is a target; its module is loaded now if it was not, as request_module does."""
        if target in self.state["loadable"]:
            self.state["targets"] = ["thin", "thin-pool", *self.state["targets"]]
            self.state["loadable"] = []
        return target in self.state["targets"]

    # Pools

    def open_pool(self, name: str, fields: list[str]) -> None:
        others = [str(device["table"]).split() for other, device in self.devices.items() if other != name]
        if any(table[2:4] == ["thin-pool", fields[3]] for table in others):
            raise KernelError(errno.EBUSY, "reload")
        path = self.file_behind(fields[3])
        with open(path, "r+b") as file:
            block = file.read(4096)
            if not any(block):
                data: State = {
                    "pool": os.urandom(16).hex(),
                    "transaction_id": 0,
                    "thins": {},
                    "mode": "rw",
                    "needs_check": False,
                    "block_sectors": int(fields[5]),
                }
                self.write_metadata(file, {**data, **self.sizes(fields)})
            elif SUPERBLOCK.unpack_from(block)[4] != MAGIC:
                raise KernelError(errno.ENOTBLK, "reload")

    def pool_of(self, fields: list[str]) -> list[str]:
        """The table of the pool that a thin table names."""
        for device in self.devices.values():
            if f"{MAJOR}:{device['minor']}" == fields[3] and device["table"] and " thin-pool " in device["table"]:
                return str(device["table"]).split()
        raise KernelError(errno.ENODEV, "reload")

    def sizes(self, fields: list[str]) -> State:
        """What the pool takes over from its table and its devices."""
        return {
            "data_blocks": int(fields[1]) // int(fields[5]),
            "metadata_blocks": os.stat(self.file_behind(fields[3])).st_size // BLOCK_BYTES,
        }

    def metadata(self, pool: list[str]) -> State:
        with open(self.file_behind(pool[3]), "rb") as file:
            file.seek(OURS_BYTES)
            length = int.from_bytes(file.read(8), "little")
            data: State = json.loads(file.read(length))
            return data

    def write_metadata(self, file: BinaryIO, data: State) -> None:
        raw = json.dumps(data).encode()
        flags, uuid = int(data["needs_check"]), b""
        metadata_blocks = (data["metadata_blocks"], data.get("used_metadata_blocks", 0))
        root = self.write_mappings(file, data, first_free=2 - (-(len(raw) + 8) // BLOCK_BYTES))
        numbers = (data["data_blocks"], *metadata_blocks, root, 1, data["block_sectors"])
        file.seek(0)
        file.write(SUPERBLOCK.pack(0, flags, 0, uuid, MAGIC, 2, 0, data["transaction_id"], 0, *numbers))
        ids = sorted(int(number) for number in data["thins"])[:ENTRIES]
        file.seek(BLOCK_BYTES)
        file.write(
            NODE.pack(0, LEAF, 1, len(ids), ENTRIES, 24, 0)
            + struct.pack(f"<{ENTRIES}Q", *ids, *bytes(ENTRIES - len(ids)))
            + b"".join(struct.pack("<QQ8x", 0, data["thins"][str(one)].get("made_at", 0)) for one in ids)
        )
        file.seek(OURS_BYTES)
        file.write(len(raw).to_bytes(8, "little") + raw)

    def write_mappings(self, file: BinaryIO, data: State, first_free: int) -> int:
        """The tree of mappings, from the last block downwards, and its root; 0 when there is no room for it."""
        free = iter(range(data["metadata_blocks"] - 1, first_free, -1))
        begin, roots = 0, {}
        try:
            for thin_id in sorted(int(number) for number in data["thins"]):
                end = begin + self.blocks_of(data, thin_id)
                parts = range(begin, max(end, begin + 1), NUMBERS)
                leaves = {
                    at - begin: write_node(
                        file,
                        next(free),
                        LEAF,
                        {one - begin: one % data["data_blocks"] << 24 for one in range(at, min(end, at + NUMBERS))},
                    )
                    for at in parts
                }
                roots[thin_id] = leaves[0] if len(leaves) == 1 else write_node(file, next(free), INTERNAL, leaves)
                begin = end
            return write_node(file, next(free), LEAF, roots) if len(roots) <= NUMBERS else 0
        except StopIteration:
            return 0

    def blocks_of(self, data: State, thin_id: int) -> int:
        """How many blocks of its pool the volume takes."""
        with contextlib.suppress(FileNotFoundError):
            used = os.stat(f"{self.root}/volumes/{data['pool']}/{thin_id}").st_blocks
            return -(-used // int(data["block_sectors"]))
        return 0

    def save_metadata(self, pool: list[str], data: State) -> None:
        with open(self.file_behind(pool[3]), "r+b") as file:
            self.write_metadata(file, data)

    def volume(self, pool: list[str], thin_id: int) -> str:
        directory = f"{self.root}/volumes/{self.metadata(pool)['pool']}"
        os.makedirs(directory, exist_ok=True)
        return f"{directory}/{thin_id}"

    def mapped_thins(self, name: str) -> list[str]:
        number = f"{MAJOR}:{self.devices[name]['minor']}"
        return [other for other, device in self.devices.items() if f" thin {number} " in (device["table"] or "")]

    # Loops and numbers

    def block_number(self, path: str) -> str:
        """``major:minor`` of a node below the fake /dev, or the number itself."""
        if path[0] != "/":
            return path
        name = os.path.basename(path)
        if name in self.devices:
            return f"{MAJOR}:{self.devices[name]['minor']}"
        if name.startswith("loop") and name[4:] in self.loops:
            return f"{LOOP_MAJOR}:{name[4:]}"
        if os.path.dirname(path) == f"{self.root}/disks":
            return f"{DISK_MAJOR}:{self._disks().index(name)}"
        raise KernelError(errno.ENODEV, "reload")

    def file_behind(self, number: str) -> str:
        major, minor = number.split(":")
        if int(major) == DISK_MAJOR:
            return f"{self.root}/disks/{self._disks()[int(minor)]}"
        if int(major) != LOOP_MAJOR or minor not in self.loops:
            raise KernelError(errno.ENXIO, "reload")
        return self.loops[minor]

    def _disks(self) -> list[str]:
        """Files that stand for block devices."""
        return sorted(os.listdir(f"{self.root}/disks"))

    def loop_is_used(self, number: str) -> bool:
        return any(f"{LOOP_MAJOR}:{number}" in (device["table"] or "").split() for device in self.devices.values())


def write_node(file: BinaryIO, number: int, kind: int, numbers: dict[int, int]) -> int:
    """A node of the tree of mappings; says where it is."""
    file.seek(number * BLOCK_BYTES)
    keys = struct.pack(f"<{len(numbers)}Q", *numbers).ljust(8 * NUMBERS, b"\0")
    values = struct.pack(f"<{len(numbers)}Q", *numbers.values())
    file.write(NODE.pack(0, kind, number, len(numbers), NUMBERS, 8, 0) + keys + values)
    return number

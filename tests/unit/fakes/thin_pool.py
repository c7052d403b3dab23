"""The messages and the status lines of the simulated thin-pool and thin targets."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from tests.unit.fakes.kernel import MAX_THIN_ID, Kernel, KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tests.unit.fakes.sysfs import State

SECTOR_BYTES = 512


def message(kernel: Kernel, name: str, text: str) -> None:
    """What dm-thin.c's pool_message does, with its errno."""
    pool = str(kernel.device(name)["table"]).split()
    verb, *numbers = text.split()
    if pool[2] != "thin-pool":
        raise KernelError(errno.EINVAL)
    data = kernel.metadata(pool)
    if data["mode"] in ("ro", "Fail"):
        raise KernelError(errno.EOPNOTSUPP)
    verbs: dict[str, Callable[..., None]] = {
        "create_thin": create_thin,
        "create_snap": create_snap,
        "delete": delete,
        "set_transaction_id": set_transaction_id,
        "reserve_metadata_snap": reserve_metadata_snap,
        "release_metadata_snap": release_metadata_snap,
    }
    counts = {"create_snap": 2, "set_transaction_id": 2, "reserve_metadata_snap": 0, "release_metadata_snap": 0}
    if verb not in verbs or len(numbers) != counts.get(verb, 1):
        raise KernelError(errno.EINVAL)
    verbs[verb](kernel, pool, data, *[int(number) for number in numbers])
    kernel.save_metadata(pool, data)


def create_thin(kernel: Kernel, pool: list[str], data: State, thin_id: int) -> None:
    require_new(data, thin_id)
    data["thins"][str(thin_id)] = {"made_at": data["transaction_id"]}
    open(kernel.volume(pool, thin_id), "x").close()


def create_snap(kernel: Kernel, pool: list[str], data: State, thin_id: int, origin: int) -> None:
    if origin > MAX_THIN_ID:
        raise KernelError(errno.EINVAL)
    require_new(data, thin_id)
    if str(origin) not in data["thins"]:
        raise KernelError(errno.ENODATA)
    if any(not kernel.devices[other]["suspended"] for other in mappings(kernel, pool, origin)):
        data["corrupted"] = True  # the kernel allows it, and what the snapshot holds is anybody's guess
    data["thins"][str(thin_id)] = {"made_at": data["transaction_id"]}
    copy_sparsely(kernel.volume(pool, origin), kernel.volume(pool, thin_id))
    import shutil  # here: it costs more than the rest of a program's start

    tree = f"{kernel.volume(pool, origin)}.tree"
    if os.path.isdir(tree):
        shutil.copytree(tree, f"{kernel.volume(pool, thin_id)}.tree", symlinks=True)


def delete(kernel: Kernel, pool: list[str], data: State, thin_id: int) -> None:
    if str(thin_id) not in data["thins"]:
        raise KernelError(errno.ENODATA)
    if mappings(kernel, pool, thin_id):
        raise KernelError(errno.EBUSY)
    del data["thins"][str(thin_id)]
    volume = kernel.volume(pool, thin_id)
    os.unlink(volume)
    if os.path.isdir(f"{volume}.tree"):
        import shutil

        shutil.rmtree(f"{volume}.tree")


def set_transaction_id(kernel: Kernel, pool: list[str], data: State, old: int, new: int) -> None:
    if data["transaction_id"] != old:
        raise KernelError(errno.EINVAL)
    data["transaction_id"] = new


def reserve_metadata_snap(kernel: Kernel, pool: list[str], data: State) -> None:
    if data.get("held"):
        raise KernelError(errno.EBUSY)
    data["held"] = {name: value for name, value in data.items() if name != "held"}


def release_metadata_snap(kernel: Kernel, pool: list[str], data: State) -> None:
    if not data.get("held"):
        raise KernelError(errno.EINVAL)
    data["held"] = None


def require_new(data: State, thin_id: int) -> None:
    if thin_id > MAX_THIN_ID:
        raise KernelError(errno.EINVAL)
    if str(thin_id) in data["thins"]:
        raise KernelError(errno.EEXIST)


def mappings(kernel: Kernel, pool: list[str], thin_id: int) -> list[str]:
    """The devices that show this volume."""
    names = [name for name, device in kernel.devices.items() if device["table"] and device["table"].split() == pool]
    return [
        other for other in kernel.mapped_thins(names[0]) if kernel.devices[other]["table"].split()[4] == str(thin_id)
    ]


def pool_status(kernel: Kernel, name: str) -> str:
    pool = kernel.devices[name]["table"].split()
    data = kernel.metadata(pool)
    if data["mode"] in ("Fail", "Error"):
        return str(data["mode"])
    block_bytes = int(pool[5]) * SECTOR_BYTES
    total, metadata_total = (
        int(pool[1]) // int(pool[5]),
        data["metadata_blocks"],
    )  # a larger device counts once it is resumed
    used = data.get(
        "used_data_blocks", sum(used_blocks(kernel, pool, int(number), block_bytes) for number in data["thins"])
    )
    # The kernel counts a tenth of the metadata as used from the start: it is kept for deletions.
    metadata_used = data.get("used_metadata_blocks", metadata_total // 10 + 9 + len(data["thins"]))
    check = "needs_check" if data["needs_check"] else "-"
    policy = "error_if_no_space" if "error_if_no_space" in pool else "queue_if_no_space"
    low_water = min(1024, metadata_total // 4)
    numbers = f"{data['transaction_id']} {metadata_used}/{metadata_total} {min(used, total)}/{total} {7 if data.get('held') else '-'}"
    return f"{numbers} {data['mode']} discard_passdown {policy} {check} {low_water} "


def thin_status(kernel: Kernel, name: str) -> str:
    fields = kernel.devices[name]["table"].split()
    pool = kernel.pool_of(fields)
    block_sectors = int(pool[5])
    mapped = used_blocks(kernel, pool, int(fields[4]), block_sectors * SECTOR_BYTES) * block_sectors
    return f"{mapped} {mapped - 1 if mapped else '-'}"


def used_blocks(kernel: Kernel, pool: list[str], thin_id: int, block_bytes: int) -> int:
    return -(-os.stat(kernel.volume(pool, thin_id)).st_blocks * SECTOR_BYTES // block_bytes)


def copy_sparsely(source: str, target: str) -> None:
    with open(source, "rb") as old, open(target, "wb") as new:
        size = os.fstat(old.fileno()).st_size
        new.truncate(size)
        start = 0
        while start < size:
            try:
                start = os.lseek(old.fileno(), start, os.SEEK_DATA)
            except OSError:  # ENXIO: only a hole is left
                break
            end = os.lseek(old.fileno(), start, os.SEEK_HOLE)
            while start < end:
                start += os.pwrite(new.fileno(), os.pread(old.fileno(), min(1 << 20, end - start), start), start)

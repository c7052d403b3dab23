"""A stand-in for losetup over the simulated kernel."""

from __future__ import annotations

import errno
import json
import os

from tests.unit.fakes.kernel import Kernel


def attach(kernel: Kernel, path: str) -> str:
    wanted = os.stat(path)
    for number, backing in kernel.loops.items():
        if os.path.exists(backing) and os.path.samestat(os.stat(backing), wanted):
            return number  # --nooverlap
    first = kernel.state.get("loops_begin", 0)
    number = str(
        next(number for number in range(first, first + len(kernel.loops) + 1) if str(number) not in kernel.loops)
    )
    kernel.loops[number] = path
    node = f"{kernel.root}/dev/loop{number}"
    if os.path.lexists(node):
        os.unlink(node)
    os.symlink(path, node)
    return number


def detach(kernel: Kernel, device: str) -> None:
    number = os.path.basename(device)[len("loop") :]
    if number not in kernel.loops:
        raise SystemExit(f"losetup: {device}: detach failed: {os.strerror(errno.ENXIO)}")
    if kernel.loop_is_used(number):
        return  # the kernel says yes and does it when the last user has gone
    del kernel.loops[number]
    os.unlink(f"{kernel.root}/dev/loop{number}")


def listing(kernel: Kernel) -> str:
    rows = []
    for number, path in kernel.loops.items():
        found = os.stat(path)
        device = f"{os.major(found.st_dev)}:{os.minor(found.st_dev)}"
        row = {
            "name": f"{kernel.root}/dev/loop{number}",
            "back-ino": found.st_ino,
            "back-maj:min": f" {device} ",
            "back-file": path,
        }
        rows.append({**row, "offset": 0, "sizelimit": 0, "ro": False})
    return json.dumps({"loopdevices": rows})


def run(root: str, _: str, arguments: list[str]) -> None:
    """Do what the arguments say, or exit with 1 and losetup's words on standard error."""
    with Kernel.of(root) as kernel:
        fault = kernel.take_fault("losetup", arguments)
        if fault:
            raise SystemExit(f"losetup: {arguments[-1]}: failed: {os.strerror(fault['errno'])}")
        if "--list" in arguments:
            print(listing(kernel))
        elif "--set-capacity" in arguments:
            if os.path.basename(arguments[-1])[len("loop") :] not in kernel.loops:
                raise SystemExit(f"losetup: {arguments[-1]}: set capacity failed: {os.strerror(errno.ENXIO)}")
        elif "--detach" in arguments:
            for device in arguments[arguments.index("--detach") + 1 :]:
                detach(kernel, device)
        else:
            print(f"{root}/dev/loop{attach(kernel, arguments[-1])}")

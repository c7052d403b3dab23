"""The tree below /sys that shows the simulated kernel's devices and loops."""

from __future__ import annotations

import os

TYPE_CHECKING = False  # as in typing, which would cost a fake program a third of its start
if TYPE_CHECKING:
    from typing import Any

    State = dict[str, Any]

MAJOR = 253
LOOP_MAJOR = 7
DISK_MAJOR = 8


def show_in_sysfs(root: str, state: State) -> None:
    """Bring the tree up to date; what stays the same is not touched, for others may be reading it.

    As since Linux 5.15, a device is shown from its first table on.
    """
    block = f"{root}/sys/block"
    devices = {name: device for name, device in state["devices"].items() if device["table"] or device["next"]}
    shown = {f"dm-{device['minor']}": _facts(name, device) for name, device in devices.items()}
    for number, path in state["loops"].items():
        shown[f"loop{number}"] = {"dev": f"{LOOP_MAJOR}:{number}", "loop/backing_file": path}
    for entry in os.listdir(block):
        if entry not in shown:
            _remove_tree(f"{block}/{entry}")
    for entry, facts in shown.items():
        for name, value in facts.items():
            _write(f"{block}/{entry}/{name}", value + "\n")
    _show_holders(root, devices)
    if "thin-pool" in state["targets"]:
        os.makedirs(f"{root}/sys/module/dm_thin_pool", exist_ok=True)


def _show_holders(root: str, devices: State) -> None:
    """dev/block/MAJOR:MINOR/holders, with an entry for each device whose table names it."""
    for device in devices.values():
        number = f"{MAJOR}:{device['minor']}"
        holders = {f"dm-{other['minor']}" for other in devices.values() if number in (other["table"] or "").split()}
        directory = f"{root}/sys/dev/block/{number}/holders"
        os.makedirs(directory, exist_ok=True)
        for entry in holders.symmetric_difference(os.listdir(directory)):
            if entry in holders:
                open(f"{directory}/{entry}", "x").close()
            else:
                os.unlink(f"{directory}/{entry}")


def _facts(name: str, device: State) -> dict[str, str]:
    return {
        "dev": f"{MAJOR}:{device['minor']}",
        "ro": str(int(device["ro"])),
        "size": device["table"].split()[1] if device["table"] else "0",
        "dm/name": name,
        "dm/uuid": device["uuid"],
        "dm/suspended": str(int(device["suspended"])),
    }


def _write(path: str, text: str) -> None:
    if os.path.exists(path):
        with open(path) as file:
            if file.read() == text:
                return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(f"{path}.new", "w") as file:
        file.write(text)
    os.rename(f"{path}.new", path)


def _remove_tree(path: str) -> None:
    for directory, _, files in os.walk(path, topdown=False):
        for name in files:
            os.unlink(f"{directory}/{name}")
        os.rmdir(directory)

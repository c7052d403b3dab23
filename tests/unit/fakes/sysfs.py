"""The tree below /sys that shows the simulated kernel's devices and loops."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

MAJOR = 253
LOOP_MAJOR = 7
State = dict[str, Any]


def show_in_sysfs(root: Path, state: State) -> None:
    """Bring the tree up to date; what stays the same is not touched, for others may be reading it.

    As since Linux 5.15, a device is shown from its first table on.
    """
    block = root / "sys/block"
    devices = {name: device for name, device in state["devices"].items() if device["table"] or device["next"]}
    shown = {f"dm-{device['minor']}": _facts(name, device) for name, device in devices.items()}
    shown |= {
        f"loop{number}": {"dev": f"{LOOP_MAJOR}:{number}", "loop/backing_file": path}
        for number, path in state["loops"].items()
    }
    for entry in os.listdir(block):
        if entry not in shown:
            shutil.rmtree(block / entry)
    for entry, facts in shown.items():
        for name, value in facts.items():
            _write(block / entry / name, value + "\n")
    if "thin-pool" in state["targets"]:
        (root / "sys/module/dm_thin_pool").mkdir(exist_ok=True)


def _facts(name: str, device: State) -> dict[str, str]:
    return {
        "dev": f"{MAJOR}:{device['minor']}",
        "ro": str(int(device["ro"])),
        "size": device["table"].split()[1] if device["table"] else "0",
        "dm/name": name,
        "dm/uuid": device["uuid"],
        "dm/suspended": str(int(device["suspended"])),
    }


def _write(path: Path, text: str) -> None:
    if path.exists() and path.read_text() == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}")
    new.write_text(text)
    new.rename(path)

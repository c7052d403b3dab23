"""The files of a host, in a directory."""

from __future__ import annotations

from pathlib import Path

from module_utils._thin.dm.device import Device
from module_utils._thin.guards.missing import Lack, missing_guards

REPOSITORY = Path(__file__).parents[3]
RULE = (REPOSITORY / "roles/prepare/files/10-flyd.rules").read_text()


class Files:
    """A host's files below ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, path: str, text: str = "") -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def program(self, name: str) -> None:
        self.put(f"bin/{name}")
        (self.root / "bin" / name).chmod(0o755)

    def missing(self, *devices: Device) -> list[str]:
        return [lack.text for lack in self.lacks(*devices)]

    def lacks(self, *devices: Device) -> list[Lack]:
        return missing_guards(devices, root=str(self.root), search=(str(self.root / "bin"),))


def prepared_host(root: Path) -> Files:
    """A host with udev and the rule, without LVM and mdadm."""
    made = Files(root)
    made.put("run/udev/control")
    made.put("etc/udev/rules.d/10-flyd.rules", RULE)
    return made

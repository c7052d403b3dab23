"""The loop device of one file."""

from __future__ import annotations

from module_utils._host.processes.command import Runner
from module_utils._thin.loop import LoopDevice, attach_all, check_backing_file, detach_all, find_all


def find(runner: Runner, path: str, *, sysfs: str = "/sys") -> LoopDevice | None:
    """The loop device over the file ``path``."""
    return find_all(runner, [path], sysfs=sysfs).get(path)


def attach(runner: Runner, path: str, *, expected_bytes: int | None = None, sysfs: str = "/sys") -> LoopDevice:
    """A loop device over ``path``, as a pool gets one: the one that is there, or a new one."""
    check_backing_file(path, expected_bytes)
    return attach_all(runner, [path], there=find_all(runner, [path], sysfs=sysfs), sysfs=sysfs)[path]


def detach(runner: Runner, path: str, *, sysfs: str = "/sys") -> bool:
    """Detach the loop device over ``path``; ``False`` when there is none."""
    return detach_all(runner, [path], sysfs=sysfs)

"""A stand-in for dmsetup over the simulated kernel: the verbs that we use, and dmsetup's own words for what goes wrong.

The texts are those of dmsetup 1.02.185 on Linux 6.1.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable

from tests.unit.fakes.kernel import Kernel, KernelError
from tests.unit.fakes.sysfs import MAJOR
from tests.unit.fakes.thin_pool import message, pool_status, thin_status

NO_DRIVER = """/dev/mapper/control: open failed: No such device
Failure to communicate with kernel device-mapper driver.
Check that device-mapper is available in the kernel.
Incompatible libdevmapper 1.02.185 (2022-05-18) and kernel driver (unknown version).
Command failed."""


class Options:
    """dmsetup's arguments. argparse would double the time that a fake program takes."""

    VALUED = ("--uuid", "--table", "--separator", "--options")

    def __init__(self, arguments: list[str]) -> None:
        self.name: list[str] = []
        self.uuid = self.table = self.separator = ""
        rest = iter(arguments)
        for argument in rest:
            if argument in self.VALUED:
                setattr(self, argument[2:], next(rest))
            elif not argument.startswith("--"):
                self.name.append(argument)
        self.readonly = "--readonly" in arguments
        self.notable = "--notable" in arguments


def create(kernel: Kernel, options: Options) -> None:
    kernel.create(options.name[0], options.uuid, None if options.notable else options.table, read_only=options.readonly)


def remove(kernel: Kernel, options: Options) -> None:
    kernel.remove(options.name[0])


def suspend(kernel: Kernel, options: Options) -> None:
    kernel.device(options.name[0])["suspended"] = True
    kernel.commit(options.name[0])


def resume(kernel: Kernel, options: Options) -> None:
    kernel.device(options.name[0])
    kernel.resume(options.name[0])


def load(kernel: Kernel, options: Options) -> None:
    kernel.device(options.name[0])
    kernel.load(options.name[0], options.table)


def clear(kernel: Kernel, options: Options) -> None:
    kernel.device(options.name[0])["next"] = None


def send(kernel: Kernel, options: Options) -> None:
    message(kernel, options.name[0], options.name[2])


def status(kernel: Kernel, options: Options) -> None:
    name = options.name[0]
    if name not in kernel.devices:
        raise SystemExit("Device does not exist.\nCommand failed.")
    fields = (kernel.devices[name]["table"] or "").split()
    said = {"thin-pool": pool_status, "thin": thin_status}.get(fields[2], lambda *_: "") if fields else None
    print(f"{' '.join(fields[:3])} {said(kernel, name)}" if said else "")


def table(kernel: Kernel, options: Options) -> None:
    print(kernel.device(options.name[0])["table"] or "")


def info(kernel: Kernel, options: Options) -> None:
    name = options.name[0]
    if name not in kernel.devices:
        raise SystemExit("Device does not exist.\nCommand failed.")
    device = kernel.devices[name]
    tables = [kind for kind, text in (("Live", device["table"]), ("Inactive", device["next"])) if text]
    print(f"{device['uuid']}{options.separator}{' & '.join(tables) or 'None'}")


def mknodes(kernel: Kernel, options: Options) -> None:
    if options.name[0] in kernel.devices:
        kernel.make_node(options.name[0])


def targets(kernel: Kernel, _: Options) -> None:
    for target in kernel.state["targets"]:
        print(f"{target:<16} v1.22.0")


def target_version(kernel: Kernel, options: Options) -> None:
    if not kernel.has_target(options.name[0]):
        raise KernelError(errno.EINVAL, "target-version")
    print(f"{options.name[0]:<16} v1.22.0")


VERBS: dict[str, Callable[[Kernel, Options], None]] = {
    "create": create,
    "remove": remove,
    "suspend": suspend,
    "resume": resume,
    "load": load,
    "clear": clear,
    "message": send,
    "status": status,
    "table": table,
    "info": info,
    "mknodes": mknodes,
    "targets": targets,
    "target-version": target_version,
}
IOCTLS = {"load": "reload"}


def called(root: str, arguments: list[str]) -> bool:
    """Do what the arguments say, as the ioctl does; whether udev is stuck. Raises ``KernelError``."""
    with Kernel.of(root) as kernel:
        if not kernel.state["driver"]:
            raise KernelError(errno.ENODEV)
        if arguments[0] != "create" and not {arguments[-1], arguments[1]} & set(kernel.devices):
            raise KernelError(errno.ENXIO)
        return obey(kernel, arguments)


def run(root: str, _: str, arguments: list[str]) -> None:
    """Do what the arguments say, or exit with 1 and dmsetup's words on standard error."""
    with Kernel.of(root) as kernel:
        if not kernel.state["driver"]:
            raise SystemExit(NO_DRIVER)
        try:
            is_stuck = obey(kernel, arguments)
        except KernelError as error:
            raise SystemExit(refusal(kernel, arguments[0], Options(arguments[1:]), error)) from None
    if is_stuck:
        time.sleep(3600)  # done, but the cookie never comes back


def obey(kernel: Kernel, arguments: list[str]) -> bool:
    """Do what the arguments say; whether the one that asked is to wait for ever."""
    fault = kernel.take_fault("dmsetup", arguments)
    if fault and fault["errno"]:
        raise KernelError(fault["errno"])
    VERBS[arguments[0]](kernel, Options(arguments[1:]))
    return bool(fault)


def refusal(kernel: Kernel, verb: str, options: Options, error: KernelError) -> str:
    name = options.name[0]
    ioctl = error.ioctl or IOCTLS.get(verb, verb)
    rest = options.uuid if ioctl == "create" else ""
    if verb == "create" and ioctl == "reload":
        rest = f"({MAJOR}:{len(kernel.devices)})"
    return f"device-mapper: {ioctl} ioctl on {name} {rest} failed: {os.strerror(error.number)}\nCommand failed."

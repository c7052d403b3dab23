#!/usr/bin/env python3
# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Unpack an image archive into an empty directory: the engine of flyd_unpack without Ansible, a device or a database.

Invariant: exactly one JSON object on standard output, nothing on standard error. Exit 0: the summary, with the image's
configuration. Exit 1: ``error_kind``, ``msg``, ``hint``, ``member``.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import re
import sys
from typing import Any, NoReturn

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../plugins"))

from module_utils._errors import BadInput, FlydError
from module_utils._host.files import from_os_error
from module_utils._host.isolation import own_mount_namespace
from module_utils._image.unpacking import DeviceNodes, Limits, Options, PlatformPolicy, open_family, open_image

_READ = os.O_RDONLY | os.O_NONBLOCK  # a FIFO must not make us wait; it is refused later


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise BadInput(message, hint=self.format_usage().strip())


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = _Parser(prog="unpack.py", description="Unpack the image in ARCHIVE into the empty directory DIR.")
    parser.add_argument("archive", metavar="ARCHIVE", help="an image archive, or a directory of layers")
    parser.add_argument("directory", metavar="DIR")
    parser.add_argument("--limits", default="", metavar="NAME=VALUE,...", help="bounds, such as entries=1000,depth=20")
    parser.add_argument("--image-name", default="", help="which of several images: a tag, or a position from 0")
    parser.add_argument(
        "--platform", default="", help="os/architecture[/variant]; default: this machine, or the archive's only image"
    )
    parser.add_argument("--device-nodes", default="create", choices=[choice.value for choice in DeviceNodes])
    parser.add_argument("--sha256", default="", help="the archive's digest in hex")
    parser.add_argument("--processes", type=int, default=0, help="how many write side by side; default: by CPUs")
    parser.add_argument("--spool", default="/var/tmp", help="directory for decompressed layers")
    return parser.parse_args(argv)


def unpack(argv: list[str]) -> dict[str, Any]:
    """Unpack as ``argv`` says; returns the result, raises ``FlydError``."""
    given = _arguments(argv)
    options = Options(
        limits=Limits.parse(given.limits),
        spool_directory=given.spool,
        image_name=given.image_name,
        platform=given.platform,
        platform_policy=PlatformPolicy.SOLE,  # nothing of the tree is run here
        device_nodes=DeviceNodes(given.device_nodes),
        expected_sha256=given.sha256,
        processes=given.processes,
        zstd=_zstd,
    )
    with contextlib.suppress(OSError):  # where that is not allowed, the changed root of the writer must do
        own_mount_namespace()
    with contextlib.ExitStack() as stack:
        root_fd = _opened(given.directory, os.O_RDONLY | os.O_DIRECTORY, "the directory", stack)
        if os.path.isdir(given.archive):
            names = sorted(os.listdir(given.archive), key=_natural)
            layers = [_opened(os.path.join(given.archive, name), _READ, "the layer", stack) for name in names]
            unpacking = stack.enter_context(open_family(layers, options))
        else:
            unpacking = stack.enter_context(open_image(_opened(given.archive, _READ, "the archive", stack), options))
        summary = unpacking.write_into(root_fd)
        return {**summary.to_json(), "config": unpacking.config.to_json()}


def _zstd(source: Any) -> Any:
    """The zstd program behind ``source``. What starts programs is loaded only for an archive that needs one."""
    from module_utils._host.command import Runner
    from module_utils._host.filter import zstd_program

    return zstd_program(Runner())(source)


def _natural(name: str) -> list[tuple[int, int, str]]:
    """A key that sorts 2.tar before 10.tar."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"([0-9]+)", name) if part]


def _opened(path: str, flags: int, what: str, stack: contextlib.ExitStack) -> int:
    try:
        fd = os.open(path, flags | os.O_CLOEXEC)
    except OSError as error:
        raise BadInput(f"{what} {path!r} cannot be opened: {error.strerror}", hint="check the path") from None
    stack.callback(os.close, fd)
    return fd


def _failure(error: FlydError) -> dict[str, Any]:
    details = {key: value for key, value in error.details.items() if key != "member"}
    return {
        "error_kind": error.kind.value,
        "msg": str(error),
        "hint": error.hint,
        "member": error.details.get("member", ""),
        **({"details": details} if details else {}),
    }


def main(argv: list[str]) -> int:
    """Print what ``unpack`` gave or why it failed; returns the exit code."""
    try:
        result = unpack(argv)
    except FlydError as error:
        print(json.dumps(_failure(error)))
        return 1
    except OSError as error:
        print(json.dumps(_failure(from_os_error(error, "unpacking"))))
        return 1
    except Exception:  # noqa: BLE001 - who drives this reads JSON, a defect of ours too
        import traceback

        shown = traceback.format_exc().strip().splitlines()
        print(json.dumps({"error_kind": "defect", "msg": shown[-1], "hint": " | ".join(shown), "member": ""}))
        return 1
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    gc.disable()  # nothing here makes garbage in circles, and a short process needs no collection
    status = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(status)  # taking the whole tree apart again, object by object, would only cost time

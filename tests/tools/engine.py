# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The work of unpack.py: its arguments, and the engine of flyd_unpack behind them.

Invariant: whatever cannot be done is a ``FlydError``; nothing is printed here.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
from typing import Any, NoReturn

from module_utils._errors import BadInput
from module_utils._host.confinement.isolation import own_mount_namespace
from module_utils._image.opening import DeviceNodes, Limits, Options, PlatformPolicy, open_family, open_image

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
    parser.add_argument(
        "--processes",
        type=int,
        default=0,
        choices=range(65),
        metavar="N",
        help="how many write side by side; default: by CPUs",
    )
    parser.add_argument("--manifest", default="", metavar="FILE", help="write the manifest of the tree to the new FILE")
    parser.add_argument(
        "--onto", default="", metavar="FILE", help="DIR has the tree of the manifest in FILE: apply the difference"
    )
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
    )
    with contextlib.suppress(OSError):  # where that is not allowed, the changed root of the writer must do
        own_mount_namespace()
    with contextlib.ExitStack() as stack:
        root_fd = _opened(given.directory, os.O_RDONLY | os.O_DIRECTORY, "the directory", stack)
        if given.manifest:
            new = os.O_RDWR | os.O_CREAT | os.O_EXCL
            options = options._replace(manifest_fd=_opened(given.manifest, new, "the manifest", stack))
        if given.onto:
            origin_fd = _opened(given.onto, _READ, "the manifest", stack)
            options = options._replace(origin_fd=origin_fd, is_sealed=True)
        if os.path.isdir(given.archive):
            names = sorted(os.listdir(given.archive), key=_natural)
            layers = [_opened(os.path.join(given.archive, name), _READ, "the layer", stack) for name in names]
            unpacking = stack.enter_context(open_family(layers, options))
        else:
            unpacking = stack.enter_context(open_image(_opened(given.archive, _READ, "the archive", stack), options))
        if given.onto and unpacking.origin is None:
            raise BadInput(f"the manifest {given.onto!r} is unfit: {unpacking.unfit_origin}", hint="leave --onto out")
        summary = (unpacking.write_onto if given.onto else unpacking.write_into)(root_fd)
        answer = {**summary.to_json(), "config": unpacking.config.to_json()}
        answer["missing_walls"] = answer.pop("missing_isolation")  # as the programs that drive this know it
        return answer


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

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one place that starts a program.

Invariant: argv only, an environment made from scratch, no standard input unless given, a time limit, its own session, killed
whole; a child never outlives us, because the kernel kills it with its parent. Only the programs of ``Program`` can be named.
"""

from __future__ import annotations

import enum
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from ..._errors import CommandFailed, Unsupported
from ..._names import printable
from .death_signal import die_with_parent
from .output import ends_of_output

SEARCH_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
_ENVIRONMENT = {"LC_ALL": "C", "PATH": os.pathsep.join(SEARCH_PATH)}
_REAP_SECONDS = 5.0
_MAX_OUTPUT_SHOWN = 600


class Program(str, enum.Enum):
    """Every program of the host that may be run, with the Debian package that provides it."""

    package: str

    def __new__(cls, name: str, package: str) -> Program:
        member = str.__new__(cls, name)
        member._value_ = name
        member.package = package
        return member

    LOSETUP = ("losetup", "mount")
    DMSETUP = ("dmsetup", "dmsetup")
    MKFS_EXT4 = ("mkfs.ext4", "e2fsprogs")
    E2FSCK = ("e2fsck", "e2fsprogs")
    RESIZE2FS = ("resize2fs", "e2fsprogs")
    BLKID = ("blkid", "util-linux")
    BLKDISCARD = ("blkdiscard", "util-linux")
    UDEVADM = ("udevadm", "udev")
    THIN_CHECK = ("thin_check", "thin-provisioning-tools")
    THIN_DUMP = ("thin_dump", "thin-provisioning-tools")
    THIN_REPAIR = ("thin_repair", "thin-provisioning-tools")
    SYSTEMCTL = ("systemctl", "systemd")
    SYSTEMD_RUN = ("systemd-run", "systemd")


class CommandLine(str):
    """The command line of a program as text; ``argv`` has its words."""

    argv: tuple[str, ...]

    def __new__(cls, *argv: str) -> CommandLine:
        """Join the words, the program's name first."""
        line = super().__new__(cls, " ".join(argv))
        line.argv = argv
        return line


class Completed(NamedTuple):
    """The result of a program: its exit code, its output as text, and how long it took."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str
    seconds: float


class Runner:
    """Starts programs and remembers what it ran (``ran``, argv lines in order: the ``actions`` of a result)."""

    def __init__(self, timeout_seconds: float = 60.0, search: tuple[str, ...] = SEARCH_PATH) -> None:
        self.timeout_seconds = timeout_seconds
        self.search = search
        self.ran: list[CommandLine] = []

    def find(self, program: Program) -> str:
        """The program's path; raises ``Unsupported`` that names its package."""
        path = shutil.which(str(program.value), path=os.pathsep.join(self.search))
        if path is None:
            raise Unsupported(
                f"the program {program.value} is not installed",
                hint=f"install the package {program.package}, or run the role flyd.lite.prepare on this host",
                program=program.value,
            )
        return path

    def require(self, *programs: Program) -> None:
        """Raise ``Unsupported`` unless all of them are there: before the first effect of what needs them."""
        for program in programs:
            self.find(program)

    def run(
        self,
        program: Program,
        *args: str,
        stdin: str = "",
        accept: tuple[int, ...] = (0,),
        timeout_seconds: float | None = None,
    ) -> Completed:
        """Run ``program`` to its end; raises ``CommandFailed`` for an exit code outside ``accept`` or when time is up."""
        argv = (self.find(program), *args)
        limit = self.timeout_seconds if timeout_seconds is None else timeout_seconds
        self.ran.append(CommandLine(program.value, *args))
        done = _run(argv, stdin, limit)
        if done.returncode not in accept:
            said = (done.stderr.strip() or done.stdout.strip())[-_MAX_OUTPUT_SHOWN:]
            raise CommandFailed(
                f"`{printable(self.ran[-1])}` ended with {done.returncode}: {printable(said, _MAX_OUTPUT_SHOWN)}",
                hint="read what the program said; `dmesg` often has the kernel's side of it",
                program=program.value,
                returncode=done.returncode,
                stderr=said,
            )
        return done


def _run(argv: tuple[str, ...], stdin: str, limit: float) -> Completed:
    return run_argv(argv, stdin, limit)


def run_argv(
    argv: tuple[str, ...],
    stdin: str,
    limit: float,
    environment: Mapping[str, str] = MappingProxyType({}),
    *,
    most_bytes: int = 0,
) -> Completed:
    """Run ``argv``, whose first word is a path, to its end; only for ``Runner`` and the gate of the operator's programs (hook.py).

    ``environment`` is added to the one made from scratch. With ``most_bytes``, only so much of the end of each output is kept, and processes
    that the program leaves behind are not waited for. Raises ``CommandFailed`` when it has not ended after ``limit`` seconds.
    """
    begun = time.monotonic()
    child = _started(argv, environment, has_stdin=bool(stdin))
    try:
        if most_bytes and child.stdout and child.stderr:
            pipes = child.stdout, child.stderr
            out, err = ends_of_output(pipes, lambda: child.poll() is not None, limit, most_bytes)
        else:
            out, err = child.communicate(stdin.encode() if stdin else None, timeout=limit)
    except (subprocess.TimeoutExpired, TimeoutError):
        _kill_session(child)
        what = f"`{printable(' '.join(argv))}`"
        raise CommandFailed.late(what, limit, "and was killed", program=os.path.basename(argv[0])) from None
    except BaseException:
        _kill_session(child)
        raise
    return Completed(
        argv, child.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"), time.monotonic() - begun
    )


def _started(argv: tuple[str, ...], environment: Mapping[str, str], *, has_stdin: bool) -> subprocess.Popen[bytes]:
    # No `with`: leaving it would wait without limit for a child that hangs in the kernel.
    # pylint: disable-next=ansible-bad-function  # as above, and run_command has no time limit
    return subprocess.Popen(  # noqa: S603 - argv only, and only programs of the enum
        argv,
        stdin=subprocess.PIPE if has_stdin else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**_ENVIRONMENT, **environment},
        cwd="/",
        start_new_session=True,
        close_fds=True,
        preexec_fn=die_with_parent(),
    )


def _kill_session(child: subprocess.Popen[bytes]) -> None:
    for pipe in (child.stdin, child.stdout, child.stderr):
        if pipe is not None:
            pipe.close()
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    try:
        child.wait(_REAP_SECONDS)
    except subprocess.TimeoutExpired:
        raise CommandFailed(
            f"process {child.pid} ({os.path.basename(str(child.args))}) cannot be killed: it hangs in the kernel",
            hint=f"see `cat /proc/{child.pid}/stack` and `dmesg`; the storage below must answer first",
            pid=child.pid,
        ) from None

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the process that reads an image may do: tried from inside while it reads, and looked up in /proc."""

from __future__ import annotations

import codecs
import ctypes
import errno
import importlib
import json
import os
import signal
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from module_utils._errors import BadInput
from module_utils._image.opening import open_family
from module_utils._image.pipeline import unpacking
from module_utils._image.writing.sandbox import DIRECTORY, NEW_FILE
from tests.unit._image.unpacked import Playground, needs_root, options
from tests.unit.builders import tar
from tests.unit.support.system_calls import CALLS, NEEDED, OldEntry, needs_x86_64, tried

pytestmark = needs_root

LAYER = tar.tar(tar.file(b"f", b"x"))
WRITERS = sum(1 << number for number in (0, 1, 3, 4, 27, 31))  # chown, dac_override, fowner, fsetid, mknod, setfcap
SYS_CHROOT = 1 << 18
# What the reader takes to have threads and children, and to talk to the module: of these it is refused what is tried below.
ALLOWED = {
    *("fork", "clone", "setsid", "set_robust_list", "pipe2", "sendto", "recvmsg"),
    *("prctl", "rseq", "setrlimit", "capset", "chroot", "fchdir"),
}
CLONE, SIGHAND = 56, 0x800  # without CLONE_VM that is EINVAL where clone is allowed
NOBODYS_PID = 0x3FFFFFFF
# As in ``CALLS``: where one is allowed, it does nothing.
MORE: dict[str, tuple[int, tuple[int, ...]]] = {
    **{
        f"clone with {name}": (CLONE, (flag | SIGHAND | signal.SIGCHLD, 0, 0, 0, 0))
        for name, flag in {
            "a mount namespace": 0x00020000,
            "a cgroup namespace": 0x02000000,
            "a uts namespace": 0x04000000,
            "an ipc namespace": 0x08000000,
            "a user namespace": 0x10000000,
            "a pid namespace": 0x20000000,
            "a net namespace": 0x40000000,
            "a tracer": 0x00002000,
            "the parent as parent": 0x00008000,
            "a pidfd": 0x00001000,
        }.items()
    },
    "kill softly": (62, (NOBODYS_PID, signal.SIGTERM)),
    "prctl: memory map": (157, (35, 0, 0, 0, 0)),
    "prctl: who may trace": (157, (0x59616D61, -1, 0, 0, 0)),
    "prctl: keep capabilities": (157, (8, 1, 0, 0, 0)),
    "prctl: reaper": (157, (36, 1, 0, 0, 0)),
    "prlimit64 of a child": (302, (2, 7, 0, 0)),
    "dup": (32, (0,)),
    "dup2 elsewhere": (33, (0, 9)),
    "dup3 elsewhere": (292, (0, 9, 0)),
    "fcntl that duplicates": (72, (0, 0, 9)),
    "fcntl that changes flags": (72, (0, 4, 0)),
    "socket of netlink": (41, (16, 3, 0)),
    "listen": (50, (-1, 0)),
    "accept": (43, (-1, 0, 0)),
    "open a file that is there": (257, (-100, 0, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0)),
    "open a nameless file": (257, (-100, 0, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0)),
}


def inside(directory: Path, monkeypatch: pytest.MonkeyPatch, look: Callable[[], object]) -> Any:
    """What ``look`` finds in a reader that has read an image and is about to plan it."""

    def told(*_given: object) -> NoReturn:
        raise BadInput("", hint="", found=json.dumps(look()))

    monkeypatch.setattr(unpacking, "make_plan", told)
    (directory / "layer").write_bytes(LAYER)
    fd = os.open(directory / "layer", os.O_RDONLY)
    with pytest.raises(BadInput) as caught, open_family([fd], options(directory)):
        pass
    os.close(fd)
    return json.loads(str(caught.value.details["found"]))


@needs_x86_64
def test_each_class_of_call_is_refused_to_the_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [*(name for name in CALLS if name not in ALLOWED), *MORE]
    monkeypatch.setattr("tests.unit.support.system_calls.CALLS", {**CALLS, **MORE})
    answers = inside(tmp_path, monkeypatch, lambda: {name: tried(name) for name in names})
    assert answers == dict.fromkeys(names, "EPERM")


@needs_x86_64
def test_the_other_entries_are_refused_to_the_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = OldEntry()
    getpid_32, kill_32, there = 20, 37, OldEntry()(20) == os.getpid()

    def look() -> list[object]:
        x32 = [tried(name, x32=True) for name in ("getpid", "read", "execve", "kill init", "socket", "fork")]
        return [x32, tried("clone3"), *([entry(getpid_32), entry(kill_32, 1)] if there else [])]

    x32, clone3, *old = inside(tmp_path, monkeypatch, look)
    assert x32 == ["EPERM"] * 6
    assert clone3 == "ENOSYS"
    assert old == ([-errno.EPERM] * 2 if there else [])
    assert NEEDED


def test_a_thread_of_the_reader_may_end_by_pthread_exit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As every thread does that Python 3.9 has started: glibc loads a library for it, and aborts when it cannot."""

    def look() -> bool:
        libc = ctypes.CDLL(None)
        ended = threading.Event()

        def end() -> None:
            ended.set()
            libc.pthread_exit(None)

        threading.Thread(target=end, daemon=True).start()
        ended.wait(10)
        time.sleep(0.5)
        return True

    assert inside(tmp_path, monkeypatch, look)


def attempted(attempt: Callable[[], object]) -> str:
    """The name of the error with which ``attempt`` ends."""
    try:
        attempt()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "done"


def test_the_reader_has_no_files_but_what_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of the host")

    def look() -> dict[str, object]:
        root = os.open("/", DIRECTORY)
        above = os.open("..", DIRECTORY, dir_fd=root)
        return {
            "a file of the host": attempted(secret.read_text),
            "its name": attempted(lambda: os.lstat(secret)),
            "the root, listed": attempted(lambda: os.listdir("/")),
            "/proc": attempted(lambda: os.lstat("/proc")),
            "/dev": attempted(lambda: os.lstat("/dev/null")),
            "above the root": [os.fstat(above).st_ino == os.fstat(root).st_ino, os.fstat(root).st_nlink],
            "a new file": attempted(lambda: os.open("/new", NEW_FILE)),
            "a new directory": attempted(lambda: os.mkdir("new", dir_fd=root)),
            "a new device": attempted(lambda: os.mknod("new", stat.S_IFBLK | 0o600, os.makedev(7, 0), dir_fd=root)),
            "a program": attempted(lambda: os.execv("/bin/true", ["true"])),  # noqa: S606 - what is tried
        }

    assert inside(tmp_path, monkeypatch, look) == {
        "a file of the host": "EPERM",
        "its name": "ENOENT",
        "the root, listed": "EPERM",
        "/proc": "ENOENT",
        "/dev": "ENOENT",
        "above the root": [True, 2],
        "a new file": "EROFS",
        "a new directory": "EROFS",
        "a new device": "EROFS",
        "a program": "EPERM",
    }


def test_the_reader_loads_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def look() -> str:
        for attempt in (lambda: importlib.import_module("colorsys"), lambda: codecs.lookup("koi8_t")):
            with pytest.raises((ImportError, LookupError, ImportWarning)):
                attempt()
        return "refused"

    assert inside(tmp_path, monkeypatch, look) == "refused"


def test_the_reader_sees_no_process_of_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def look() -> list[object]:
        return [os.getpid(), os.getppid(), attempted(lambda: os.kill(host, signal.SIGKILL))]

    host = os.getpid()
    assert inside(tmp_path, monkeypatch, look) == [1, 0, "ESRCH"]


def test_what_the_reader_starts_ends_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def look() -> int:
        read_end, write_end = os.pipe()
        if os.fork() == 0:
            os.setsid()
            os.write(write_end, b".")
            while True:
                time.sleep(1)
        return len(os.read(read_end, 1))

    before = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    assert (
        inside(tmp_path, monkeypatch, look) == 1
    )  # it would wait for the end of what writes to the pipe of the answer
    assert Path(f"/proc/self/task/{os.getpid()}/children").read_text() == before


def test_the_reader_seen_from_outside(tmp_path: Path) -> None:
    (tmp_path / "layer").write_bytes(LAYER)
    with open(tmp_path / "layer", "rb") as layer, open_family([layer.fileno()], options(tmp_path)) as image:
        pid = image.child._helper.pid
        rows = (line.partition(":\t") for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        seen = {name: value for name, _colon, value in rows}
        held = sorted(os.readlink(f"/proc/{pid}/fd/{fd}").partition(":")[0] for fd in os.listdir(f"/proc/{pid}/fd"))
        mounts = Path(f"/proc/{pid}/mounts").read_text().splitlines()
        for name in ("pid", "ipc", "net", "uts", "cgroup", "mnt"):
            assert os.readlink(f"/proc/{pid}/ns/{name}") != os.readlink(f"/proc/self/ns/{name}"), name
    ours = int(Path("/proc/self/status").read_text().partition("CapPrm:\t")[2].split()[0], 16)
    assert int(seen["CapPrm"], 16) == int(seen["CapEff"], 16) == (WRITERS | SYS_CHROOT) & ours
    assert int(seen["CapBnd"], 16) & ~WRITERS == int(seen["CapInh"], 16) == int(seen["CapAmb"], 16) == 0
    assert (seen["NoNewPrivs"], seen["Seccomp"]) == ("1", "2")
    assert len(mounts) == 1
    # Input and output, its size, the layer; errors and the answer; the line to the module.
    wanted = ["/dev/null", "/dev/null", f"/proc/{pid}/statm", str(tmp_path / "layer"), "pipe", "pipe", "socket"]
    assert held == sorted(wanted)


def test_a_reader_without_its_own_namespaces_can_signal_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("module_utils._host.confinement.isolation._unshare", lambda _flags: False)
    victim = os.getpid()
    assert inside(tmp_path, monkeypatch, lambda: attempted(lambda: os.kill(victim, signal.SIGKILL))) == "EPERM"


def test_a_host_that_forbids_namespaces_has_its_tree_all_the_same(
    playground: Playground, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("module_utils._host.confinement.isolation._unshare", lambda _flags: False)
    large = tar.tar(*(tar.file(b"f%d" % at, bytes(4096)) for at in range(600)))
    done = playground.unpack(form, [large], processes=2)
    assert (done.summary.entries, done.summary.missing_isolation) == (
        600,
        ["cgroup", "ipc", "net", "pid", "root", "uts"],
    )

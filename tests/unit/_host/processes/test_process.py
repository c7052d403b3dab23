"""Who a process is, beyond its pid."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from module_utils._host.processes import process
from module_utils._host.processes.child import in_child
from module_utils._host.processes.process import Identity, boot_id, command_line, descendants_activity, own_identity


def start(*argv: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def identity_of(pid: int) -> Identity:
    """What ``own_identity`` would say in process ``pid``."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        return Identity(boot_id(), pid, int(file.read().rpartition(b")")[2].split()[19]))


def test_this_process_lives() -> None:
    me = own_identity()
    assert me.pid == os.getpid()
    assert me.is_alive()
    assert str(me) == f"process {os.getpid()}"


def test_another_boot_is_another_process() -> None:
    assert not own_identity()._replace(boot_id="00000000-0000-0000-0000-000000000000").is_alive()


def test_a_pid_that_was_given_away_again_is_another_process() -> None:
    me = own_identity()
    assert not me._replace(started=me.started - 1).is_alive()


def test_a_process_that_has_ended_is_not_alive() -> None:
    child = start("cat")
    identity = identity_of(child.pid)
    assert identity.is_alive()
    child.communicate()
    assert not identity.is_alive()


def test_a_process_that_cannot_be_looked_at_is_not_taken_for_one_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    me, real = own_identity(), open

    def fail(path: str, *arguments: Any, **options: Any) -> Any:
        if path.endswith("/stat"):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), path)
        return real(path, *arguments, **options)

    monkeypatch.setattr(process, "open", fail, raising=False)
    with pytest.raises(OSError, match="Too many open files"):
        me.is_alive()


def test_a_zombie_is_not_alive() -> None:
    child = start("cat")
    identity = identity_of(child.pid)
    child.kill()
    until = time.monotonic() + 10
    while identity.is_alive():
        assert time.monotonic() < until
        time.sleep(0.01)
    assert os.path.exists(f"/proc/{child.pid}"), "it is still listed, for nobody has waited for it"
    child.communicate()


def test_a_name_with_parentheses_does_not_deceive() -> None:
    code = "import ctypes; ctypes.CDLL(None).prctl(15, b'a) R 1 (b', 0, 0, 0); print('ready', flush=True); input()"
    child = start(sys.executable, "-c", code)
    assert child.stdout
    child.stdout.readline()
    with open(f"/proc/{child.pid}/comm") as file:
        assert file.read() == "a) R 1 (b\n"
    assert identity_of(child.pid).is_alive()
    child.communicate(b"\n")


def test_the_command_line_is_for_messages() -> None:
    child = start("cat", "-")
    until = time.monotonic() + 10
    while command_line(child.pid) != "cat -":
        assert time.monotonic() < until
        time.sleep(0.01)
    child.communicate()
    assert command_line(child.pid) == ""


def test_what_descendants_do_can_be_seen_and_what_the_process_itself_does_is_left_out(tmp_path: Path) -> None:
    def look() -> list[bool]:
        before = descendants_activity(os.getpid())
        (tmp_path / "file").write_text("x")
        at_rest = descendants_activity(os.getpid()) == before
        with subprocess.Popen(["sh", "-c", "head -c 10 /dev/zero > file; read line"], cwd=tmp_path, stdin=-1) as child:
            until = time.monotonic() + 20
            while descendants_activity(os.getpid()) == before and time.monotonic() < until:
                pass
            seen = descendants_activity(os.getpid()) > before
            child.communicate(b"\n")
        return [at_rest, seen]

    # In a process that has no other children.
    assert in_child(look, what="looking") == [True, True]

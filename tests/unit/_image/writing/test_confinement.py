"""What the process that writes the tree may do: looked up in /proc while it works, and tried from inside."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from module_utils._host.confinement import isolation
from module_utils._host.processes.child import in_child
from module_utils._image.limits import Limits
from module_utils._image.pipeline import sandbox as reader_sandbox
from module_utils._image.writing import sandbox as containment
from module_utils._image.writing.sandbox import NEW_FILE, contain
from tests.unit._image.unpacked import Playground, needs_root
from tests.unit.builders import images, tar
from tests.unit.support.processes import runs
from tests.unit.support.system_calls import CALLS, needs_x86_64, tried

pytestmark = needs_root

TOOL = Path(__file__).parents[3] / "tools" / "unpack.py"
NEEDED = sum(1 << number for number in (0, 1, 3, 4, 27, 31))  # chown, dac_override, fowner, fsetid, mknod, setfcap
MANY = tar.tar(*(tar.file(b"d%d/f%d" % (at % 50, at), b"x") for at in range(20_000)))


def children(pid: int) -> list[int]:
    """The children of process ``pid``."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def descendants(pid: int) -> Iterator[int]:
    """The children of process ``pid``, theirs, and so on."""
    for child in children(pid):
        yield child
        yield from descendants(child)


def is_contained(pid: int) -> bool:
    """Whether the process has another root than we have, and no way back."""
    try:
        is_inside = os.readlink(f"/proc/{pid}/root") != "/" and field(pid, "Seccomp") == "2"
        return is_inside and field(pid, "CapEff") == f"{NEEDED & our_capabilities():016x}"
    except OSError:
        return False


def our_capabilities() -> int:
    """What we are permitted: in a container some may be missing."""
    return int(field(os.getpid(), "CapPrm"), 16)


def field(pid: int, name: str) -> str:
    """One field of /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split(":", 1)[1].strip() for line in lines if line.startswith(f"{name}:"))


@pytest.fixture
def tool(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """unpack.py at work on an archive that takes it a while."""
    (tmp_path / "image.tar").write_bytes(images.docker_archive([MANY]))
    (tmp_path / "tree").mkdir()
    command = [sys.executable, str(TOOL), f"{tmp_path}/image.tar", f"{tmp_path}/tree", "--processes", "2"]
    with open(TOOL) as held:  # as a module holds its database: the writers must not
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=(held.fileno(),))
    yield process
    for pid in [
        *descendants(process.pid),
        process.pid,
    ]:  # one that is stopped may not have asked to die with its parent yet
        with contextlib.suppress(ProcessLookupError):  # the reader takes all that it has started with it
            os.kill(pid, signal.SIGKILL)
    process.communicate()


def stopped_writers(tool: subprocess.Popen[bytes]) -> list[int]:
    """The processes that write, stopped while they do: the child, and one more at least."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if len(found := [pid for pid in descendants(tool.pid) if is_contained(pid)]) >= 2:
            for pid in found:
                os.kill(pid, signal.SIGSTOP)
            return found
    raise AssertionError("the writers were not seen at work")


def test_the_writers_have_little_and_cannot_get_more(tool: subprocess.Popen[bytes]) -> None:
    for pid in stopped_writers(tool):
        assert field(pid, "NoNewPrivs") == "1"
        assert field(pid, "Seccomp") == "2"
        for name in ("CapPrm", "CapEff", "CapBnd"):
            assert int(field(pid, name), 16) & ~NEEDED == 0, name
        assert int(field(pid, "CapInh"), 16) == int(field(pid, "CapAmb"), 16) == 0
        for name in ("mnt", "pid", "ipc", "net", "uts", "cgroup"):
            assert os.readlink(f"/proc/{pid}/ns/{name}") != os.readlink(f"/proc/self/ns/{name}"), name
        assert os.readlink(f"/proc/{pid}/root").endswith("/tree")
        assert os.readlink(f"/proc/{pid}/cwd").endswith("/tree")


def test_the_writers_hold_nothing_open_but_the_archive_the_tree_and_pipes(tool: subprocess.Popen[bytes]) -> None:
    for pid in stopped_writers(tool):
        held = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd") if int(fd) > 2]
        outside = [name for name in held if "/tree" not in name and not name.startswith("pipe:")]
        assert [Path(name).name for name in outside] == ["image.tar"]


def test_the_writers_are_limited(tool: subprocess.Popen[bytes]) -> None:
    for pid in stopped_writers(tool):
        lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
        limits = {line[:26].strip(): line[26:].split()[:2] for line in lines}
        assert limits["Max core file size"] == limits["Max locked memory"] == ["0", "0"]
        assert limits["Max open files"] == ["256", "256"]
        assert limits["Max file size"] == [str(Limits().file_bytes)] * 2
        assert limits["Max cpu time"][1] == str(Limits().seconds + 10)
        assert int(limits["Max address space"][1]) < 1 << 30


@pytest.mark.parametrize("deadly", [signal.SIGKILL, signal.SIGTERM])
def test_the_writers_die_with_the_one_who_wanted_them(tool: subprocess.Popen[bytes], deadly: signal.Signals) -> None:
    writers = stopped_writers(tool)
    for pid in writers:
        os.kill(pid, signal.SIGCONT)
    tool.send_signal(deadly)
    until = time.monotonic() + 20
    while any(runs(str(pid)) for pid in writers) and time.monotonic() < until:
        time.sleep(0.01)
    assert not any(runs(str(pid)) for pid in writers)


def tried_inside(root: Path, attempt: Callable[[], object]) -> str:
    """What became of ``attempt`` in a contained process."""
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)

    def work() -> str:
        contain(fd, Limits())
        try:
            attempt()
        except OSError as error:
            return str(error.strerror)
        return "done"

    try:
        return str(in_child(work, what="the test"))
    finally:
        os.close(fd)


def start_a_program() -> None:
    os.execv("/program", ["/program"])  # noqa: S606 - what is tried


def ask_the_network() -> None:
    socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)


def mount_something() -> None:
    from module_utils._host.confinement.isolation import mount

    mount("none", "/", "tmpfs", 0)


def change_the_root_again() -> None:
    os.mkdir("/inner")
    os.chroot("/inner")


def raise_a_limit() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def write_beyond_the_limit() -> None:
    os.ftruncate(os.open("large", NEW_FILE), Limits().file_bytes + 1)


def open_a_device_of_the_image() -> None:
    os.mknod("/disk", stat.S_IFBLK | 0o600, os.makedev(7, 0))
    os.open("/disk", os.O_RDONLY)


def open_what_was_made_before() -> None:
    os.open("program", NEW_FILE & ~os.O_EXCL)


def end_a_process_of_the_host() -> None:
    os.kill(os.getppid() or 1, signal.SIGKILL)


def fork() -> None:
    os.fork()


FORBIDDEN: dict[Callable[[], object], str] = {
    start_a_program: "Operation not permitted",
    ask_the_network: "Operation not permitted",
    mount_something: "Operation not permitted",
    change_the_root_again: "Operation not permitted",
    write_beyond_the_limit: "File too large",
    open_a_device_of_the_image: "Operation not permitted",
    open_what_was_made_before: "Operation not permitted",
    end_a_process_of_the_host: "Operation not permitted",
    fork: "Operation not permitted",
}


@pytest.mark.parametrize("attempt", FORBIDDEN)
def test_from_inside_it_is_refused_to(tmp_path: Path, attempt: Callable[[], object]) -> None:
    program = tmp_path / "program"
    program.write_bytes(Path("/bin/true").read_bytes())
    program.chmod(0o755)
    assert tried_inside(tmp_path, attempt) == FORBIDDEN[attempt]


def test_from_inside_a_limit_cannot_be_raised(tmp_path: Path) -> None:
    with pytest.raises(
        Exception, match="without an answer"
    ):  # Python calls it a ValueError, which is no answer of the collection
        tried_inside(tmp_path, raise_a_limit)


def test_from_inside_the_database_of_users_cannot_be_read(tmp_path: Path) -> None:
    assert tried_inside(tmp_path, lambda: Path("/etc/passwd").read_text()) == "Operation not permitted"


@needs_x86_64
def test_each_class_of_call_is_refused_to_the_writer(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        answers = in_child(
            lambda: [contain(fd, Limits()), {name: tried(name) for name in CALLS}], what="it", apart=True
        )
    finally:
        os.close(fd)
    assert answers == [[], dict.fromkeys(CALLS, "EPERM")]


def test_a_writer_that_has_its_own_namespaces_can_name_no_process_of_the_host(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    victim = subprocess.Popen(["sleep", "100"])

    def work() -> list[object]:
        missing = contain(fd, Limits())
        try:
            os.kill(victim.pid, signal.SIGKILL)
        except ProcessLookupError:
            return [missing, os.getpid(), "not there"]
        return [missing, os.getpid(), "killed"]

    try:
        assert in_child(work, what="the test", apart=True) == [[], 1, "not there"]
        assert victim.poll() is None
    finally:
        os.close(fd)
        victim.kill()
        victim.wait()


def test_without_namespaces_no_process_can_be_signalled_at_all_and_that_they_are_missing_is_said(
    tmp_path: Path,
) -> None:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        missing = in_child(lambda: contain(fd, Limits()), what="the test")
    finally:
        os.close(fd)
    assert missing == ["pid", "cgroup", "uts", "ipc", "net"]
    assert tried_inside(tmp_path, end_a_process_of_the_host) == "Operation not permitted"


def test_unpacking_works_where_no_namespace_and_no_filter_can_be_had_and_says_so(
    playground: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, "_unshare", lambda _flags: False)
    for walls in (containment, reader_sandbox):
        monkeypatch.setattr(walls, "allow_only", lambda _calls: False)
    layer = tar.tar(*(tar.file(b"f%d" % at, b"x") for at in range(600)))
    done = playground.unpack("docker", [layer], processes=2)
    assert done.summary.missing_isolation == ["cgroup", "ipc", "net", "pid", "root", "system_calls", "uts"]
    assert done.summary.entries == 600


def test_where_all_walls_stand_none_is_named(playground: Playground) -> None:
    assert playground.unpack("docker", [tar.tar(tar.file(b"f"))]).summary.missing_isolation == []

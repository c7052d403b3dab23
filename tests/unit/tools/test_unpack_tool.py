"""tests/tools/unpack.py as other programs drive it: one JSON object, exit codes, silence."""

from __future__ import annotations

import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.tools.tree import differences, rows_of_directory
from tests.unit._image.unpacked import needs_root
from tests.unit.builders import images, tar

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
LAYER = tar.tar(tar.directory(b"etc"), tar.file(b"etc/motd", b"hello\n", uid=7))


TOOL = ROOT / "tests" / "tools" / "unpack.py"


def run(*arguments: object) -> tuple[int, dict[str, Any]]:
    """The tool's exit code and its answer; it must say nothing on standard error."""
    command = [sys.executable, str(TOOL), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, cwd="/", timeout=100)
    return the_answer(done.returncode, done.stdout, done.stderr)


def the_answer(code: int, said: bytes, complained: bytes) -> tuple[int, dict[str, Any]]:
    """What the tool said, held to its contract."""
    assert complained == b""
    assert said.count(b"\n") == 1
    answer: dict[str, Any] = json.loads(said)
    assert code in (0, 1)
    if code:
        assert {"error_kind", "msg", "hint", "member"} <= answer.keys()
        assert answer["error_kind"] != "internal"
        assert "Traceback" not in answer["msg"] + answer["hint"]
    return code, answer


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A docker archive."""
    (tmp_path / "image.tar").write_bytes(images.docker_archive([LAYER]))
    return tmp_path / "image.tar"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """An empty directory."""
    (tmp_path / "target").mkdir(mode=0o755)
    return tmp_path / "target"


@needs_root
def test_an_archive_is_unpacked_and_summed_up(archive: Path, target: Path) -> None:
    code, answer = run(archive, target, "--spool", target.parent)
    assert code == 0
    assert (answer["layout"], answer["entries"], answer["bytes"], answer["layers"]) == ("docker", 2, 6, 1)
    assert answer["config"]["Cmd"] == ["/bin/sh"]
    assert rows_of_directory(target)["/etc/motd"][3] == "7"


@needs_root
def test_a_directory_of_layers_is_a_family_in_natural_order(tmp_path: Path, target: Path) -> None:
    (tmp_path / "family").mkdir()
    for number in (1, 2, 10):
        layer = tar.tar(tar.file(b"last", b"%d" % number))
        (tmp_path / "family" / f"{number}.tar").write_bytes(gzip.compress(layer) if number == 2 else layer)
    code, answer = run(f"{tmp_path}/family/", target)
    assert (code, answer["layout"], answer["layers"]) == (0, "family", 3)
    assert (target / "last").read_bytes() == b"10"


@pytest.mark.parametrize(
    ("arguments", "kind", "text"),
    [
        (["--limits", "entries=1"], "untrusted", "limit entries is 1, and the archive needs 2"),
        (["--limits", "nonsense=1"], "bad_input", "no limit named"),
        (["--image-name", "other"], "bad_input", "no image"),
        (["--platform", "linux"], "bad_input", "platform"),
        (["--sha256", "0" * 64], "untrusted", "digest"),
        (["--device-nodes", "maybe"], "bad_input", "invalid choice"),
        (["--no-such-option"], "bad_input", "unrecognized"),
        (["--processes", "many"], "bad_input", "invalid int"),
        (["--processes", "-1"], "bad_input", "invalid choice"),
        (["--processes", "65"], "bad_input", "invalid choice"),
        (["--limits", "entries=1e9"], "bad_input", "limit entries"),
        (["--limits", "entries=99999999999999999999"], "bad_input", "limit entries"),
        (["--sha256", "x"], "bad_input", "checksum"),
        (["one too many"], "bad_input", "unrecognized"),
    ],
)
def test_a_failure_is_one_object_too(archive: Path, target: Path, arguments: list[str], kind: str, text: str) -> None:
    code, answer = run(archive, target, *arguments)
    assert (code, answer["error_kind"]) == (1, kind)
    assert text in answer["msg"]
    assert answer["hint"]
    assert list(target.iterdir()) == []


def test_the_member_is_named_escaped(tmp_path: Path, target: Path) -> None:
    (tmp_path / "image.tar").write_bytes(images.docker_archive([tar.tar(tar.file(b"\x1b[2J/../x"))]))
    code, answer = run(tmp_path / "image.tar", target)
    assert (code, answer["error_kind"], answer["member"]) == (1, "untrusted", "\\x1b[2J/../x")


def test_paths_that_cannot_be_used_are_bad_input(archive: Path, target: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "empty").mkdir()
    (tmp_path / "nested" / "inner").mkdir(parents=True)
    (tmp_path / "loop").symlink_to("loop")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        for name in ("missing", "fifo", "empty", "nested", "loop", "socket", "n" * 300, "image.tar/below"):
            code, answer = run(tmp_path / name, target)
            assert (code, answer["error_kind"]) == (1, "bad_input"), name
    for path in ("/dev/null", "/dev/zero", "/dev/full", ""):
        assert run(path, target)[1]["error_kind"] == "bad_input", path
    for place in (tmp_path / "missing", tmp_path / "fifo", archive, "/dev/null", ""):
        assert run(archive, place)[1]["error_kind"] == "bad_input", place
    (target / "there").touch()
    assert run(archive, target)[1]["error_kind"] == "bad_input"


def test_arguments_that_are_no_text_are_arguments(tmp_path: Path, target: Path) -> None:
    code, answer = run_raw([os.fsencode(tmp_path) + b"/\xff\xfe\n", os.fsencode(target)])
    assert (code, answer["error_kind"]) == (1, "bad_input")


def run_raw(arguments: list[bytes], **given: Any) -> tuple[int, dict[str, Any]]:
    """Like ``run``, for arguments of any bytes and other settings of the process."""
    command = [os.fsencode(sys.executable), os.fsencode(TOOL), *arguments]
    done = subprocess.run(command, capture_output=True, timeout=100, **given)
    return the_answer(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("redirection", ["1>&-", "1>/dev/full", "0<&- 1>&- 2>&-", "1</dev/null"])
def test_an_answer_that_cannot_be_delivered_is_a_failure_without_output(
    archive: Path, target: Path, redirection: str
) -> None:
    before = archive.read_bytes()
    script = f'"$0" "$@" {redirection}'
    done = subprocess.run(["sh", "-c", script, sys.executable, TOOL, archive, target], capture_output=True, timeout=100)
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")
    assert archive.read_bytes() == before


def test_a_reader_that_is_gone_is_no_reason_to_complain(archive: Path, target: Path) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    command = [sys.executable, str(TOOL), str(archive), str(target)]
    done = subprocess.run(command, stdout=write_end, stderr=subprocess.PIPE, timeout=100)
    os.close(write_end)
    assert (done.returncode, done.stderr) == (1, b"")


def test_nothing_is_written_to_the_standard_descriptors_of_others(archive: Path, target: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", '"$0" "$@" 0<&- 2>&-', sys.executable, TOOL, archive, target], capture_output=True, timeout=100
    )
    assert the_answer(done.returncode, done.stdout, done.stderr)[1].get("layers") == (1 if os.geteuid() == 0 else None)


@needs_root
@pytest.mark.parametrize(
    ("number", "delay_seconds"),
    [(signal.SIGTERM, 0.0), (signal.SIGTERM, 0.15), (signal.SIGTERM, 0.5), (signal.SIGINT, 0.2), (signal.SIGHUP, 0.2)],
)
def test_a_signal_is_answered_too_and_leaves_no_process(
    tmp_path: Path, target: Path, number: signal.Signals, delay_seconds: float
) -> None:
    layer = tar.tar(*(tar.file(b"d%d/f%d" % (at % 50, at), b"x") for at in range(8_000)))
    (tmp_path / "image.tar").write_bytes(images.docker_archive([layer]))
    command = [sys.executable, str(TOOL), f"{tmp_path}/image.tar", str(target)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    until = time.monotonic() + 30  # an interpreter that is still starting cannot answer
    while not catches(process.pid, number) and time.monotonic() < until:
        time.sleep(0.005)
    time.sleep(delay_seconds)
    process.send_signal(number)
    said, complained = process.communicate(timeout=60)
    code, answer = the_answer(process.returncode, said, complained)
    assert code == 0 or (answer["error_kind"], answer["msg"]) == ("transient", f"stopped by {number.name}")
    assert soon_gone(process.pid)


def soon_gone(group: int) -> bool:
    """Whether no process of the group is left; the kernel ends children with their parent, but not in the same instant."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.01)
    return False


def catches(pid: int, number: int) -> bool:
    """Whether the process has a handler for the signal."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:")).split()[1]
    return bool(int(caught, 16) >> (number - 1) & 1)


@needs_root
@pytest.mark.parametrize("mebibytes", [24, 32, 48, 64, 96, 1024])
def test_little_memory_is_an_answer_or_enough(tmp_path: Path, target: Path, mebibytes: int) -> None:
    layer = tar.tar(*(tar.file(b"d%d/f%d" % (at % 50, at), b"x") for at in range(8_000)))
    (tmp_path / "image.tar").write_bytes(images.docker_archive([layer]))
    script = f'ulimit -v {mebibytes * 1024}; exec "$0" "$@"'
    # From compiled modules, as an installed collection has them: Python's compiler itself raises anything when its memory ends.
    compiled = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    compiled["PYTHONPYCACHEPREFIX"] = str(tmp_path / "pycache")
    (tmp_path / "first").mkdir()
    whole: list[str | Path] = [sys.executable, TOOL, tmp_path / "image.tar", tmp_path / "first"]
    subprocess.run(whole, env=compiled, check=True, capture_output=True, timeout=100)
    limited: list[str | Path] = ["sh", "-c", script, sys.executable, TOOL, tmp_path / "image.tar", target]
    done = subprocess.run(limited, env=compiled, capture_output=True, timeout=100)
    code, answer = the_answer(done.returncode, done.stdout, done.stderr)
    assert code == 0 or answer["error_kind"] in ("unsupported", "command_failed")
    assert mebibytes < 1024 or code == 0


def test_differences_between_trees_are_listed(tmp_path: Path) -> None:
    for name, content in (("one", "a"), ("two", "b")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(content)
        (tmp_path / name / f"only-{name}").symlink_to("x")
        os.utime(tmp_path / name / "file", (5, 5))
        os.utime(tmp_path / name / f"only-{name}", (5, 5), follow_symlinks=False)
    found = differences(rows_of_directory(tmp_path / "one"), rows_of_directory(tmp_path / "two"))
    assert [line[:10].strip() for line in found] == ["- /file\tf", "+ /file\tf", "+ /only-on", "- /only-tw"]
    assert differences(rows_of_directory(tmp_path / "one"), rows_of_directory(tmp_path / "one")) == []

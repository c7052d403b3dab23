"""A program between two pipes: what it may, and that it never outlives what it was started for."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from module_utils._errors import CommandFailed, Unsupported
from module_utils._host.command import Program, Runner
from module_utils._host.filter import Filter, zstd_program
from tests.unit.processes import assert_ends, runs


def filter_of(directory: Path, script: str, source: bytes = b"", *, timeout_seconds: float = 20.0) -> Filter:
    """A filter whose program is a shell script."""
    program = directory / "zstd"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    for parent in (directory, directory.parents[0], directory.parents[1]):
        parent.chmod(0o755)  # nobody must be able to reach it
    runner = Runner(timeout_seconds=timeout_seconds, search=(str(directory),))
    return Filter(runner, Program.ZSTD, ("-d",), io.BytesIO(source))


def everything(made: Filter) -> bytes:
    """All that comes out."""
    out = b""
    while chunk := made.read(1 << 20):
        out += chunk
    return out


def test_bytes_go_through_though_neither_pipe_could_hold_them(tmp_path: Path) -> None:
    data = os.urandom(3 << 20)
    made = filter_of(tmp_path, "exec cat", data)
    assert everything(made) == data
    assert made.read(1) == b""
    made.close()


def test_never_more_is_given_than_asked_for(tmp_path: Path) -> None:
    made = filter_of(tmp_path, "exec cat", bytes(100))
    assert len(made.read(7)) == 7
    made.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become nobody")
def test_the_program_is_nobody_and_can_do_nothing(tmp_path: Path) -> None:
    script = "cat /proc/self/status; printf 'Files:\\t%s\\n' $(ulimit -f)"
    said = everything(filter_of(tmp_path, script)).decode()
    fields = dict(line.split(":\t", 1) for line in said.splitlines() if ":\t" in line)
    assert fields["Uid"].split() == fields["Gid"].split() == ["65534"] * 4
    assert fields["Groups"].strip() == ""
    assert fields["NoNewPrivs"] == "1"
    assert int(fields["CapEff"], 16) == int(fields["CapPrm"], 16) == 0
    assert fields["Files"] == "0"


def test_it_ends_when_the_filter_is_closed(tmp_path: Path) -> None:
    made = filter_of(tmp_path, "echo $$; exec sleep 100")
    pid = made.read(100).decode()
    assert runs(pid)
    made.close()
    assert not runs(pid)


def test_it_ends_with_its_parent(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        made = filter_of(tmp_path, "echo $$; exec sleep 100")
        (tmp_path / "pid").write_bytes(made.read(100))
        os._exit(0)
    os.waitpid(child, 0)
    assert_ends((tmp_path / "pid").read_text())


def test_a_program_that_ends_badly_is_an_error_with_its_words(tmp_path: Path) -> None:
    made = filter_of(tmp_path, "echo part; echo it broke >&2; exit 3", bytes(1 << 20))
    assert made.read(100) == b"part\n"
    with pytest.raises(CommandFailed, match="zstd ended with 3: it broke") as caught:
        made.read(100)
    assert caught.value.details["returncode"] == 3


def test_a_program_that_hangs_is_not_waited_for_without_end(tmp_path: Path) -> None:
    made = filter_of(tmp_path, "exec sleep 100", timeout_seconds=0.2)
    with pytest.raises(CommandFailed, match=r"did not answer within 0\.2 s"):
        made.read(1)
    made.close()


def test_a_program_that_is_not_there_is_unsupported(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="zstd is not installed"):
        zstd_program(Runner(search=(str(tmp_path),)))(io.BytesIO())

"""Programs are started in one way only, and none outlives its time or its parent."""

from __future__ import annotations

import gc
import os
import signal
import time
from pathlib import Path

import pytest

from module_utils._errors import CommandFailed, Unsupported
from module_utils._host.processes.command import Program, Runner
from tests.unit.support.processes import assert_ends


def runner_of(directory: Path, script: str, *, timeout_seconds: float = 10.0) -> Runner:
    """A runner whose blkid is a shell script."""
    program = directory / "blkid"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return Runner(timeout_seconds=timeout_seconds, search=(str(directory),))


def test_what_a_program_says_comes_back(tmp_path: Path) -> None:
    done = runner_of(tmp_path, 'echo out "$@"; echo err >&2').run(Program.BLKID, "a b", "c;d")
    assert (done.stdout, done.stderr, done.returncode) == ("out a b c;d\n", "err\n", 0)


def test_what_was_run_is_remembered_in_order(tmp_path: Path) -> None:
    runner = runner_of(tmp_path, "exit 0")
    runner.run(Program.BLKID, "--one")
    runner.run(Program.BLKID, "--two", "x")
    assert runner.ran == ["blkid --one", "blkid --two x"]


def test_an_exit_code_that_was_not_expected_is_an_error_with_the_programs_words(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match=r"`blkid x` ended with 3: it broke") as caught:
        runner_of(tmp_path, "echo it broke >&2; exit 3").run(Program.BLKID, "x")
    assert caught.value.details == {"program": "blkid", "returncode": 3, "stderr": "it broke"}
    assert not caught.value.retryable


def test_an_exit_code_that_was_expected_is_none(tmp_path: Path) -> None:
    assert runner_of(tmp_path, "exit 2").run(Program.BLKID, accept=(0, 2)).returncode == 2


def test_control_characters_of_a_program_do_not_reach_the_message(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed) as caught:
        runner_of(tmp_path, "printf '\\033[2Jgone' >&2; exit 1").run(Program.BLKID)
    assert "\x1b" not in caught.value.msg


def test_the_environment_is_made_from_scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("LD_PRELOAD", "/nonesuch.so")
    said = runner_of(tmp_path, "/usr/bin/env").run(Program.BLKID).stdout
    names = {line.partition("=")[0] for line in said.splitlines()}
    assert names <= {"LC_ALL", "PATH", "PWD", "OLDPWD", "SHLVL", "_"}
    assert "LC_ALL=C" in said


def test_there_is_no_standard_input_unless_given(tmp_path: Path) -> None:
    assert runner_of(tmp_path, "cat").run(Program.BLKID).stdout == ""
    assert runner_of(tmp_path, "cat").run(Program.BLKID, stdin="table").stdout == "table"


def test_a_program_leads_a_session_of_its_own_in_the_root_directory(tmp_path: Path) -> None:
    pid, session, directory = (
        runner_of(tmp_path, "echo $$ $(cut -d' ' -f6 /proc/$$/stat) $(pwd)").run(Program.BLKID).stdout.split()
    )
    assert pid == session
    assert directory == "/"


def test_no_own_descriptor_is_inherited(tmp_path: Path) -> None:
    with open(tmp_path / "secret", "w") as secret:
        os.set_inheritable(secret.fileno(), True)
        said = runner_of(tmp_path, "ls -l /proc/$$/fd").run(Program.BLKID).stdout
    assert "secret" not in said


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # the killed program's pipes go with the exception
def test_a_program_that_does_not_end_is_killed_with_its_children(tmp_path: Path) -> None:
    script = f"sleep 600 & echo $! > {tmp_path}/child; wait"
    begun = time.monotonic()
    with pytest.raises(CommandFailed, match=r"did not end within 0\.5 s") as caught:
        runner_of(tmp_path, script, timeout_seconds=0.5).run(Program.BLKID)
    assert time.monotonic() - begun < 10
    assert caught.value.retryable
    assert_ends((tmp_path / "child").read_text())
    del caught
    gc.collect()


def test_one_call_may_have_its_own_time_limit(tmp_path: Path) -> None:
    assert runner_of(tmp_path, "sleep 0.3", timeout_seconds=0.1).run(Program.BLKID, timeout_seconds=20).returncode == 0


def test_a_program_that_is_missing_is_named_with_its_package(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="thin_check is not installed") as caught:
        Runner(search=(str(tmp_path),)).run(Program.THIN_CHECK)
    assert "thin-provisioning-tools" in caught.value.hint


def test_a_file_that_cannot_be_executed_is_no_program(tmp_path: Path) -> None:
    (tmp_path / "blkid").write_text("")
    with pytest.raises(Unsupported):
        Runner(search=(str(tmp_path),)).find(Program.BLKID)


def test_a_program_dies_with_its_parent(tmp_path: Path) -> None:
    runner = runner_of(tmp_path, f"echo $$ > {tmp_path}/pid.new; mv {tmp_path}/pid.new {tmp_path}/pid; exec sleep 600")
    parent = os.fork()
    if parent == 0:
        runner.run(Program.BLKID)
        os._exit(0)
    until = time.monotonic() + 20
    while not (tmp_path / "pid").exists():
        assert time.monotonic() < until
        time.sleep(0.02)
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    assert_ends((tmp_path / "pid").read_text())


def test_every_program_names_its_package() -> None:
    assert all(program.package and program.value == str.__str__(program) for program in Program)

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs that the operator names: no shell, a clean environment, a time limit, bounded output."""

from __future__ import annotations

import os
import signal
import time
import tracemalloc
from pathlib import Path

import pytest

from module_utils._errors import BadInput, CommandFailed
from module_utils._host.processes import hook
from module_utils._host.processes.command import Runner


def call(*argv: str, timeout_seconds: float = 5.0, **environment: str) -> hook.Answer:
    return hook.call(argv, what="switch", timeout_seconds=timeout_seconds, environment=environment)


def test_a_word_is_a_word_whatever_it_holds() -> None:
    assert call("echo", "$HOME;", "`id`", "a b").output == "$HOME; `id` a b"


def test_the_environment_is_made_from_scratch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    lines = call("env", FLYD_INSTANCE="web").output.splitlines()
    assert sorted(line.partition("=")[0] for line in lines) == ["FLYD_INSTANCE", "LC_ALL", "PATH"]


def test_only_the_end_of_the_output_is_kept() -> None:
    output = call("sh", "-c", "head -c 100000 /dev/zero | tr '\\0' x; echo end >&2").output
    assert len(output) == hook.MAX_OUTPUT_BYTES
    assert output.endswith("end")


def test_a_program_and_its_children_are_killed_when_time_is_up(tmp_path: Path) -> None:
    written = tmp_path / "written"
    with pytest.raises(CommandFailed, match=r"did not end within 0\.2 s"):
        call("sh", "-c", f"(sleep 1; touch {written}) & sleep 60", timeout_seconds=0.2)
    time.sleep(1.2)
    assert not written.exists()


@pytest.mark.parametrize("name", ["no-such-program", "relative/program", "/etc/passwd", "/no/such/program"])
def test_a_program_that_cannot_be_run_is_refused_by_the_option_that_named_it(name: str) -> None:
    with pytest.raises(BadInput, match="switch names the program") as caught:
        call(name)
    assert "absolute path" in caught.value.hint


def test_a_switch_that_fails_says_what_the_program_wrote() -> None:
    runner = Runner()
    with pytest.raises(CommandFailed, match="ended with 3: no such unit") as caught:
        hook.switch(runner, ["sh", "-c", "echo no such unit >&2; exit 3"], timeout_seconds=5.0, environment={})
    assert caught.value.details["returncode"] == 3
    assert [line.argv[:2] for line in runner.ran] == [("switch", "sh")]


def test_its_working_directory_is_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("pwd").output == "/"
    assert os.getcwd() == str(tmp_path)


def test_what_it_writes_without_end_takes_no_memory() -> None:
    """As a check that passes on what a hostile guest sends."""
    tracemalloc.start()
    try:
        with pytest.raises(CommandFailed, match="did not end within"):
            call("yes", timeout_seconds=1)
        _now, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 8 << 20


@pytest.mark.parametrize("writes", ["", "yes & "])
def test_a_process_that_it_leaves_in_the_background_is_not_waited_for(tmp_path: Path, writes: str) -> None:
    """As a switch that starts the guest; the pipe to us is closed then."""
    file = tmp_path / "pid"
    script = f"{writes}sleep 300 & echo $! > {file}; echo started"
    done = call("sh", "-c", script, timeout_seconds=200)
    pid = int(file.read_text())
    try:
        assert (done.returncode, "started" in done.output or bool(writes)) == (0, True)
        os.kill(pid, 0)
    finally:
        os.kill(pid, signal.SIGKILL)


def test_a_program_that_closes_its_outputs_is_waited_for() -> None:
    script = "exec >&- 2>&-; sleep 0.3; exit 7"
    assert call("sh", "-c", script, timeout_seconds=60).returncode == 7


def test_what_it_wrote_last_is_there_when_it_has_ended() -> None:
    output = call("sh", "-c", "seq 100000; echo last; echo wrong >&2", timeout_seconds=60).output
    assert output.endswith("last\nwrong")

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The log is one JSON object a line, from any process, and never stands in the way of the work."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from module_utils._errors import Busy, FlydError, MissingLibrary, NoSpace, Untrusted
from module_utils._lifecycle.log.log import Log
from module_utils._names import Ulid
from tests.unit._lifecycle.disk import at_once

RUN = Ulid("01J9Z3M4N5P6Q7R8S9T0V1W2X3")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log" / "flyd.jsonl"


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="ascii").splitlines()]


def test_a_line_has_time_run_and_event(path: Path) -> None:
    Log(str(path), RUN).write("settled", what="undid it")
    [line] = lines(path)
    assert (line["run_id"], line["event"], line["what"]) == (str(RUN), "settled", "undid it")
    assert str(line["time"]).endswith("Z")


def test_the_log_is_ours_alone(path: Path) -> None:
    Log(str(path), RUN).write("begin")
    assert [oct(os.stat(one).st_mode & 0o777) for one in (path, path.parent)] == ["0o600", "0o700"]


def test_hostile_text_stays_on_its_line(path: Path) -> None:
    Log(str(path), RUN).write("failed", error="a\nb\u2028c\x1b[2J\udcff")
    [line] = lines(path)
    assert line["error"] == "a\nb\u2028c\x1b[2J\udcff"


def test_lines_of_several_processes_do_not_mix(path: Path) -> None:
    def write() -> None:
        for _ in range(50):
            Log(str(path), RUN).write("begin", filler="x" * 3000)

    assert at_once(*[write] * 4) == [0] * 4
    assert len(lines(path)) == 200


def test_a_transition_reports_its_end_with_what_was_found_out(path: Path) -> None:
    with Log(str(path), RUN).transition("fetch", key="k") as facts:
        facts["size"] = 7
    begin, end = lines(path)
    assert (begin["event"], begin["transition"], begin["key"]) == ("begin", "fetch", "k")
    assert (end["event"], end["outcome"], end["size"], end["attempts"]) == ("end", "ok", 7, 1)
    assert {"seconds", "cpu_seconds", "peak_memory_kib"} <= set(end)


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (NoSpace("it is full", hint="h", free_bytes=3), "no_space", "it is full"),
        (KeyError("secret"), "internal", "KeyError"),
        (OSError(5, "Input/output error"), "command_failed", "working on this host: Input/output error"),
    ],
)
def test_a_transition_that_fails_reports_how_and_the_error_passes(
    path: Path, error: Exception, kind: str, text: str
) -> None:
    def fail() -> None:
        with Log(str(path), RUN).transition("fetch"):
            raise error

    with pytest.raises(type(error)):
        fail()
    end = lines(path)[-1]
    assert (end["outcome"], end["error_kind"], end["error"]) == ("failed", kind, text)
    assert "secret" not in path.read_text()


def test_a_run_that_starts_over_has_not_failed(path: Path) -> None:
    def miss(log: Log) -> None:
        with log.transition("fetch", key="k"):
            raise MissingLibrary("boto3", "boto3")

    for starts_over in (True, False):
        with pytest.raises(MissingLibrary):
            miss(Log(str(path), RUN, starts_over=starts_over))
    _begin, over, _begin_again, end = lines(path)
    assert (over["event"], over["transition"], over["key"], over["library"]) == ("started over", "fetch", "k", "boto3")
    assert (end["event"], end["outcome"], end["error_kind"]) == ("end", "failed", "unsupported")


@pytest.mark.parametrize(
    ("error", "security"), [(Untrusted("other bytes", hint="h", found="x"), True), (Busy("later", hint="h"), False)]
)
def test_a_run_that_failed_is_one_line_that_says_whether_bytes_were_not_to_be_trusted(
    path: Path, error: FlydError, security: bool
) -> None:
    Log(str(path), RUN).failed(error, module="flyd_fetch", subject="k")
    [line] = lines(path)
    assert (line["event"], line["module"], line["subject"], line["error"]) == ("failed", "flyd_fetch", "k", error.msg)
    assert (line["security"], line["retryable"], line["error_kind"]) == (security, error.retryable, error.kind.value)


def test_a_log_that_cannot_be_written_does_not_stop_the_work(path: Path) -> None:
    path.parent.write_text("a file where the directory should be")
    Log(str(path), RUN).write("begin")


def test_a_link_in_the_place_of_the_log_is_not_followed(path: Path) -> None:
    path.parent.mkdir()
    path.symlink_to(path.parent / "elsewhere")
    Log(str(path), RUN).write("begin")
    assert not (path.parent / "elsewhere").exists()

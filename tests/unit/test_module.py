# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A module ends once, with valid JSON: an outcome, or an error that says its kind, whether to retry, and what to do."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

pytest.importorskip("ansible.module_utils.testing", reason="ansible-core is not installed")
pytest.importorskip("ulid", reason="python-ulid is not installed")

from ansible.module_utils.testing import patch_module_args

from module_utils import _module
from module_utils._errors import BadInput, Busy, FlydError, MissingLibrary, NoSpace, Transient, doing
from module_utils._host import environment
from module_utils._lifecycle.findings import Finding, RecoveryKind
from module_utils._lifecycle.outcome import Outcome
from module_utils._lifecycle.params import ModuleParams
from module_utils._lifecycle.run import Run
from module_utils._module import run
from module_utils._names import Ulid

Work = Callable[[Run, ModuleParams], Outcome]
SAME = Outcome({"state": "new"}, {"state": "new"}, False, {"device": None})
UNDONE = Finding(RecoveryKind.OPERATION_UNDONE, "images/redis.tar", "undid the fetch of images/redis.tar")
LEFT = Finding(RecoveryKind.NOT_RECOVERED, "pool pool", "left it")
CHANGED = Outcome({"state": "new"}, {"state": "fetched"}, True, {"device": "/dev/mapper/x"}, (UNDONE,))
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="modules refuse to run as another user than root")


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """Give the signals back that a module takes."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def ended(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    """Run a module with ``work``; what it printed, which must be one object of JSON and nothing else."""

    def call(work: Work, *, check: bool = False, diff: bool = False, **given: Any) -> dict[str, Any]:
        options = {"state_dir": str(tmp_path / "state"), "name": "pool", **given}
        flags = {"_ansible_check_mode": check, "_ansible_diff": diff}
        rules = {key: options.pop(key) for key in ("absent", "read_only") if key in options}
        with patch_module_args({**options, **flags}), contextlib.suppress(SystemExit):
            run(work, {"name": {"type": "str"}, "size": {"type": "str"}}, pool_options=("name",), **rules)
        out, err = capfd.readouterr()
        result: dict[str, Any] = json.loads(out)
        assert "Traceback" not in out + err
        return result

    return call


def failing(error: BaseException) -> Work:
    def work(_host: Run, _given: ModuleParams) -> Outcome:
        with doing("unpack of images/redis.tar"):
            raise error

    return work


@needs_root
def test_an_outcome_becomes_the_result(ended: Callable[..., dict[str, Any]]) -> None:
    result = ended(lambda *_: CHANGED)
    assert (result["changed"], result["device"]) == (True, "/dev/mapper/x")
    assert result["settled"] == [
        {
            "kind": "operation_undone",
            "subject": "images/redis.tar",
            "text": "undid the fetch of images/redis.tar",
        }
    ]
    assert result["actions"] == []
    assert "diff" not in result
    assert "failed" not in result


@needs_root
@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize(("found", "changed"), [([LEFT], False), ([LEFT, UNDONE], True), ([], False)])
def test_what_was_settled_is_a_change_and_what_was_left_is_none(
    ended: Callable[..., dict[str, Any]], found: list[Finding], changed: bool, fails: bool
) -> None:
    def work(host: Run, _: ModuleParams) -> Outcome:
        host.settled += found
        if fails:
            raise Busy("somebody has it", hint="wait")
        return SAME._replace(settled=tuple(host.settled))

    result = ended(work)
    assert (result["changed"], result["settled"]) == (changed, [one.record() for one in found])


@needs_root
@pytest.mark.parametrize(("outcome", "shown"), [(CHANGED, True), (SAME, False)])
def test_a_diff_is_shown_when_asked_for_and_there_is_one(
    ended: Callable[..., dict[str, Any]], outcome: Outcome, shown: bool
) -> None:
    result = ended(lambda *_: outcome, diff=True)
    assert ("diff" in result) is shown
    assert result.get("diff", {"before": outcome.before, "after": outcome.after}) == {
        "before": outcome.before,
        "after": outcome.after,
    }


@needs_root
@pytest.mark.parametrize(
    ("check", "read_only", "dry_run"), [(False, False, False), (True, False, True), (False, True, True)]
)
def test_check_mode_and_read_only_modules_write_nothing(
    ended: Callable[..., dict[str, Any]], tmp_path: Path, check: bool, read_only: bool, dry_run: bool
) -> None:
    seen: list[bool] = []

    def work(host: Run, _: ModuleParams) -> Outcome:
        seen.append(host.dry_run)
        return SAME

    ended(work, check=check, read_only=read_only)
    assert seen == [dry_run]
    assert (tmp_path / "state").exists() is not dry_run


@needs_root
def test_the_state_chooses_the_way(ended: Callable[..., dict[str, Any]]) -> None:
    ways = {"present": lambda *_: SAME, "absent": lambda *_: CHANGED}
    assert ended(ways["present"], absent=ways["absent"])["changed"] is False
    assert ended(ways["present"], absent=ways["absent"], state="absent")["changed"] is True


@needs_root
def test_an_error_becomes_a_failure_with_its_kind_and_what_to_do(ended: Callable[..., dict[str, Any]]) -> None:
    result = ended(failing(NoSpace("the pool is full", hint="remove something", free_bytes=7)))
    assert result["failed"] is True
    assert result["msg"] == "while unpack of images/redis.tar: the pool is full"
    assert (result["error_kind"], result["retryable"], result["hint"]) == ("no_space", False, "remove something")
    assert (result["doing"], result["details"]) == (["unpack of images/redis.tar"], {"free_bytes": 7})
    assert result["changed"] is False


@needs_root
@pytest.mark.parametrize("check", [False, True])
def test_a_run_that_failed_is_in_the_log_but_in_check_mode(
    ended: Callable[..., dict[str, Any]], tmp_path: Path, check: bool
) -> None:
    ended(failing(Busy("somebody has it", hint="wait")), check=check)
    log = tmp_path / "state/log/flyd.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    told = [(line["event"], line["error_kind"], "while unpack of" in line["error"]) for line in lines]
    assert told == ([] if check else [("failed", "busy", True)])


@needs_root
@pytest.mark.parametrize("error", [Busy("somebody has it", hint="wait"), ValueError("ours")])
def test_a_failure_is_reported_and_logged_without_the_package_for_ulids(
    ended: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def missing() -> NoReturn:
        raise MissingLibrary("ulid", "python-ulid")

    monkeypatch.setattr("module_utils._lifecycle.run.new_ulid", missing)
    result = ended(failing(error))
    assert result["failed"]
    lines = [json.loads(line) for line in (tmp_path / "state/log/flyd.jsonl").read_text().splitlines()]
    assert [line["run_id"] for line in lines if line["event"] == "failed"] == [result["run_id"]]


@needs_root
@pytest.mark.parametrize("work", [lambda *_: SAME, failing(BadInput("x", hint="y"))], ids=["a success", "a failure"])
@pytest.mark.parametrize("check", [False, True])
def test_every_result_names_its_run_and_how_long_it_took(
    ended: Callable[..., dict[str, Any]], work: Work, check: bool
) -> None:
    first, second = ended(work, check=check), ended(work, check=check)
    assert Ulid(first["run_id"]) != Ulid(second["run_id"])
    assert 0 <= first["run_seconds"] < 60


def test_what_ansible_finds_wrong_with_an_option_is_an_error_of_the_same_form(
    ended: Callable[..., dict[str, Any]],
) -> None:
    result = ended(lambda *_: SAME, lock_timeout="soon")
    assert (result["error_kind"], result["retryable"], result["changed"]) == ("bad_input", False, False)
    assert "lock_timeout" in result["msg"]
    assert result["hint"]
    assert Ulid(result["run_id"])


@needs_root
def test_a_path_in_a_result_has_no_file_described_beside_it(
    ended: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    outcome = SAME._replace(facts={"path": str(tmp_path / "file")})
    assert not {"owner", "mode", "state", "uid"} & ended(lambda *_: outcome).keys()


@needs_root
def test_an_error_that_may_pass_says_so(ended: Callable[..., dict[str, Any]]) -> None:
    result = ended(failing(Busy("somebody has it", hint="wait")))
    assert (result["error_kind"], result["retryable"]) == ("busy", True)


@needs_root
def test_an_error_of_the_system_is_put_into_our_terms(ended: Callable[..., dict[str, Any]]) -> None:
    result = ended(failing(OSError(errno.ENOSPC, "No space left on device", "/var/lib/flyd/x")))
    assert result["error_kind"] == "no_space"
    assert "/var/lib/flyd/x" in result["msg"]
    assert result["hint"]


@needs_root
@pytest.mark.parametrize("check", [False, True])
def test_an_internal_error_has_no_traceback_but_the_log_has(
    ended: Callable[..., dict[str, Any]], tmp_path: Path, check: bool
) -> None:
    result = ended(failing(ValueError("line\nline \x1b[2J")), check=check)
    assert result["error_kind"] == "internal"
    assert r"ValueError: line\nline \x1b[2J" in result["msg"]
    log = tmp_path / "state" / "log" / "flyd.jsonl"
    assert log.exists() is not check
    if not check:
        assert "Traceback" in json.loads(log.read_text().splitlines()[0])["traceback"]


def test_a_user_other_than_root_is_refused_before_anything_is_touched(
    ended: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("module_utils._module.os.geteuid", lambda: 1000)
    result = ended(lambda *_: CHANGED)
    assert (result["error_kind"], "become" in result["hint"]) == ("unsupported", True)
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "../pool"}, "cannot be used"),
        ({"state_dir": "/"}, "state_dir"),
        ({"state_dir": "//"}, "state_dir"),
        ({"state_dir": "/var/.."}, "state_dir"),
        ({"name": "x" * 2000}, "cannot be used"),
    ],
)
def test_an_option_that_cannot_be_right_is_bad_input(
    ended: Callable[..., dict[str, Any]], given: dict[str, Any], message: str
) -> None:
    result = ended(lambda *_: CHANGED, check=True, **given)  # check mode: a defect here must not write to /
    assert result["error_kind"] == "bad_input"
    assert message in result["msg"]


@needs_root
def test_a_size_that_is_none_names_its_option(ended: Callable[..., dict[str, Any]]) -> None:
    def work(_: Run, given: ModuleParams) -> Outcome:
        given.size_bytes("size")
        return SAME

    assert ended(work, size="")["changed"] is False
    assert ended(work, size="lots")["msg"].startswith("size is 'lots'")


@pytest.fixture
def respawned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The interpreters that the module was started over in. It starts over where prepare has made its environment."""
    started: list[str] = []
    python = tmp_path / "venv-python"
    python.touch()
    monkeypatch.setattr(environment, "interpreter", lambda: str(python))
    monkeypatch.setattr(_module, "respawn_module", started.append)
    return started


@needs_root
def test_a_missing_library_starts_the_module_over_where_prepare_has_put_it(
    ended: Callable[..., dict[str, Any]], respawned: list[str]
) -> None:
    ended(failing(MissingLibrary("boto3", "boto3")))
    assert respawned == [environment.interpreter()]


@needs_root
@pytest.mark.parametrize("why", ["no environment", "over already"])
def test_a_library_that_is_missing_there_too_is_reported(
    ended: Callable[..., dict[str, Any]], respawned: list[str], monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    if why == "over already":
        monkeypatch.setattr(_module, "has_respawned", lambda: True)
    else:
        os.unlink(environment.interpreter())
    result = ended(failing(MissingLibrary("boto3", "boto3")))
    assert respawned == []
    assert (result["error_kind"], "flyd.lite.prepare" in result["hint"]) == ("unsupported", True)


@needs_root
def test_other_errors_start_nothing_over(ended: Callable[..., dict[str, Any]], respawned: list[str]) -> None:
    ended(failing(BadInput("x", hint="y")))
    assert respawned == []


@needs_root
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_polite_kill_unwinds_the_work_and_is_reported(
    ended: Callable[..., dict[str, Any]], number: signal.Signals
) -> None:
    unwound: list[bool] = []

    def work(host: Run, _: ModuleParams) -> Outcome:
        try:
            with host.lock("image x"):
                os.kill(os.getpid(), number)
        finally:
            unwound.append(host.store.rows("SELECT * FROM _busy") == [])
        return CHANGED

    result = ended(work)
    assert unwound == [True]
    assert f"stopped by {number.name}" in result["msg"]
    assert result["retryable"] is True


@needs_root
def test_a_polite_kill_ends_a_loop_of_retries(ended: Callable[..., dict[str, Any]]) -> None:
    tried: list[int] = []

    def work(host: Run, _: ModuleParams) -> Outcome:
        def wait() -> None:
            tried.append(1)
            if len(tried) == 1:
                os.kill(os.getpid(), signal.SIGTERM)

        host.retry.call(wait)
        return CHANGED

    assert "stopped by SIGTERM" in ended(work, retries=3, retry_delay=0.01).get("msg", "")


@needs_root
def test_a_silence_that_was_retried_is_a_warning_and_a_failure_counts_its_attempts(
    ended: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    warned: list[str] = []
    monkeypatch.setattr(_module.Module, "warn", lambda _module, text: warned.append(text))

    def work(host: Run, _: ModuleParams) -> Outcome:
        silent = Transient("no bytes for 30 s from https://s3.example.net", hint="y", silent_seconds=30)
        host.retry.call(failing_with(silent))
        return CHANGED

    def failing_with(error: FlydError) -> Callable[[], None]:
        def fail() -> None:
            raise error

        return fail

    result = ended(work, retries=2, retry_delay=0.001)
    assert result["attempts"] == 3
    assert "no bytes for 30 s from https://s3.example.net (attempt 3 of 3)" in result["msg"]
    assert warned == ["no bytes for 30 s from https://s3.example.net"]


@needs_root
@pytest.mark.parametrize("work", [lambda *_: SAME, failing(BadInput("x", hint="y"))], ids=["a success", "a failure"])
def test_every_module_warns_of_an_environment_that_does_not_work(
    ended: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch, work: Work
) -> None:
    monkeypatch.setattr(environment, "complaint", lambda: "the environment has no interpreter")
    [warning] = ended(work)["warnings"]
    assert "the environment has no interpreter" in str(warning)
    assert "flyd.lite.prepare" in str(warning)

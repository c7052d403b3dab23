# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The only file that knows AnsibleModule: options in, an outcome or an error out.

Invariant: a module ends in exactly one place, with valid JSON, whatever happened; a failure carries error_kind, retryable and hint,
and never a traceback or a credential.
"""

from __future__ import annotations

import os
import signal
import traceback
from typing import Any, Callable

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.respawn import has_respawned, respawn_module

from ._errors import CommandFailed, FlydError, MissingLibrary, Transient, Unsupported
from ._host.files import from_os_error
from ._lifecycle.host import Host, Settings, open_host
from ._lifecycle.outcome import Outcome
from ._names import ShortName, parse_bytes, printable

VENV_PYTHON = "/opt/flyd/venv/bin/python"

COMMON_ARGUMENTS: dict[str, Any] = {
    "state_dir": {"type": "path", "default": "/var/lib/flyd"},
    "lock_timeout": {"type": "float", "default": 300.0},
    "command_timeout": {"type": "float", "default": 120.0},
    "retries": {"type": "int", "default": 4},
    "retry_delay": {"type": "float", "default": 0.5},
}
IMAGE_ARGUMENTS: dict[str, Any] = {
    "key": {"type": "str", "required": True, "no_log": False},
    "pool": {"type": "str", "default": "pool"},
}


class Given:
    """The options of a module, as it was called; each method gives one option in the type that is wanted."""

    def __init__(self, params: dict[str, Any]) -> None:
        self._params = params

    def text(self, name: str) -> str:
        """The option as a string; empty when it was not given."""
        value = self._params.get(name)
        return "" if value is None else str(value)

    def flag(self, name: str) -> bool:
        """A boolean option, false when it was not given."""
        return bool(self._params.get(name))

    def number(self, name: str) -> float:
        """An option that has a number."""
        return float(self._params[name])

    def optional_int(self, name: str) -> int | None:
        """A whole number, or None."""
        value = self._params.get(name)
        return None if value is None else int(value)

    def mapping(self, name: str) -> dict[str, Any]:
        """A dictionary, empty when it was not given."""
        return dict(self._params.get(name) or {})

    def words(self, name: str) -> list[str]:
        """A list of strings."""
        return [str(word) for word in self._params.get(name) or []]

    def size_bytes(self, name: str) -> int:
        """A size such as 2G in bytes, 0 when it was not given; raises ``BadInput`` that names the option."""
        text = self.text(name)
        return parse_bytes(text, what=name) if text else 0

    def settings(self) -> Settings:
        """The options that all modules share."""
        return Settings(
            state_dir=self.text("state_dir"),
            pool=ShortName(self.text("pool") or self.text("name")),
            lock_timeout_seconds=self.number("lock_timeout"),
            command_timeout_seconds=self.number("command_timeout"),
            retries=max(0, int(self.number("retries"))),
            retry_delay_seconds=self.number("retry_delay"),
            starts_over=_can_start_over(),
        )


Work = Callable[[Host, Given], Outcome]


def run(
    present: Work,
    arguments: dict[str, Any],
    *,
    absent: Work | None = None,
    repaired: Work | None = None,
    read_only: bool = False,
    **rules: Any,
) -> None:
    """Run a module: parse its options, do what O(state) asks for on the opened host, exit. ``rules`` are AnsibleModule's own.

    A module without ``absent`` has no option state; ``repaired`` is one state more. A ``read_only`` module never writes; the others do not in check mode.
    When a Python package is missing, the module starts over in the interpreter that the role prepare has made.
    """
    states = {"present": present, "absent": absent, "repaired": repaired}
    choices = [state for state, work in states.items() if work is not None]
    state = {"state": {"type": "str", "choices": choices, "default": "present"}} if absent else {}
    module = AnsibleModule(argument_spec={**COMMON_ARGUMENTS, **arguments, **state}, supports_check_mode=True, **rules)
    work = states[module.params.get("state", "present")] or present
    _unwind_on_signals()
    host: list[Host] = []
    try:
        outcome = _work(module, work, host, dry_run=read_only or module.check_mode)
    except MissingLibrary as error:
        if _can_start_over():
            respawn_module(VENV_PYTHON)
        failed: FlydError = error
    except FlydError as error:
        failed = error
    except _Stopped as stopped:
        failed = Transient(f"stopped by {stopped}", hint="run again: what was open has been undone or will be settled")
    except OSError as error:
        failed = from_os_error(error, "working on this host")
    except Exception as error:  # noqa: BLE001 - the last gate: no traceback may reach an operator
        failed = _unexpected(error, host)
    else:
        module.exit_json(**_success(module, outcome, host[0]))
        return
    _log(module, failed, host)
    module.fail_json(**_failure(failed, host))


def _log(module: AnsibleModule, error: FlydError, opened: list[Host]) -> None:
    """One line for a run that failed, wherever it did; none in check mode, and none before the state directory was opened."""
    for host in opened:
        if not host.dry_run:
            params = module.params
            host.log_of_failure.failed(
                error, module=str(module._name), subject=str(params.get("key") or params.get("name") or "")
            )


def _can_start_over() -> bool:
    return os.path.exists(VENV_PYTHON) and not has_respawned()


def _work(module: AnsibleModule, work: Work, opened: list[Host], *, dry_run: bool) -> Outcome:
    given = Given(module.params)
    settings = given.settings()
    if os.geteuid() != 0:
        raise Unsupported(
            f"running as uid {os.geteuid()}, not as root",
            hint="set `become: true`: loop devices and device-mapper need root",
        )
    with open_host(settings, dry_run=dry_run) as host:
        opened.append(host)
        return work(host, given)


def _success(module: AnsibleModule, outcome: Outcome, host: Host) -> dict[str, Any]:
    facts = dict(outcome.facts)
    for warning in facts.pop("warnings", []):
        module.warn(warning)
    changed = outcome.changed or host.has_mended
    result = {**facts, "changed": changed, "settled": list(outcome.settled), "actions": host.runner.ran}
    if module._diff and outcome.before != outcome.after:
        result["diff"] = {"before": outcome.before, "after": outcome.after}
    return result


def _failure(error: FlydError, opened: list[Host]) -> dict[str, Any]:
    return {
        "msg": str(error),
        "error_kind": error.kind.value,
        "retryable": error.retryable,
        "hint": error.hint,
        "doing": list(error.trail),
        "details": dict(error.details),
        "settled": [line for host in opened for line in host.settled],
        "actions": [line for host in opened for line in host.runner.ran],
        "changed": any(host.has_mended for host in opened),
    }


def _unexpected(error: Exception, opened: list[Host]) -> FlydError:
    """A fault of ours. Its traceback goes to the log, where whoever mends it looks."""
    where = "the log"
    for host in opened:
        if not host.dry_run:
            host.log_of_failure.write("unexpected", traceback=traceback.format_exc())
            where = host.settings.path("log", "flyd.jsonl")
    return CommandFailed(
        f"a fault in flyd.lite itself: {type(error).__name__}: {printable(str(error))}",
        hint=f"please report it with the last lines of {where}; running again is safe: open work is settled first",
    )


class _Stopped(BaseException):
    """A signal asked us to end. No ``FlydError``: nothing may retry or handle it, everything must be unwound by it."""


def _unwind_on_signals() -> None:
    """Let an ended connection or a polite kill unwind the work, so that it is undone now instead of by the next run."""

    def stop(number: int, _frame: object) -> None:
        signal.signal(number, signal.SIG_IGN)
        raise _Stopped(signal.Signals(number).name)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)

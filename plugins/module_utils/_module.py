# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The only file that knows AnsibleModule: options in, an outcome or an error out.

Invariant: a module ends in exactly one place, with valid JSON, whatever happened; a failure carries error_kind, retryable and hint,
and never a traceback or a credential. What a module shows of its options, in its result, its errors and the host's journal, is redacted.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Callable

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.respawn import has_respawned, respawn_module

from ._errors import BadInput, FlydError, MissingLibrary, Transient, Unsupported
from ._host import environment
from ._host.processes.process import take_name
from ._lifecycle.actions import records
from ._lifecycle.at_end import at_end
from ._lifecycle.option_states import Counts, without_effect
from ._lifecycle.outcome import Outcome
from ._lifecycle.params import ModuleParams
from ._lifecycle.run import Run, open_host
from ._lifecycle.settings import Settings
from ._names import new_run_id
from ._redaction import redacted, redacted_value, secrets_of, secrets_of_environment

COMMON_ARGUMENTS: dict[str, Any] = {
    "state_dir": {"type": "path", "default": "/var/lib/flyd"},
    "lock_timeout": {"type": "float", "default": 300.0},
    "command_timeout": {"type": "float", "default": 120.0},
    "retries": {"type": "int", "default": 4},
    "retry_delay": {"type": "float", "default": 0.5},
}
IMAGE_ARGUMENTS: dict[str, Any] = {
    "key": {"type": "str", "required": True, "no_log": False},
    "pool": {"type": "str"},
}


class Module(AnsibleModule):  # type: ignore[misc]  # ansible-core comes without types
    """AnsibleModule that shows of a URL in an option neither user nor query, not even in what its constructor logs and says.

    Every result names its run: ``run`` is the ULID that stands in the lines of the log, too.
    """

    def __init__(self, **given: Any) -> None:
        self.run = new_run_id()
        self._begun = time.monotonic()
        super().__init__(**given)

    @property
    def secrets(self) -> frozenset[str]:
        """The secret parts of all URLs in the options and in the environment, until the options are redacted."""
        return secrets_of(self.params) | secrets_of_environment()

    def log(self, msg: Any, log_args: Any = None) -> None:
        """Write to the journal, without secrets."""
        text = msg.decode("utf-8", "replace") if isinstance(msg, bytes) else msg
        super().log(redacted(text, self.secrets), redacted_value(log_args or {}, self.secrets))

    def exit_json(self, **kwargs: Any) -> None:
        """End with a result. Facts are an image's, and returned as they are but for known secrets."""
        self._redact_options()
        super().exit_json(**{**kwargs, **self._of_run()})

    def fail_json(self, msg: str, **kwargs: Any) -> None:
        """End with an error, every text of which is redacted. What AnsibleModule finds wrong with the options has a kind like all others."""
        secrets = self.secrets
        self._redact_options()
        error = {**_failure(BadInput(msg, hint="the module's documentation says what each option takes"), []), **kwargs}
        del error["msg"]
        super().fail_json(msg=redacted(msg, secrets), **redacted_value({**error, **self._of_run()}, secrets))

    def add_path_info(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Leave a result with a ``path`` as it is: that path is an answer, not a file that the module manages."""
        return kwargs

    def _of_run(self) -> dict[str, Any]:
        return {"run_id": str(self.run), "run_seconds": round(time.monotonic() - self._begun, 3)}

    def _redact_options(self) -> None:
        secrets = self.secrets
        self.no_log_values.update(secrets)
        self.params.update(redacted_value(self.params, secrets))


Work = Callable[[Run, ModuleParams], Outcome]
# For a state before which the database may have to be made: its path.
Opener = Callable[..., contextlib.AbstractContextManager[str]]


def run(
    present: Work,
    arguments: dict[str, Any],
    *,
    absent: Work | None = None,
    others: Mapping[str, Work] = MappingProxyType({}),
    openers: Mapping[str, Opener] = MappingProxyType({}),
    read_only: bool = False,
    counts: Mapping[str, Counts] | None = None,
    pool_options: Sequence[str] = ("pool",),
    **rules: Any,
) -> None:
    """Run a module: parse its options, do what O(state) asks for on the opened host, exit. ``rules`` are AnsibleModule's own.

    A module without ``absent`` has no option state; ``others`` are its states beside these two.
    A ``read_only`` module never writes; the others do not in check mode.
    ``counts`` has the options that count for some states only; the first of ``pool_options`` that is given names the pool.
    When a Python package is missing, the module starts over in the interpreter that the role prepare has made.
    """
    states = {"present": present, "absent": absent, **others}
    choices = [state for state, work in states.items() if work is not None]
    spec = {"state": {"type": "str", "choices": choices, "default": "present"}} if absent else {}
    module = Module(argument_spec={**COMMON_ARGUMENTS, **arguments, **spec}, supports_check_mode=True, **rules)
    state = module.params.get("state", "present")
    _unwind_on_signals()
    take_name(str(module._name).rpartition(".")[2])
    host: list[Run] = []
    try:
        # A run that needs no package of the environment warns of it too: the host's next boot does.
        for warning in (*without_effect(module.params, arguments, counts or {}, state), *environment.warnings()):
            module.warn(warning)
        settings = ModuleParams(module.params).settings(starts_over=_can_start_over(), pool_options=pool_options)
        outcome = _work(
            module, states[state] or present, host, settings, openers.get(state), dry_run=read_only or module.check_mode
        )
    except (Exception, _Stopped) as error:  # noqa: BLE001 - the last gate: no traceback may reach an operator
        _fail(module, _understood(error, host), host)
    else:
        module.exit_json(**_success(module, outcome, host[0]))


def _fail(module: AnsibleModule, error: FlydError, opened: list[Run]) -> None:
    _log(module, error, opened)
    for host in opened:
        for warning in host.warnings:
            module.warn(warning)
    module.fail_json(**_failure(error, opened))


def _understood(error: BaseException, opened: list[Run]) -> FlydError:
    """What ended the work, in our terms. For a missing package the module starts over, and does not come back, where it can."""
    if isinstance(error, MissingLibrary) and _can_start_over():
        respawn_module(environment.interpreter())
    if isinstance(error, FlydError):
        return error
    if isinstance(error, _Stopped):
        return Transient(f"stopped by {error}", hint="run again: what was open has been undone or will be settled")
    from ._lifecycle.unexpected import as_flyd_error  # late: hardly any run needs it

    return as_flyd_error(error, opened)


def _log(module: AnsibleModule, error: FlydError, opened: list[Run]) -> None:
    """One line for a run that failed, wherever it did; none in check mode, and none before the state directory was opened.

    None for one that only asks the controller for a file, either.
    """
    for host in opened:
        if not host.dry_run and "awaits" not in error.details:
            params = module.params
            host.log.failed(error, module=str(module._name), subject=str(params.get("key") or params.get("name") or ""))


def _can_start_over() -> bool:
    return os.path.exists(environment.interpreter()) and not has_respawned()


def _work(
    module: Module, work: Work, opened: list[Run], settings: Settings, opener: Opener | None, *, dry_run: bool
) -> Outcome:
    if os.geteuid() != 0:
        raise Unsupported(
            f"running as uid {os.geteuid()}, not as root",
            hint="set `become: true`: loop devices and device-mapper need root",
        )
    given = ModuleParams(dict(module.params))
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(opener(settings, given, dry_run=dry_run)) if opener else ""
        host = stack.enter_context(
            open_host(settings, dry_run=dry_run, secrets=module.secrets, run=module.run, database=database)
        )
        opened.append(host)
        stack.callback(at_end, host)
        return work(host, given)


def _success(module: AnsibleModule, outcome: Outcome, host: Run) -> dict[str, Any]:
    facts = dict(outcome.facts)
    for warning in (*facts.pop("warnings", []), *host.warnings):
        module.warn(warning)
    changed = outcome.changed or host.has_mended or bool(host.grown)
    result = {
        **facts,
        "changed": changed,
        "settled": [one.record() for one in outcome.settled],
        "actions": records(host.runner.ran),
        **({"grown": host.grown} if host.grown else {}),
    }
    if module._diff and outcome.before != outcome.after:
        result["diff"] = {"before": outcome.before, "after": outcome.after}
    return result


def _failure(error: FlydError, opened: list[Run]) -> dict[str, Any]:
    removed = list(dict.fromkeys(path for host in opened for path in host.removed))
    grown = [one for host in opened for one in host.grown if not host.dry_run]
    shown = {name: value for host in opened for name, value in host.reported.items()}
    return {
        **shown,
        **({"removed": removed} if removed else {}),
        **({"grown": grown} if grown else {}),
        "msg": str(error),
        "error_kind": error.kind.value,
        "retryable": error.retryable,
        "hint": error.hint,
        "doing": list(error.trail),
        "details": dict(error.details),
        "settled": [one.record() for host in opened for one in host.settled],
        "actions": records([line for host in opened for line in host.runner.ran]),
        "attempts": 1 + sum(host.retry.repeated for host in opened),
        "changed": bool(shown.get("changed"))
        or any(host.has_mended or host.removed or host.flipped or host.grown for host in opened),
    }


class _Stopped(BaseException):
    """A signal asked us to end. No ``FlydError``: nothing may retry or handle it, everything must be unwound by it."""


def _unwind_on_signals() -> None:
    """Let an ended connection or a polite kill unwind the work, so that it is undone now instead of by the next run."""

    def stop(number: int, _frame: object) -> None:
        signal.signal(number, signal.SIG_IGN)
        raise _Stopped(signal.Signals(number).name)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fleet: what an operator reads during a rollout, a line a phase and wave."""

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet
type: stdout
short_description: A line for each phase and wave of a rollout
version_added: 0.1.0
description:
  - Shows the lines of P(flyd.lite.rollout#role), how far a phase has come, and in the end the hosts that are not as wanted. What is not of that
    role is shown as by P(ansible.builtin.default#callback).
  - On a terminal the progress is one line that is rewritten; elsewhere it is a line each O(interval).
requirements:
  - To be chosen as C(stdout_callback = flyd.lite.fleet) in C(ansible.cfg), or with E(ANSIBLE_STDOUT_CALLBACK).
author: The flyd.lite authors (!UNKNOWN)
extends_documentation_fragment:
  - default_callback
  - result_format_callback
options:
  interval:
    description:
      - How many seconds to wait between two lines of progress when the output is no terminal.
    type: int
    default: 30
    env:
      - name: FLYD_FLEET_INTERVAL
    ini:
      - section: callback_fleet
        key: interval
"""

import sys
import time
from typing import Any

from ansible.plugins.callback.default import CallbackModule as Default

from ansible_collections.flyd.lite.plugins.plugin_utils._rollout.progress import Progress
from ansible_collections.flyd.lite.plugins.plugin_utils._rollout.report.recorder import STEPS
from ansible_collections.flyd.lite.plugins.plugin_utils._rollout.words import on_terminal

_ROLES = ("flyd.lite.rollout", "flyd.lite.activate")
_DEBUG = ("debug", "ansible.builtin.debug")
_ERASE = "\r\033[K"


class CallbackModule(Default):  # type: ignore[misc]  # ansible-core comes without types
    """The default callback, silent about tasks of the rollout but for their lines."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "flyd.lite.fleet"

    def __init__(self) -> None:
        super().__init__()
        self._is_terminal = sys.stdout.isatty()
        self._progress: Progress | None = None
        self._shown_at = 0.0
        self._size_bytes = 0
        self._hosts = 0
        self._is_rollout = False
        self._is_over = False

    # What is ours is silent.

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """Remember how many hosts there are; a play of a rollout has no banner."""
        self._clear()
        self._is_rollout = all(_is_ours(task) for block in play.get_tasks() for task in _flat(block)) and bool(
            play.get_tasks()
        )
        self._hosts = len(play.get_variable_manager()._inventory.get_hosts(play.hosts)) if self._is_rollout else 0
        if not self._is_rollout:
            super().v2_playbook_on_play_start(play)

    def v2_playbook_on_no_hosts_matched(self) -> None:
        """A phase that has nothing to do."""
        if not self._is_rollout:
            super().v2_playbook_on_no_hosts_matched()

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """A task of the rollout has no banner, but may have progress."""
        self._clear()
        if not _is_ours(task):
            super().v2_playbook_on_task_start(task, is_conditional)
            return
        step = STEPS.get(str(task.register or ""), "")
        self._progress = Progress(step, self._hosts, time.monotonic(), self._size_bytes) if step else None
        self._shown_at = time.monotonic()

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        """Only for other tasks."""
        if not _is_ours(task):
            super().v2_runner_on_start(host, task)

    def v2_runner_on_ok(self, result: Any) -> None:
        """Lines of the role are shown as they are."""
        if not _is_ours(result.task):
            super().v2_runner_on_ok(result)
            return
        if result.task.action in _DEBUG:
            self._clear()
            text = result.result.get("msg")
            for line in text if isinstance(text, list) else [text]:
                self._is_over = self._is_over or str(line).startswith("Verdict")
                self._display.display(on_terminal(str(line)))
        plan = (result.result.get("ansible_facts") or {}).get("__rollout_plan")
        self._size_bytes = int(plan["size"]) if plan else self._size_bytes
        self._advance(result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """A failure that is counted is in the next line, and hosts are named below the verdict; any other one ends the rollout."""
        if not _is_ours(result.task):
            super().v2_runner_on_failed(result, ignore_errors)
            return
        self._advance(result)
        if not ignore_errors and not self._is_over:
            self._clear()
            hint = result.result.get("hint")
            text = f"{result.host.get_name()}: {result.result.get('msg', '')}" + (f" ({hint})" if hint else "")
            self._display.display(on_terminal(text), color="red")

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """As a failure that is counted, but on the first host, whose plays need it."""
        if not _is_ours(result.task):
            super().v2_runner_on_unreachable(result)
            return
        self._advance(result)
        if not result.task.ignore_unreachable:
            self._clear()
            text = f"{result.host.get_name()}: no answer: {result.result.get('msg', '')}"
            self._display.display(on_terminal(text), color="red")

    def v2_runner_on_skipped(self, result: Any) -> None:
        """Only for other tasks."""
        if _is_ours(result.task):
            self._advance(result)
        else:
            super().v2_runner_on_skipped(result)

    def v2_runner_item_on_ok(self, result: Any) -> None:
        """Only for other tasks."""
        if not _is_ours(result.task):
            super().v2_runner_item_on_ok(result)

    def v2_runner_item_on_failed(self, result: Any) -> None:
        """Only for other tasks."""
        if not _is_ours(result.task):
            super().v2_runner_item_on_failed(result)

    def v2_runner_item_on_skipped(self, result: Any) -> None:
        """Only for other tasks."""
        if not _is_ours(result.task):
            super().v2_runner_item_on_skipped(result)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """The verdict says more than a recap of a thousand lines."""
        self._clear()
        if not self._is_rollout:
            super().v2_playbook_on_stats(stats)

    # Progress

    def _advance(self, result: Any) -> None:
        if self._progress is None:
            return
        self._progress.add(int(result.result.get("received_bytes") or 0))
        now = time.monotonic()
        due = 0.2 if self._is_terminal else float(self.get_option("interval"))
        if now - self._shown_at < due:
            return
        self._shown_at = now
        line = self._progress.line(now)
        if line and self._is_terminal:
            sys.stdout.write(_ERASE + line)
            sys.stdout.flush()
        elif line:
            self._display.display(line)

    def _clear(self) -> None:
        if self._is_terminal and self._progress is not None:
            sys.stdout.write(_ERASE)
            sys.stdout.flush()
        self._progress = None


def _is_ours(task: Any) -> bool:
    """Whether a task is one of the roles that a rollout consists of. A meta task, which no callback sees, counts as one."""
    if task.action in ("meta", "ansible.builtin.meta"):
        return True
    role = task._role
    return role is not None and role.get_name() in _ROLES


def _flat(block: Any) -> list[Any]:
    return [task for one in block for task in (_flat(one.block) if hasattr(one, "block") else [one])]

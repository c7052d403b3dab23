# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""rollout: what happened to which host of a rollout when, as lines of JSON, and as a page to look at."""

from __future__ import annotations

DOCUMENTATION = r"""
name: rollout
type: aggregate
short_description: Write the report of a rollout
version_added: 0.1.0
description:
  - Writes C(events.jsonl), C(rollout.json) and C(rollout.html) to the directory of a rollout of P(flyd.lite.rollout#role), which
    O(flyd.lite.rollout#role:main:rollout_directory) names. Other playbooks are ignored.
  - The page is one file that needs no network. Nothing of the options of modules is in any of them.
  - Events are appended as they come, so a run that is killed leaves its part, and the next run of the same rollout appends.
requirements:
  - To be enabled, with C(callbacks_enabled = flyd.lite.rollout) in C(ansible.cfg).
author: The flyd.lite authors (!UNKNOWN)
"""

import json
import os
import time
from typing import Any

from ansible.plugins.callback import CallbackBase

from ansible_collections.flyd.lite.plugins.plugin_utils._rollout.report.document import document
from ansible_collections.flyd.lite.plugins.plugin_utils._rollout.report.page import page
from ansible_collections.flyd.lite.plugins.plugin_utils._rollout.report.recorder import Recorder, Span

_ROLE = "flyd.lite.rollout"


class CallbackModule(CallbackBase):  # type: ignore[misc]  # ansible-core comes without types
    """Feeds a recorder, and writes what it has."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "flyd.lite.rollout"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self._recorder = Recorder()
        self._begun = time.time()
        self._waiting: list[Span] = []
        self._play = ""

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """A play of that name again is the next wave."""
        self._recorder.wave = self._recorder.wave + 1 if play.get_name() == self._play else 1
        self._play = play.get_name()

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        """A task begins on a host."""
        self._recorder.began(host.get_name(), str(task.register or ""), time.time())

    def v2_runner_on_ok(self, result: Any) -> None:
        """A task ended well; of the role's own tasks, their lines and facts."""
        self._ended(result)
        if result.task._role is None or result.task._role.get_name() != _ROLE:
            return
        self._recorder.facts(result.result.get("ansible_facts") or {})
        if result.task.action in ("debug", "ansible.builtin.debug"):
            text = result.result.get("msg")
            self._recorder.lines += [str(one) for one in (text if isinstance(text, list) else [text])]

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """A task failed. One that is not ignored stopped the rollout, unless it is the last one, which names hosts."""
        self._ended(result, failed=True)
        if not ignore_errors and not self._recorder.outcome:
            self._recorder.stopped = str(result.result.get("msg", ""))

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """A host did not answer."""
        self._ended(result, unreachable=True)

    def _ended(self, result: Any, **status: bool) -> None:
        given = {**result.result, **status}
        span = self._recorder.ended(result.host.get_name(), str(result.task.register or ""), given, time.time())
        if span is not None:
            self._waiting.append(span)
            if self._directory and len(self._waiting) >= 20:
                self._append()

    @property
    def _directory(self) -> str:
        """Where the report is written; empty when nothing is, or not yet."""
        directory = str(self._recorder.subject.get("directory") or "")
        return os.path.join(directory, self._recorder.name) if directory and self._recorder.name else ""

    def _append(self) -> None:
        os.makedirs(self._directory, exist_ok=True)
        with open(os.path.join(self._directory, "events.jsonl"), "a", encoding="utf-8") as file:
            for span in self._waiting:
                file.write(json.dumps({name: value for name, value in span._asdict().items() if value}) + "\n")
        self._waiting.clear()

    def _write(self, name: str, text: str) -> str:
        """Put a file in the place of the one before; its path."""
        path = os.path.join(self._directory, name)
        with open(f"{path}.new", "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(f"{path}.new", path)
        return path

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Write the page."""
        if not self._directory:
            return
        try:
            self._append()
            found = document(self._recorder, self._begun, time.time())
            self._write("rollout.json", json.dumps(found))
            self._display.display(f"Report     {self._write('rollout.html', page(found))}")
        except OSError as error:
            self._display.warning(f"the report of the rollout cannot be written: {error}")

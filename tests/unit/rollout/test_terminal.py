# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What hosts and guests say reaches the operator's terminal as text."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from plugin_utils._rollout.words import on_terminal

HOSTILE = "\x1b]0;title\x07 \x9b2J\r\u202etxt"
SHOWN = r"\x1b]0;title\x07 \x9b2J\r\u202etxt"
# In a process of its own: what a controller imports changes what modules of Ansible do with warnings.
CALL = """
import json, sys
from types import SimpleNamespace
from ansible_collections.flyd.lite.plugins.callback.fleet import CallbackModule

def result(**facts):
    role = SimpleNamespace(get_name=lambda **_options: "flyd.lite.rollout")
    task = SimpleNamespace(action="debug", _role=role, ignore_unreachable=False)
    return SimpleNamespace(task=task, host=SimpleNamespace(get_name=lambda: "h1"), result=facts)

lines, hostile, made = [], json.loads(sys.argv[1]), CallbackModule()
made._display = SimpleNamespace(display=lambda text, **_options: lines.append(text))
made._advance, made._clear = lambda _result: None, lambda: None
made.v2_runner_on_ok(result(msg=[f"Wave 1/2 lost 1: {hostile}"]))
made.v2_runner_on_failed(result(msg=hostile, hint=hostile))
made.v2_runner_on_unreachable(result(msg=hostile))
print(json.dumps(lines))
"""


def test_no_character_is_left_that_a_terminal_acts_on() -> None:
    assert on_terminal(HOSTILE) == SHOWN
    assert on_terminal("237 MiB · wäre") == "237 MiB · wäre"


def test_the_callback_shows_messages_of_hosts_as_text(tmp_path: Path) -> None:
    namespace = tmp_path / "ansible_collections/flyd"
    namespace.mkdir(parents=True)
    (namespace / "lite").symlink_to(Path(__file__).parents[3])
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    argv = [sys.executable, "-c", CALL, json.dumps(HOSTILE)]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    expected = [f"Wave 1/2 lost 1: {SHOWN}", f"h1: {SHOWN} ({SHOWN})", f"h1: no answer: {SHOWN}"]
    assert json.loads(done.stdout.splitlines()[-1]) == expected

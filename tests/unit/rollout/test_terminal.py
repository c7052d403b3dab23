# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What hosts and guests say reaches the operator's terminal as text."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from plugin_utils._rollout.words import on_terminal

HOSTILE = "\x1b]0;title\x07 \x9b2J\r\u202etxt"
SHOWN = r"\x1b]0;title\x07 \x9b2J\r\u202etxt"


@pytest.fixture
def callback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, list[str]]]:
    """The callback under its name in the collection, and the lines that it has shown."""
    namespace = tmp_path / "ansible_collections/flyd"
    namespace.mkdir(parents=True)
    (namespace / "lite").symlink_to(Path(__file__).parents[3])
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("ansible_collections.flyd.lite.plugins.callback.fleet")
    lines: list[str] = []
    made = module.CallbackModule()
    monkeypatch.setattr(made, "_display", SimpleNamespace(display=lambda text, **_options: lines.append(text)))
    monkeypatch.setattr(made, "_advance", lambda _result: None)
    monkeypatch.setattr(made, "_clear", lambda: None)
    yield made, lines
    for name in [name for name in sys.modules if name.startswith("ansible_collections")]:
        del sys.modules[name]


def result(**facts: Any) -> SimpleNamespace:
    role = SimpleNamespace(get_name=lambda **_options: "flyd.lite.rollout")
    task = SimpleNamespace(action="debug", _role=role, ignore_unreachable=False)
    return SimpleNamespace(task=task, host=SimpleNamespace(get_name=lambda: "h1"), result=facts)


def test_no_character_is_left_that_a_terminal_acts_on() -> None:
    assert on_terminal(HOSTILE) == SHOWN
    assert on_terminal("237 MiB · wäre") == "237 MiB · wäre"


def test_the_callback_shows_messages_of_hosts_as_text(callback: tuple[Any, list[str]]) -> None:
    made, lines = callback
    made.v2_runner_on_ok(result(msg=[f"Wave 1/2 lost 1: {HOSTILE}"]))
    made.v2_runner_on_failed(result(msg=HOSTILE, hint=HOSTILE))
    made.v2_runner_on_unreachable(result(msg=HOSTILE))
    assert lines == [f"Wave 1/2 lost 1: {SHOWN}", f"h1: {SHOWN} ({SHOWN})", f"h1: no answer: {SHOWN}"]

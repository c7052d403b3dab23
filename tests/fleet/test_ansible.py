# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ansible-core does with hosts that fail or do not answer, as rollout.yml relies on it, and the reasons why it counts for itself.

A test that fails here with a new ansible-core says that one of these has changed: the playbook may become simpler, or wrong.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ansible", reason="ansible-core is not installed")

ROOT = Path(__file__).parents[2]
ANSIBLE = Path(sys.executable).with_name("ansible-playbook")
Play = dict[str, Any]
ASK_DEAD = {"name": "ask", "ansible.builtin.ping": {}, "when": "dead | default(false)"}
MARK = {"name": "mark", "ansible.builtin.debug": {"msg": "{{ inventory_hostname }} is marked"}}


class Plays:
    """Runs plays on hosts, of which some are dead."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def run(self, *plays: Play, dead: tuple[str, ...] = (), hosts: int = 6) -> tuple[int, str]:
        """The exit code and the output."""
        names = [f"h{number}" for number in range(1, hosts + 1)]
        given = {name: {"dead": name in dead, "ansible_connection": "sim"} for name in names}
        (self._directory / "hosts.json").write_text(json.dumps({"all": {"hosts": given}}))
        book = [{"hosts": "all", "gather_facts": False, **play} for play in plays]
        (self._directory / "book.json").write_text(json.dumps(book))
        argv = [str(ANSIBLE), "-i", str(self._directory / "hosts.json"), str(self._directory / "book.json")]
        environment = {
            **os.environ,
            "ANSIBLE_CONNECTION_PLUGINS": str(ROOT / "tests/fleet/connection_plugins"),
            "ANSIBLE_PIPELINING": "1",
            "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_HOME": str(self._directory / "home"),
        }
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    def marked(self, *plays: Play, **given: Any) -> list[str]:
        """The hosts on which the task of the name mark ran, in any play."""
        _code, output = self.run(*plays, **given)
        return sorted(set(re.findall(r'"msg": "(h\d+) is marked', output)))


@pytest.fixture
def plays(tmp_path: Path) -> Plays:
    return Plays(tmp_path)


FAIL_FIRST = {"ansible.builtin.fail": {"msg": "no"}, "when": "inventory_hostname == ansible_play_batch[0]"}


def test_the_share_of_failures_begins_anew_in_each_batch(plays: Plays) -> None:
    found = plays.marked({"serial": 3, "max_fail_percentage": 40, "tasks": [FAIL_FIRST, MARK]})
    assert found == ["h2", "h3", "h5", "h6"], "one of three failed in each batch, and both batches ran"


def test_the_share_of_failures_does_not_count_hosts_that_do_not_answer(plays: Plays) -> None:
    play = {"serial": 3, "max_fail_percentage": 0, "tasks": [ASK_DEAD, MARK]}
    assert plays.marked(play, dead=("h1", "h2")) == ["h3", "h4", "h5", "h6"]


def test_any_errors_fatal_lets_the_next_batch_begin_after_a_host_that_does_not_answer(plays: Plays) -> None:
    play = {"serial": 3, "any_errors_fatal": True, "tasks": [ASK_DEAD, MARK]}
    assert plays.marked(play, dead=("h1",)) == ["h4", "h5", "h6"]


@pytest.mark.parametrize(("ignore", "marked"), [(False, []), (True, [f"h{number}" for number in range(1, 7)])])
def test_a_batch_that_is_dead_as_a_whole_ends_all_plays_unless_that_is_ignored(
    plays: Plays, ignore: bool, marked: list[str]
) -> None:
    first = {"serial": 2, "ignore_unreachable": ignore, "tasks": [ASK_DEAD]}
    assert plays.marked(first, {"tasks": [MARK]}, dead=("h1", "h2")) == marked


def test_neither_rescue_nor_always_runs_for_a_host_that_does_not_answer(plays: Plays) -> None:
    block = {"block": [ASK_DEAD], "rescue": [MARK], "always": [MARK]}
    assert plays.marked({"tasks": [block]}, dead=("h1",)) == ["h2", "h3", "h4", "h5", "h6"]


def test_end_play_ends_all_batches_and_the_next_play_runs(plays: Plays) -> None:
    """The brake of the waves. Its condition sees what earlier batches have registered."""
    seen = "ansible_play_hosts_all | map('extract', hostvars) | selectattr('asked', 'defined') | list | length > 0"
    first: Play = {
        "serial": 2,
        "tasks": [
            {"ansible.builtin.meta": "end_play", "when": seen},
            {**MARK, "register": "asked"},
        ],
    }
    second = {"hosts": "h6", "tasks": [MARK]}
    assert plays.marked(first, second) == ["h1", "h2", "h6"]


def test_hosts_of_a_later_play_are_chosen_by_groups_that_an_earlier_one_has_made(plays: Plays) -> None:
    group = {"ansible.builtin.add_host": {"name": "h2", "groups": "left_out"}, "run_once": True}
    hosts = "all{{ ':!left_out' if 'left_out' in groups else '' }}"
    assert plays.marked({"tasks": [group]}, {"hosts": hosts, "tasks": [MARK]}, hosts=3) == ["h1", "h3"]


def test_hosts_of_a_later_play_are_a_list_that_an_earlier_one_has_made_in_its_order(plays: Plays) -> None:
    """A list that is to be empty needs a pattern that matches nothing: without one, it would be an error."""
    chosen = {"ansible.builtin.set_fact": {"chosen": ["h3", "h2"]}, "run_once": True}
    play = {"hosts": "{{ hostvars.h1.chosen + ['h1', '!h1'] }}", "tasks": [MARK]}
    code, output = plays.run({"tasks": [chosen]}, {**play, "serial": 1}, hosts=4)
    assert (code, re.findall(r'"msg": "(h\d+) is marked', output)) == (0, ["h3", "h2"])
    none = {"ansible.builtin.set_fact": {"chosen": []}, "run_once": True}
    assert plays.marked({"tasks": [none]}, play, hosts=3) == []


def test_what_is_registered_is_read_without_its_templates(plays: Plays) -> None:
    """The filters read ``hostvars.raw_get``, which copies nothing and renders nothing."""
    asked = {**MARK, "register": "asked"}
    raw = {"ansible.builtin.debug": {"msg": "{{ hostvars.raw_get('h2').asked.msg }}"}, "run_once": True}
    _code, output = plays.run({"tasks": [asked]}, {"hosts": "h1", "tasks": [raw]}, hosts=2)
    assert output.count('"msg": "h2 is marked') == 2


def test_defaults_of_a_module_can_be_one_expression_that_leaves_options_out(plays: Plays) -> None:
    given = "{{ dict([['msg', inventory_hostname ~ ' is marked'], ['verbosity', omit]]) }}"
    task = {"ansible.builtin.debug": {}, "module_defaults": {"ansible.builtin.debug": given}}
    assert plays.marked({"tasks": [task]}, hosts=2) == ["h1", "h2"]


def test_the_size_of_batches_can_be_a_variable_of_a_host(plays: Plays) -> None:
    size = {"ansible.builtin.set_fact": {"waves": [1, 5]}, "run_once": True}
    serial = "{{ hostvars.get('h1', {}).waves | default([6]) }}"
    code, output = plays.run({"tasks": [size]}, {"name": "in waves", "serial": serial, "tasks": [MARK]})
    assert (code, output.count("PLAY [in waves]")) == (0, 2)

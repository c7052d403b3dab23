# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A result shows what was done as records; every command line that there can be has a verb."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from module_utils._host.processes.command import CommandLine, Program
from module_utils._lifecycle.actions import VERBS, Verb, records

CODE = "\n".join(path.read_text() for path in (Path(__file__).parents[3] / "plugins/module_utils").rglob("*.py"))


def test_a_program_that_is_run_again_and_again_is_one_record() -> None:
    remove, status = CommandLine("dmsetup", "remove", "--verifyudev", "one"), CommandLine("dmsetup", "status", "one")
    assert [(one["action"], one["count"]) for one in records([remove, remove, remove, status, remove])] == [
        ("remove_device", 3),
        ("read_status", 1),
        ("remove_device", 1),
    ]
    assert records([]) == []


@pytest.mark.parametrize(
    ("argv", "action", "subject"),
    [
        ("dmsetup create pool --uuid FLYD-1 --table 0", "create_device", "/dev/mapper/pool"),
        ("dmsetup remove --verifyudev one", "remove_device", "/dev/mapper/one"),
        ("dmsetup status --noflush pool", "read_status", "/dev/mapper/pool"),
        ("dmsetup message pool 0 delete", "send_message", "/dev/mapper/pool"),
        ("dmsetup info --columns --options name,open one two", "read_device", "/dev/mapper/one, /dev/mapper/two"),
        ("dmsetup target-version thin-pool", "find_target", ""),
        ("losetup --find --show --nooverlap /data", "attach_loop", "/data"),
        ("losetup --detach /dev/loop1 /dev/loop2", "detach_loop", "/dev/loop1, /dev/loop2"),
        ("losetup --list --json", "list_loops", ""),
        ("fallocate --length 7 /data", "allocate_file", "/data"),
        ("thin_check -q /metadata", "check_metadata", "/metadata"),
        ("thin_repair -i /old -o /new --transaction-id 1", "repair_metadata", "/old"),
        ("e2fsck -f -n /dev/mapper/base", "check_filesystem", "/dev/mapper/base"),
    ],
)
def test_an_action_says_what_was_done_to_what(argv: str, action: str, subject: str) -> None:
    assert records([CommandLine(*argv.split())]) == [{"action": action, "subject": subject, "count": 1, "text": argv}]


def test_every_program_that_is_run_has_a_verb() -> None:
    run = {Program[name].value for name in re.findall(r"runner\.run\(\s*Program\.(\w+)", CODE)}
    assert run
    assert run == {words[0] for words in VERBS} - {"fallocate", "switch"}  # the last is the operator's: hook.py


def test_every_verb_of_dmsetup_that_is_used_has_one_here() -> None:
    used = set(re.findall(r'(?:_dmsetup\(|ask\([\w.]+, \(|words = \()\s*(?:runner, |self\.runner, )?"([a-z-]+)"', CODE))
    assert {"create", "message", "info"} <= used
    assert used == {words[1] for words in VERBS if words[0] == "dmsetup"}


def test_every_word_is_used() -> None:
    assert set(VERBS.values()) == set(Verb)

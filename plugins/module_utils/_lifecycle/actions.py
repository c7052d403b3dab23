# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The changes and queries of the host by a run, command by command, as its result reports them.

Invariant: every command line that a ``Runner`` records has a verb here; the verbs are part of the interface, and RETURN lists them all.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Iterable

from .._host.processes.command import CommandLine


class Verb(str, enum.Enum):
    """What was done (``action``)."""

    CREATE_DEVICE = "create_device"
    REMOVE_DEVICE = "remove_device"
    SUSPEND_DEVICE = "suspend_device"
    RESUME_DEVICE = "resume_device"
    LOAD_TABLE = "load_table"
    CLEAR_TABLE = "clear_table"
    SEND_MESSAGE = "send_message"
    READ_STATUS = "read_status"
    READ_TABLE = "read_table"
    READ_DEVICE = "read_device"
    CREATE_NODE = "create_node"
    FIND_TARGET = "find_target"
    ATTACH_LOOP = "attach_loop"
    DETACH_LOOP = "detach_loop"
    RESIZE_LOOP = "resize_loop"
    LIST_LOOPS = "list_loops"
    ALLOCATE_FILE = "allocate_file"
    PROBE_DEVICE = "probe_device"
    DISCARD_DEVICE = "discard_device"
    CREATE_FILESYSTEM = "create_filesystem"
    CHECK_FILESYSTEM = "check_filesystem"
    GROW_FILESYSTEM = "grow_filesystem"
    CHECK_METADATA = "check_metadata"
    REPAIR_METADATA = "repair_metadata"
    DUMP_METADATA = "dump_metadata"
    SWITCH_GUEST = "switch_guest"
    START_TIMER = "start_timer"
    STOP_TIMER = "stop_timer"


# By the words that a command line begins with.
VERBS = {
    ("dmsetup", "create"): Verb.CREATE_DEVICE,
    ("dmsetup", "remove"): Verb.REMOVE_DEVICE,
    ("dmsetup", "suspend"): Verb.SUSPEND_DEVICE,
    ("dmsetup", "resume"): Verb.RESUME_DEVICE,
    ("dmsetup", "load"): Verb.LOAD_TABLE,
    ("dmsetup", "clear"): Verb.CLEAR_TABLE,
    ("dmsetup", "message"): Verb.SEND_MESSAGE,
    ("dmsetup", "status"): Verb.READ_STATUS,
    ("dmsetup", "table"): Verb.READ_TABLE,
    ("dmsetup", "info"): Verb.READ_DEVICE,
    ("dmsetup", "mknodes"): Verb.CREATE_NODE,
    ("dmsetup", "target-version"): Verb.FIND_TARGET,
    ("dmsetup", "targets"): Verb.FIND_TARGET,
    ("losetup", "--find"): Verb.ATTACH_LOOP,
    ("losetup", "--detach"): Verb.DETACH_LOOP,
    ("losetup", "--set-capacity"): Verb.RESIZE_LOOP,
    ("losetup", "--list"): Verb.LIST_LOOPS,
    ("fallocate",): Verb.ALLOCATE_FILE,
    ("blkid",): Verb.PROBE_DEVICE,
    ("blkdiscard",): Verb.DISCARD_DEVICE,
    ("mkfs.ext4",): Verb.CREATE_FILESYSTEM,
    ("e2fsck",): Verb.CHECK_FILESYSTEM,
    ("resize2fs",): Verb.GROW_FILESYSTEM,
    ("thin_check",): Verb.CHECK_METADATA,
    ("thin_repair",): Verb.REPAIR_METADATA,
    ("thin_dump",): Verb.DUMP_METADATA,
    ("switch",): Verb.SWITCH_GUEST,
    ("systemd-run",): Verb.START_TIMER,
    ("systemctl",): Verb.STOP_TIMER,
}
# They concern no device.
_NOTHING = (Verb.LIST_LOOPS, Verb.FIND_TARGET, Verb.SWITCH_GUEST, Verb.START_TIMER, Verb.STOP_TIMER)


def records(ran: Iterable[CommandLine]) -> list[dict[str, object]]:
    """The records of ``ran``; one stands for a line that is repeated at once, as a device that was busy is tried many times."""
    runs = ((line, len(list(same))) for line, same in itertools.groupby(ran))
    return [
        {"action": verb_of(line).value, "subject": ", ".join(_subjects(line)), "count": count, "text": str(line)}
        for line, count in runs
    ]


def verb_of(line: CommandLine) -> Verb:
    """What the program did."""
    return VERBS.get(line.argv[:1]) or VERBS[line.argv[0], line.argv[1]]


def _subjects(line: CommandLine) -> tuple[str, ...]:
    """The paths of the files and devices that it was done to."""
    program, *words = line.argv
    verb = verb_of(line)
    if verb in _NOTHING:
        return ()
    if program == "dmsetup":
        return tuple(f"/dev/mapper/{name}" for name in _names(verb, words))
    if verb is Verb.DETACH_LOOP:
        return tuple(words[1:])
    return (words[words.index("-i") + 1],) if verb is Verb.REPAIR_METADATA else (words[-1],)


def _names(verb: Verb, words: list[str]) -> list[str]:
    if verb is Verb.READ_DEVICE:  # options with values, then one name or several
        return words[words.index("--options") + 2 :]
    return [next(word for word in words[1:] if not word.startswith("--"))]

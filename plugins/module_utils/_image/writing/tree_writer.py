# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write a plan with several processes, in the writer's sandbox.

Invariant: directories are there before anything is made in them, hard links come after what they link to, and directories get
their attributes last, when nothing in them changes any more. Runs in a process of its own: it never gets its old root back.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Sequence
from typing import Callable, NamedTuple

from ..merge.inodes import File, Inode
from ..merge.plan import Plan
from ..options import Options
from ..phases import Phases
from .sandbox import contain, lock_calls
from .workers import Team
from .writer import Writer

_LEAF_COST_BYTES = 65536  # making a file takes as long as copying this much, measured on ext4
_MAX_PROCESSES = 4
_LEAVES_WORTH_A_PROCESS = 256


class Written(NamedTuple):
    """What a writer answers: seconds by phase, and the isolation that this host could not set up."""

    seconds: dict[str, float]
    missing_isolation: list[str]


def write_tree(plan: Plan, root_fd: int, options: Options) -> Written:
    """Write ``plan`` into the empty directory ``root_fd``. For a child process only."""
    # The tree is shared with the parent until one of us touches it; the collector would touch all of it.
    gc.disable()
    cuts = shares(plan.leaves.inodes, processes_of(options))
    parts = [_part(plan, root_fd, options, range(*cut)) for cut in cuts]
    team = Team(parts, "writing files", lock_calls)
    missing = contain(root_fd, options.limits, team.start)
    phases = Phases()
    writer = Writer(plan, root_fd, options.limits)
    with phases.phase("directories"):
        writer.make_directories(range(1, len(plan.directories)))
        writer.close()
    with phases.phase("files"):
        team.run()
    with phases.phase("finish"):
        writer.make_hard_links(plan.hard_links)
        writer.finish_directories()
        writer.close()
    return Written(phases.seconds, missing)


def _part(plan: Plan, root_fd: int, options: Options, rows: Sequence[int]) -> Callable[[], None]:
    def work() -> None:
        writer = Writer(plan, root_fd, options.limits)
        writer.write_leaves(rows)
        writer.close()

    return work


def processes_of(options: Options) -> int:
    """How many processes may write side by side."""
    return options.processes or min(_MAX_PROCESSES, len(os.sched_getaffinity(0)))


def shares(inodes: Sequence[Inode], processes: int) -> list[tuple[int, int]]:
    """Positions (begin, end) in ``inodes`` for each process: contiguous, so that each reads forward, and of equal cost."""
    count = len(inodes)
    processes = max(1, min(processes, count // _LEAVES_WORTH_A_PROCESS))
    costs = list(map(_cost, inodes))
    total = sum(costs)
    cuts, cost = [0], 0
    for at, own in enumerate(costs):
        # A leaf belongs to the share in which most of it lies.
        if (cost + own // 2) * processes >= total * len(cuts):
            cuts.append(at)
        cost += own
    return list(zip(cuts, [*cuts[1:], count]))


def _cost(inode: Inode) -> int:
    return _LEAF_COST_BYTES + (inode.stored_bytes if isinstance(inode, File) else 0)

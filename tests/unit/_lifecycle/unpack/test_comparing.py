# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a rebuilt layer is new: found by comparing with the earlier archive, or where it is not at hand with the files of the base."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from module_utils._image.opening import Offered
from module_utils._lifecycle.outcome import Facts
from module_utils._lifecycle.store.records import RetiredImage
from module_utils._lifecycle.unpack import choosing
from tests.unit._lifecycle.conftest import Stages
from tests.unit._lifecycle.machine import KEY, Machine
from tests.unit._lifecycle.unpack.test_origins import newest, with_next
from tests.unit.builders import tar

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="writing a tree with its owners needs root")
SAME = random.Random(1).randbytes(10_000)


def rebuilt(number: int) -> bytes:
    """A layer with one file that stays the same at another place, and another whose content changes while its size does not."""
    new = [tar.file(b"etc/new", b"new")] * number
    return tar.tar(*new, tar.file(b"etc/same", SAME, mtime=number), tar.file(b"etc/version", b"%d" % number))


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The inodes of the archives that were offered to the reader, each time."""
    found: list[list[int]] = []

    def offer(manifest_fd: int, is_trusted: bool, archive_fds: tuple[int, ...], digests: tuple[str, ...]) -> Offered:
        found.append([os.fstat(fd).st_ino for fd in archive_fds])
        return Offered(manifest_fd, is_trusted, archive_fds, digests)

    monkeypatch.setattr(choosing, "Offered", offer)
    return found


@pytest.fixture
def machine(stages: Stages) -> Machine:
    """A host with a base, and the archive of the next generation, whose layer was rebuilt."""
    return with_next(stages.at("roomy"), [(rebuilt(number),) for number in range(2)])


def earlier_archive(machine: Machine) -> Path:
    [retired] = machine.records(RetiredImage)
    return Path(machine.state, "archives", retired.sha256)


def check(machine: Machine, facts: Facts) -> None:
    """Only what is new was written, and the tree is right."""
    assert (facts["fresh_because"], facts["reused_bytes"], facts["written_bytes"]) == (None, len(SAME), len("new1"))
    assert machine.tree_of(newest(machine)) == {"etc/new": b"new", "etc/same": SAME, "etc/version": b"1"}


def test_the_earlier_archive_is_compared(machine: Machine, offered: list[list[int]]) -> None:
    archive = earlier_archive(machine).stat().st_ino
    check(machine, machine.unpack_onto().facts)
    assert offered == [[archive]]
    assert machine.left_over() == []


def test_an_archive_that_was_touched_is_not(machine: Machine, offered: list[list[int]]) -> None:
    os.utime(earlier_archive(machine))
    check(machine, machine.unpack_onto().facts)
    assert offered == [[]]


def test_nor_one_that_is_gone(machine: Machine, offered: list[list[int]]) -> None:
    earlier_archive(machine).unlink()
    check(machine, machine.unpack_onto().facts)
    assert offered == [[]]


def test_nor_that_of_another_key(machine: Machine, offered: list[list[int]]) -> None:
    machine.publish_other(rebuilt(0), rebuilt(1))
    facts = machine.unpack_other().facts
    assert facts["origin_key"] == KEY.value
    assert offered == [[]]

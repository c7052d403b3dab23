# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The next generation from a real S3 server, when archives on the host go or break meanwhile, and when the other side is hostile."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults import kinds
from tests.faults.proxy import FaultProxy
from tests.s3.conftest import Host, Stored
from tests.s3.downloads.test_reuse import APP, BASE, BEFORE, MIB, MIDDLE, NEXT_APP, next_generation, patient
from tests.unit.builders import images

__all__ = ["patient"]  # a busy machine is no reason to look no further


@pytest.fixture
def stored(store: Callable[[int], Stored]) -> Stored:
    found = store(0)
    found.replace(images.docker_archive([BASE, MIDDLE, NEXT_APP]))
    return found


def in_the_search(proxy: FaultProxy, host: Host, change: Callable[[Path], object]) -> None:
    """Change the archive on the host when its headers were read, before the first answer for a part of the object."""
    kept = host.directory / "kept" / hashlib.sha256(BEFORE).hexdigest()
    proxy.plan(kinds.before(lambda: change(kept)), skip=1)


def test_an_archive_that_is_removed_meanwhile_is_still_open(host: Host, proxy: FaultProxy, stored: Stored) -> None:
    in_the_search(proxy, host, Path.unlink)
    arrived = next_generation(host, stored, BEFORE)
    assert host.final.read_bytes() == stored.content
    assert arrived.bytes_reused > 30 * MIB


@pytest.mark.parametrize("kept_bytes", [0, 20 * MIB])
def test_of_an_archive_that_is_cut_meanwhile_only_what_is_there_counts(
    host: Host, proxy: FaultProxy, stored: Stored, kept_bytes: int
) -> None:
    in_the_search(proxy, host, lambda path: os.truncate(path, kept_bytes))
    arrived = next_generation(host, stored, BEFORE)
    assert host.final.read_bytes() == stored.content
    assert (arrived.bytes_reused, arrived.not_reused_because) == (0, "copy_differs")


def test_an_archive_that_rots_meanwhile_gives_nothing_of_the_layer(
    host: Host, proxy: FaultProxy, stored: Stored
) -> None:
    def rot(path: Path) -> None:
        with path.open("r+b") as file:
            file.seek(MIB)
            file.write(b"rotten")

    in_the_search(proxy, host, rot)
    arrived = next_generation(host, stored, BEFORE)
    assert host.final.read_bytes() == stored.content
    assert len(MIDDLE) - 64 * 1024 <= arrived.bytes_reused < len(BASE), "but for the headers, which have come before"
    assert arrived.not_reused_because == "copy_differs"


@pytest.mark.parametrize("is_expected", [False, True])
def test_a_gateway_that_answers_pages_with_other_bytes_gives_none_of_them(
    host: Host, proxy: FaultProxy, stored: Stored, is_expected: bool
) -> None:
    proxy.plan(kinds.other_range, skip=1, times=2)
    next_generation(host, stored, BEFORE, checksum=f"sha256:{stored.sha256}" if is_expected else "")
    assert host.final.read_bytes() == stored.content


def test_a_tar_of_members_without_end_is_downloaded_whole(host: Host, stored: Stored) -> None:
    stored.replace(images.archive({b"%d" % number: bytes(20 << 10) for number in range(1700)}))
    arrived = next_generation(host, stored, BEFORE)
    assert host.final.read_bytes() == stored.content
    assert (arrived.bytes_reused, arrived.not_reused_because) == (0, "walk_too_long")
    assert arrived.walk_requests <= 64 + 16 + 2


def test_a_layer_whose_name_lies_is_downloaded_when_the_whole_has_a_digest(host: Host, stored: Stored) -> None:
    """The object names the layer that the host has, and holds another one of the same size."""
    claimed = images.docker_archive([BASE, MIDDLE, APP])
    stored.replace(claimed.replace(MIDDLE, bytes(len(MIDDLE))))
    arrived = next_generation(host, stored, BEFORE, checksum=f"sha256:{stored.sha256}")
    assert host.final.read_bytes() == stored.content
    assert (arrived.bytes_reused, arrived.not_reused_because, arrived.attempts) == (0, "wrong_digest", 2)

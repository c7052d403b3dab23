# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is requested together before the headers of an object are read, by the archive of an earlier generation."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from module_utils._host.retry import Retry
from module_utils._image.outline.claims import Claim, claims
from module_utils._lifecycle.fetch.ahead import Ahead, outline_of
from module_utils._names import ObjectKey
from module_utils._source.body import Body
from module_utils._source.download.partfile import open_part
from module_utils._source.download.retry_policy import DownloadOptions, Patience
from module_utils._source.objects import ObjectInfo
from module_utils._source.reuse import paged
from module_utils._source.reuse.paged import AHEAD_AT_ONCE, Paged
from tests.unit._source.download.test_reuse import Elsewhere
from tests.unit.builders import images, tar

KIB = 1 << 10


def layer(seed: int, size_bytes: int = 100 * KIB) -> bytes:
    return tar.tar(tar.file(b"file%d" % seed, random.Random(seed).randbytes(size_bytes)))


A, B, APP, NEXT_APP, LARGER_APP = layer(1), layer(2), layer(3), layer(4), layer(5, 170 * KIB)


class Watched(Elsewhere):
    """Counts the requests that were made one after another."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.alone = 0

    def open(self, info: ObjectInfo, first_byte: int = 0, last_byte: int | None = None) -> Body:
        self.alone += threading.current_thread() is threading.main_thread()
        return super().open(info, first_byte, last_byte)


class Walk(NamedTuple):
    """What was found, and by how many requests: in all, and one after another."""

    claims: tuple[Claim, ...] | None
    requests: int
    alone: int


@pytest.fixture(autouse=True)
def boundless(monkeypatch: pytest.MonkeyPatch) -> None:
    """The archives here are small, and the machine may be busy."""
    monkeypatch.setattr(paged, "_MAX_PERCENT", 100 * 100)
    monkeypatch.setattr(paged, "_MAX_SECONDS", 600.0)


@pytest.fixture
def walk(tmp_path: Path) -> Callable[[bytes, bytes], Walk]:
    """Read the headers of the second archive on a host that has the first."""

    def walked(before: bytes, after: bytes) -> Walk:
        old, new, part = tmp_path / "old", tmp_path / "new", tmp_path / "part"
        old.write_bytes(before)
        new.write_bytes(after)
        source = Watched(new)
        info = source.head(ObjectKey("archive.tar"))
        with open_part(str(part), info, resume=False) as opened, old.open("rb") as file:
            elsewhere = Paged(source, opened, Patience(Retry(), 600, 16), DownloadOptions())
            ahead = Ahead(elsewhere, file.fileno(), outline_of(file.fileno()))
            found = claims(ahead.read, elsewhere.size_bytes)
        part.unlink()
        assert found == claims(lambda offset, _least, most: after[offset : offset + most], len(after))
        return Walk(found, elsewhere.requests, source.alone)

    return walked


def oci(layers: Sequence[bytes]) -> bytes:
    """In the order of names, as docker 25 and later write it."""
    return images.archive(dict(sorted(images.oci_members(layers).items())))


LAYOUTS: list[Callable[[Sequence[bytes]], bytes]] = [images.docker_archive, images.oci_archive, oci]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_where_it_was_is_requested_at_once(
    walk: Callable[[bytes, bytes], Walk], layout: Callable[[Sequence[bytes]], bytes]
) -> None:
    content = layout([A, B, APP])
    assert walk(content, content).alone == 0


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "after",
    [[A, B, NEXT_APP], [A, B, LARGER_APP], [A, LARGER_APP, B], [LARGER_APP, A, B], [A, APP], [A, B, APP, NEXT_APP]],
)
def test_what_has_moved_takes_few_requests_one_after_another(
    walk: Callable[[bytes, bytes], Walk], layout: Callable[[Sequence[bytes]], bytes], after: list[bytes]
) -> None:
    done = walk(layout([A, B, APP]), layout(after))
    assert done.claims is not None
    assert done.alone <= 3
    assert done.requests <= 10


def test_of_many_layers_as_many_are_requested_together_as_there_are_connections(
    walk: Callable[[bytes, bytes], Walk],
) -> None:
    many = [layer(100 + number, 66 * KIB) for number in range(90)]
    changed = [LARGER_APP if at in (7, 40) else one for at, one in enumerate(many)]
    assert walk(images.docker_archive(many), images.docker_archive(many)).alone == 0
    done = walk(images.docker_archive(many), images.docker_archive(changed))
    assert done.alone <= 3
    assert done.requests <= 90 + 2 * AHEAD_AT_ONCE + 4


@pytest.mark.parametrize("seed", range(20))
def test_nothing_that_is_read_depends_on_it(walk: Callable[[bytes, bytes], Walk], seed: int) -> None:
    """``walk`` compares what was found with what a reader of the whole file finds."""
    chance = random.Random(seed)
    layouts = [chance.choice(LAYOUTS) for _ in range(2)]
    before, after = ([layer(chance.randrange(6), 90 * KIB) for _ in range(chance.randrange(1, 6))] for _ in range(2))
    walk(layouts[0](before), layouts[1](after))


def test_an_archive_that_is_shorter_than_the_earlier_one(walk: Callable[[bytes, bytes], Walk]) -> None:
    done = walk(images.docker_archive([A, B, APP, LARGER_APP]), images.docker_archive([A]))
    assert done.claims is not None
    assert [one.size_bytes for one in done.claims] == [len(A)]


def test_the_outline_tells_what_was_read(tmp_path: Path) -> None:
    content = images.docker_archive([A, B])
    (tmp_path / "old").write_bytes(content)
    with (tmp_path / "old").open("rb") as file:
        outline = outline_of(file.fileno())
    assert (outline.size_bytes, [one.size_bytes for one in outline.claims]) == (len(content), [len(A), len(B)])
    assert outline.parts[0][0] == 0
    assert os.path.getsize(tmp_path / "old") == len(content)

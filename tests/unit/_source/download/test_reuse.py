# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parts of a download that are taken from other files: what counts, what does not, and what is left after a kill."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from module_utils._errors import FlydError, Transient, Untrusted
from module_utils._host.retry import Retry
from module_utils._names import Digest, ObjectKey
from module_utils._source.body import Body
from module_utils._source.download import partfile
from module_utils._source.download.download import Downloaded, download
from module_utils._source.download.partfile import load
from module_utils._source.download.rate import Rate
from module_utils._source.download.retry_policy import DownloadOptions, Patience
from module_utils._source.host_file import HostFile
from module_utils._source.objects import ObjectInfo
from module_utils._source.options import S3Options
from module_utils._source.place import Place
from module_utils._source.reuse import paged
from module_utils._source.reuse.paged import Paged
from module_utils._source.reuse.seeding import Seed, Seeds
from module_utils._source.s3_errors import ObjectChanged, RangesRefused

KIB = 1 << 10
CONTENT = random.Random(1).randbytes(4096 * KIB)
SHARED = (512 * KIB, 3584 * KIB)  # what another file has too
PAGE = 4 * KIB
OPTIONS = DownloadOptions(streams=2, segment_bytes=256 * KIB, chunk_bytes=64 * KIB, checkpoint_seconds=0)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


RIGHT = Digest("sha256", sha256(CONTENT))


class Elsewhere(HostFile):
    """An object that is a file, and what was requested of it; ``fails`` is asked before each request, by its number."""

    def __init__(self, path: Path, fails: Callable[[int], None] = lambda _number: None) -> None:
        super().__init__(S3Options(bucket="none"), Place(path=str(path)))
        self.asked: list[tuple[int, int]] = []
        self._fails = fails

    def open(self, info: ObjectInfo, first_byte: int = 0, last_byte: int | None = None) -> Body:
        last = info.size_bytes - 1 if last_byte is None else last_byte
        self.asked.append((first_byte, last + 1))
        self._fails(len(self.asked))
        return super().open(info, first_byte, last_byte)

    @property
    def bytes_asked(self) -> int:
        return sum(end - first for first, end in self.asked)


class Here:
    """A file with the shared bytes, of the same key or of another one, and the pages that it takes to find that out."""

    def __init__(
        self,
        path: Path,
        content: bytes,
        *,
        claim: str = "",
        pages: Sequence[int] = (),
        ahead: Sequence[int] = (),
        other: bool = False,
    ):
        self._path = path
        self._path.write_bytes(b"before" + content)
        self._claim = claim or sha256(CONTENT[slice(*SHARED)])
        self._pages = pages
        self._ahead = ahead
        self._other = other

    @contextlib.contextmanager
    def seeds(self, elsewhere: Paged, expected: Digest | None) -> Iterator[Seeds]:
        elsewhere.prefetch((offset, offset + PAGE) for offset in self._ahead)
        for offset in self._pages:
            assert elsewhere.read(offset, PAGE) == CONTENT[offset : offset + PAGE]
        with self._path.open("rb") as file:
            yield Seeds((Seed(*SHARED, file.fileno(), 6, self._claim, self._other),), None)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Elsewhere:
    (tmp_path / "object").write_bytes(CONTENT)
    return Elsewhere(tmp_path / "object")


def here(directory: Path, content: bytes = CONTENT[slice(*SHARED)], **more: object) -> Here:
    return Here(directory / "other", content, **more)  # type: ignore[arg-type]  # of each test its own


def fetched(
    source: Elsewhere,
    copies: Here | None,
    directory: Path,
    expected: Digest | None = None,
    rate: Rate | None = None,
) -> Downloaded:
    info = source.head(ObjectKey("archive.tar"))
    patience = Patience(Retry(attempts=1), 20, rate=rate)
    part = str(directory / "part")
    return download(source, info, part, expected=expected, patience=patience, options=OPTIONS, copies=copies)


def test_what_another_file_has_is_not_requested(elsewhere: Elsewhere, tmp_path: Path) -> None:
    done = fetched(elsewhere, here(tmp_path), tmp_path)
    assert (done.sha256, (tmp_path / "part").read_bytes()) == (RIGHT.hex, CONTENT)
    assert elsewhere.bytes_asked == len(CONTENT) - (SHARED[1] - SHARED[0])
    assert (done.reused.bytes_reused, done.resumed_bytes) == (SHARED[1] - SHARED[0], 0)


def test_what_was_read_to_find_out_stays_and_does_not_come_again(elsewhere: Elsewhere, tmp_path: Path) -> None:
    pages = (0, PAGE // 2, len(CONTENT) - PAGE, SHARED[0] - PAGE // 2)
    done = fetched(elsewhere, here(tmp_path, pages=pages), tmp_path)
    assert done.sha256 == RIGHT.hex
    assert done.reused.requests == 4
    assert elsewhere.bytes_asked == len(CONTENT) - done.reused.bytes_reused
    assert done.reused.bytes_reused == SHARED[1] - SHARED[0] - PAGE // 2


@pytest.mark.parametrize("at", [0, 1, -1])
@pytest.mark.parametrize("expected", [None, RIGHT])
def test_a_copy_that_is_rotten_does_not_count(
    elsewhere: Elsewhere, tmp_path: Path, at: int, expected: Digest | None
) -> None:
    rotten = bytearray(CONTENT[slice(*SHARED)])
    rotten[at] ^= 1
    walked = (SHARED[0], SHARED[1] - PAGE)  # what was right there before the copy is received again
    done = fetched(elsewhere, here(tmp_path, bytes(rotten), pages=walked), tmp_path, expected)
    assert (tmp_path / "part").read_bytes() == CONTENT
    assert (done.reused.bytes_reused, done.reused.because, done.attempts) == (0, "copy_differs", 1)


def test_a_copy_that_is_too_short_does_not_count(elsewhere: Elsewhere, tmp_path: Path) -> None:
    done = fetched(elsewhere, here(tmp_path, CONTENT[SHARED[0] : SHARED[1] - 1]), tmp_path)
    assert (done.sha256, done.reused.because) == (RIGHT.hex, "copy_differs")


def test_where_the_kernel_copies_nothing_bytes_are_read_and_written(
    elsewhere: Elsewhere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "copy_file_range")
    done = fetched(elsewhere, here(tmp_path), tmp_path)
    assert (done.sha256, done.reused.bytes_reused) == (RIGHT.hex, SHARED[1] - SHARED[0])


def test_when_the_object_lies_the_digest_of_the_whole_shows_it_and_all_of_it_comes(
    elsewhere: Elsewhere, tmp_path: Path
) -> None:
    lie = random.Random(2).randbytes(SHARED[1] - SHARED[0])
    done = fetched(elsewhere, here(tmp_path, lie, claim=sha256(lie)), tmp_path, RIGHT)
    assert (tmp_path / "part").read_bytes() == CONTENT
    assert (done.reused.bytes_reused, done.reused.because, done.attempts) == (0, "wrong_digest", 2)


def test_an_object_that_is_not_the_expected_one_is_refused_after_all_of_it_came(
    elsewhere: Elsewhere, tmp_path: Path
) -> None:
    with pytest.raises(Untrusted, match="downloaded twice"):
        fetched(elsewhere, here(tmp_path), tmp_path, Digest("sha256", "0" * 64))
    assert sorted(os.listdir(tmp_path)) == ["object", "other"]


@pytest.mark.parametrize("after", [1, 2, 3])
def test_an_object_that_is_replaced_between_two_pages_is_as_one_that_is_replaced_later(
    tmp_path: Path, after: int
) -> None:
    path = tmp_path / "object"
    path.write_bytes(CONTENT)

    def replace(number: int) -> None:
        if number == after:
            path.write_bytes(CONTENT[::-1])

    source = Elsewhere(path, replace)
    with pytest.raises(ObjectChanged):
        fetched(source, here(tmp_path, pages=(0, 8 * PAGE, 16 * PAGE)), tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["object", "other"]


def test_a_server_that_refuses_ranges_sends_all_in_one_stream(elsewhere: Elsewhere, tmp_path: Path) -> None:
    def refuse(number: int) -> None:
        if number == 1:
            raise RangesRefused("no ranges", hint="")

    source = Elsewhere(tmp_path / "object", refuse)
    done = fetched(source, here(tmp_path, pages=(0,)), tmp_path)
    assert (done.sha256, done.reused.because, source.asked[1:]) == (RIGHT.hex, "no_ranges", [(0, len(CONTENT))])


def test_a_request_that_fails_ends_the_search_and_not_the_download(tmp_path: Path) -> None:
    (tmp_path / "object").write_bytes(CONTENT)

    def fail(number: int) -> None:
        if number == 2:
            raise Transient("busy", hint="")

    source = Elsewhere(tmp_path / "object", fail)
    done = fetched(source, here(tmp_path, pages=(0, 8 * PAGE)), tmp_path)
    assert (done.sha256, done.reused.because, done.reused.bytes_reused) == (RIGHT.hex, "walk_failed", 0)


@pytest.mark.parametrize(("limit", "value"), [("_MAX_MISSES", 2), ("_MAX_PERCENT", 0), ("_MAX_SECONDS", -1.0)])
def test_a_search_that_takes_too_much_is_given_up(
    elsewhere: Elsewhere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: float
) -> None:
    monkeypatch.setattr(paged, limit, value)
    done = fetched(elsewhere, here(tmp_path, pages=(0, 8 * PAGE, 16 * PAGE)), tmp_path)
    assert (done.sha256, done.reused.because, done.reused.bytes_reused) == (RIGHT.hex, "walk_too_long", 0)
    assert elsewhere.bytes_asked == len(CONTENT), "what came stays"


def test_requests_that_find_something_here_are_not_counted_among_those_in_a_row(
    elsewhere: Elsewhere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paged, "_MAX_MISSES", 2)
    pages = (0, 8 * PAGE, 0, 16 * PAGE, 24 * PAGE)
    assert fetched(elsewhere, here(tmp_path, pages=pages), tmp_path).reused.because is None


def test_what_is_requested_ahead_is_not_requested_again(elsewhere: Elsewhere, tmp_path: Path) -> None:
    pages = [number * 8 * PAGE for number in range(5)]
    done = fetched(elsewhere, here(tmp_path, pages=pages, ahead=[*pages, len(CONTENT), SHARED[0]]), tmp_path)
    assert (done.sha256, done.reused.because, done.reused.requests) == (RIGHT.hex, None, 6)
    assert elsewhere.bytes_asked == len(CONTENT) - done.reused.bytes_reused


def test_no_more_is_requested_ahead_than_half_of_what_may_be_read(elsewhere: Elsewhere, tmp_path: Path) -> None:
    pages = [number * 2 * PAGE for number in range(60)]
    done = fetched(elsewhere, here(tmp_path, ahead=pages), tmp_path)
    assert (done.sha256, done.reused.requests) == (RIGHT.hex, len(CONTENT) // 100 // PAGE)


@pytest.mark.parametrize(
    ("error", "because"), [(Transient("busy", hint=""), None), (RangesRefused("", hint=""), "no_ranges")]
)
def test_what_fails_ahead_is_requested_when_it_is_needed(tmp_path: Path, error: FlydError, because: str | None) -> None:
    (tmp_path / "object").write_bytes(CONTENT)

    def fail(number: int) -> None:
        if number == 1:
            raise error

    source = Elsewhere(tmp_path / "object", fail)
    done = fetched(source, here(tmp_path, pages=(0,), ahead=(0, 8 * PAGE)), tmp_path)
    assert (done.sha256, done.reused.because) == (RIGHT.hex, because)


def interrupted(source_path: Path, copies: Here, directory: Path, expected: Digest | None) -> ObjectInfo:
    """A download that ends behind what was copied, as by a kill: the part file and its state are left."""

    def fail(_number: int) -> None:
        raise Transient("the line is cut", hint="")

    source = Elsewhere(source_path, fail)
    with pytest.raises(Transient):
        fetched(source, copies, directory, expected)
    return source.head(ObjectKey("archive.tar"))


def test_what_was_copied_is_gone_on_with_after_a_kill(elsewhere: Elsewhere, tmp_path: Path) -> None:
    interrupted(tmp_path / "object", here(tmp_path), tmp_path, None)
    (tmp_path / "other").unlink()
    done = fetched(elsewhere, here(tmp_path), tmp_path)
    assert (done.sha256, done.resumed_bytes) == (RIGHT.hex, SHARED[1] - SHARED[0])
    assert (done.reused.bytes_reused, done.reused.because) == (0, "resumed")
    assert elsewhere.bytes_asked == len(CONTENT) - done.resumed_bytes


def test_what_was_copied_is_recorded_before_the_first_byte_is_requested(tmp_path: Path) -> None:
    """Then a run may be killed."""
    path, recorded = tmp_path / "object", list[object]()
    path.write_bytes(CONTENT)
    source = Elsewhere(path, lambda _: recorded.append(load(str(tmp_path / "part"), info).spans))
    info = source.head(ObjectKey("archive.tar"))
    fetched(source, here(tmp_path), tmp_path)
    assert recorded[0] == (SHARED,)


def test_what_was_copied_does_not_count_after_a_power_cut(
    elsewhere: Elsewhere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = interrupted(tmp_path / "object", here(tmp_path), tmp_path, None)
    assert load(str(tmp_path / "part"), info).spans == (SHARED,)
    monkeypatch.setattr(partfile, "boot_id", lambda: "another boot")
    assert load(str(tmp_path / "part"), info).spans == ()


@pytest.mark.parametrize(("expected", "goes_on"), [(RIGHT, True), (None, False), (Digest("sha512", "0" * 128), False)])
def test_a_part_of_another_key_is_gone_on_with_only_by_who_expects_the_same_whole(
    elsewhere: Elsewhere, tmp_path: Path, expected: Digest | None, goes_on: bool
) -> None:
    interrupted(tmp_path / "object", here(tmp_path, other=True), tmp_path, RIGHT)
    with contextlib.suppress(Untrusted):
        assert fetched(elsewhere, None, tmp_path, expected).sha256 == RIGHT.hex
    came = SHARED[0] in [first for first, _end in elsewhere.asked]
    assert came is not goes_on

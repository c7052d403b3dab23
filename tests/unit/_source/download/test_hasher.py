"""Hashing behind the workers: what is recorded on the way, and what an earlier run's bytes must prove."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from module_utils._errors import Transient, Unsupported
from module_utils._host.retry import Retry
from module_utils._names import Digest
from module_utils._source.download.hasher import Follower, ResumeMismatch
from module_utils._source.download.partfile import PartFile, Received, load, open_part
from module_utils._source.download.receiver import Receiver
from module_utils._source.download.retry_policy import DownloadOptions, Patience
from module_utils._source.download.segments import Ledger
from module_utils._source.s3.bucket import ObjectInfo

CONTENT = bytes(range(250)) * 4
INFO = ObjectInfo("archive.tar", len(CONTENT), '"etag"')
OPTIONS = DownloadOptions(checkpoint_seconds=0)


class Finished:
    """Workers that have done all they will do."""

    failure: BaseException | None = None

    def is_working(self) -> bool:
        return False


FINISHED = cast("Receiver", Finished())


def claim(count: int, content: bytes = CONTENT) -> Received:
    return Received(count, hashlib.sha256(content[:count]).hexdigest())


@pytest.fixture
def part(tmp_path: Path) -> Iterator[PartFile]:
    with open_part(str(tmp_path / "part"), INFO, resume=True) as opened:
        opened.write_at(CONTENT, 0)
        yield opened


def follower(part: PartFile, have: int, expected: Digest | None = None) -> Follower:
    return Follower(part, Ledger(len(CONTENT), 100, [(0, have)]), expected, OPTIONS, None)


def test_the_digest_is_that_of_the_file(part: PartFile) -> None:
    one = follower(part, len(CONTENT), Digest("sha512", "0" * 128))
    one.follow(FINISHED, Patience(Retry(), 5))
    assert one.digests() == {name: hashlib.new(name, CONTENT).hexdigest() for name in ("sha256", "sha512")}


def test_what_an_earlier_run_claims_is_checked(part: PartFile) -> None:
    part.received = claim(300)
    follower(part, len(CONTENT)).follow(FINISHED, Patience(Retry(), 5))
    part.received = claim(300, CONTENT[::-1])
    with pytest.raises(ResumeMismatch):
        follower(part, len(CONTENT)).follow(FINISHED, Patience(Retry(), 5))


def test_a_claim_that_was_not_read_again_yet_stays_for_the_next_run(part: PartFile) -> None:
    part.received = claim(300)
    follower(part, 500).checkpoint()
    assert load(part.path, INFO) == Received(300, claim(300).hashed_sha256, ((0, 500),))


def test_progress_is_recorded_with_the_digest_of_what_was_read(part: PartFile) -> None:
    one = follower(part, len(CONTENT))
    one.follow(FINISHED, Patience(Retry(), 5))
    one.checkpoint()
    assert load(part.path, INFO) == Received(len(CONTENT), claim(len(CONTENT)).hashed_sha256, ((0, len(CONTENT)),))


def test_progress_is_reported_to_the_caller(part: PartFile) -> None:
    told: list[tuple[int, int]] = []
    ledger = Ledger(len(CONTENT), 100, [(0, 300)])
    Follower(part, ledger, None, OPTIONS, lambda received, total: told.append((received, total))).checkpoint()
    assert told == [(300, len(CONTENT))]


def test_what_ended_a_worker_ends_the_download(part: PartFile) -> None:
    failed = Finished()
    failed.failure = Transient("the line broke", hint="")
    with pytest.raises(Transient, match="the line broke"):
        follower(part, 0).follow(cast("Receiver", failed), Patience(Retry(), 5))


def test_a_file_that_shrinks_under_us_is_an_error_and_no_endless_loop(part: PartFile) -> None:
    os.ftruncate(part.fd, 10)
    with pytest.raises(Unsupported, match="shortened"):
        follower(part, len(CONTENT)).follow(FINISHED, Patience(Retry(), 5))

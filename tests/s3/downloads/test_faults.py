"""What must hold when the line, the server or the disk fails: the rows F13 to F22 of the table of faults.

Every test ends the same way: nothing is left that the next run does not use, and the next run, with nothing wrong any more,
gives the object's bytes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from module_utils._errors import ErrorKind, FlydError, Transient, Untrusted
from module_utils._host.files.durable import DISK_RESERVE_BYTES
from module_utils._names import ObjectKey
from module_utils._source import body
from module_utils._source.s3 import client
from module_utils._source.s3.bucket import Bucket, ObjectChanged, S3Options
from tests.faults import kinds
from tests.faults.proxy import Answer, Fault, FaultProxy, Request, Upstream
from tests.s3.conftest import SEGMENT_BYTES, Host, Stored
from tests.s3.server import BUCKET, PUBLIC_BUCKET

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

Store = Callable[..., Stored]
SIZE_BYTES = 5 * SEGMENT_BYTES + 123
PART_AND_STATE = ["archive.part", "archive.part.state"]


@pytest.fixture
def stored(store: Store) -> Stored:
    return store(SIZE_BYTES)


@pytest.fixture
def small(store: Store) -> Stored:
    return store(1000)


def assert_next_run_is_right(host: Host, proxy: FaultProxy, stored: Stored) -> None:
    proxy.clear()
    host.fetch(stored, checksum=f"sha256:{stored.sha256}")
    assert host.final.read_bytes() == stored.content
    assert host.files() == ["archive"]


def refusal(host: Host, stored: Stored, **how: Any) -> FlydError:
    with pytest.raises(FlydError) as caught:
        host.fetch(stored, **how)
    assert not host.final.exists()
    return caught.value


# F13: in the body of a download


def test_f13_only_a_part_file_is_there_while_the_body_comes(host: Host, proxy: FaultProxy, stored: Stored) -> None:
    seen: list[list[str]] = []
    proxy.plan(kinds.before(lambda: seen.append(host.files())), times=-1)
    host.fetch(stored)
    assert seen
    assert all(set(names) <= {*PART_AND_STATE, "archive.part.state.new"} for names in seen)
    assert host.files() == ["archive"]
    assert host.final.stat().st_mode & 0o777 == 0o600


def test_f13_the_bytes_are_on_disk_before_the_name_and_the_name_before_the_end(
    host: Host, stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    sync, rename = os.fsync, os.rename

    def syncing(fd: int) -> None:
        done.append(f"sync {Path(os.readlink(f'/proc/self/fd/{fd}')).name}")
        sync(fd)

    def renaming(old: str, new: str) -> None:
        if ".state" not in old:
            done.append(f"rename to {Path(new).name}")
        rename(old, new)

    monkeypatch.setattr(os, "fsync", syncing)
    monkeypatch.setattr(os, "rename", renaming)
    host.fetch(stored)
    assert done == ["sync archive.part", "rename to archive", f"sync {host.directory.name}"]


# F14: the body is shorter than announced


def test_f14_a_body_cut_at_any_of_50_bytes_is_resumed_where_it_broke(
    host: Host, proxy: FaultProxy, store: Store
) -> None:
    stored = store(SEGMENT_BYTES)
    for step in range(50):
        proxy.clear()
        at_byte = step * (SEGMENT_BYTES - 1) // 49
        proxy.plan(kinds.truncated(at_byte))
        fetched = host.fetch(stored, checksum=f"sha256:{stored.sha256}")
        assert fetched.downloaded.attempts == 2
        first, second = proxy.asked()
        assert second.request.span == (f"{at_byte}-{SEGMENT_BYTES - 1}" if at_byte else "")
        assert second.request.headers["if-match"] == first.request.headers["if-match"] == fetched.info.etag
        assert proxy.sent_bytes() == SEGMENT_BYTES
    assert_next_run_is_right(host, proxy, stored)


def test_f14_a_body_that_is_cut_without_end_is_given_up_after_the_attempts(
    host: Host, proxy: FaultProxy, stored: Stored
) -> None:
    proxy.plan(kinds.truncated(100), times=-1)
    error = refusal(host, stored, streams=1)
    assert (error.kind, error.retryable, error.details["attempts"]) == (ErrorKind.TRANSIENT, True, 4)
    assert host.files() == PART_AND_STATE
    assert_next_run_is_right(host, proxy, stored)


def test_f14_breaks_with_progress_between_them_are_not_counted_together(
    host: Host, proxy: FaultProxy, store: Store
) -> None:
    stored = store(8 * SEGMENT_BYTES)
    proxy.plan(kinds.truncated(SEGMENT_BYTES + 1), times=6)
    fetched = host.fetch(stored, attempts=2, segment_bytes=8 * SEGMENT_BYTES)
    assert fetched.downloaded.attempts == 7
    assert_next_run_is_right(host, proxy, stored)


def test_f14_an_answer_that_announces_less_than_was_asked_for_is_resumed(
    host: Host, proxy: FaultProxy, stored: Stored
) -> None:
    proxy.plan(kinds.announcing(content_length="10"))
    assert host.fetch(stored).downloaded.attempts == 2
    assert_next_run_is_right(host, proxy, stored)


# F15: right length, wrong bytes


def test_f15_wrong_bytes_once_are_downloaded_once_more(host: Host, proxy: FaultProxy, stored: Stored) -> None:
    proxy.plan(kinds.corrupted(1000))
    fetched = host.fetch(stored, checksum=f"sha256:{stored.sha256}")
    assert fetched.downloaded.attempts == 2
    assert_next_run_is_right(host, proxy, stored)


def test_f15_wrong_bytes_twice_are_refused_with_both_digests_and_the_file_is_gone(
    host: Host, proxy: FaultProxy, stored: Stored
) -> None:
    proxy.plan(kinds.corrupted(1000), times=-1)
    error = refusal(host, stored, checksum=f"sha256:{stored.sha256}")
    assert (error.kind, error.retryable) == (ErrorKind.UNTRUSTED, False)
    assert error.details["expected"] == f"sha256:{stored.sha256}"
    assert str(error.details["found"]) in error.msg
    assert str(error.details["expected"]) in error.msg
    assert proxy.sent_bytes() == 2 * SIZE_BYTES
    assert host.files() == []
    assert_next_run_is_right(host, proxy, stored)


# F16: 403, 404, no bucket, wrong region, clock skew: no retry, one clear kind each

REFUSALS: list[tuple[str, Fault, ErrorKind, str]] = [
    ("403", kinds.refused(403, "AccessDenied"), ErrorKind.BAD_INPUT, "access is denied"),
    ("unknown key id", kinds.refused(403, "InvalidAccessKeyId"), ErrorKind.BAD_INPUT, "credentials are not accepted"),
    ("bad signature", kinds.refused(403, "SignatureDoesNotMatch"), ErrorKind.BAD_INPUT, "credentials are not accepted"),
    ("expired token", kinds.refused(400, "ExpiredToken"), ErrorKind.BAD_INPUT, "have expired"),
    ("404", kinds.refused(404, "NoSuchKey"), ErrorKind.BAD_INPUT, "there is no object"),
    ("no bucket", kinds.refused(404, "NoSuchBucket"), ErrorKind.BAD_INPUT, "the bucket [a-z-]+ does not exist at http"),
    (
        "wrong region",
        kinds.refused(400, "AuthorizationHeaderMalformed", headers={"x-amz-bucket-region": "eu-west-1"}),
        ErrorKind.BAD_INPUT,
        "the bucket is in eu-west-1",
    ),
    (
        "moved",
        kinds.refused(301, "PermanentRedirect", headers={"x-amz-bucket-region": "eu-west-1"}),
        ErrorKind.BAD_INPUT,
        "eu-west-1",
    ),
    ("clock behind", kinds.skewed(3600), ErrorKind.UNSUPPORTED, r"clock is 3(59\d|60\d) s behind"),
    ("clock ahead", kinds.skewed(-3600), ErrorKind.UNSUPPORTED, r"clock is 3(59\d|60\d) s ahead"),
    ("archived", kinds.refused(403, "InvalidObjectState"), ErrorKind.BAD_INPUT, "is archived"),
    (
        "redirect",
        kinds.refused(307, headers={"location": "http://127.0.0.1:1/"}),
        ErrorKind.BAD_INPUT,
        "redirects are not followed",
    ),
]


@pytest.mark.parametrize(("fault", "kind", "says"), [row[1:] for row in REFUSALS], ids=[row[0] for row in REFUSALS])
@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_f16_a_refusal_is_reported_at_once(
    host: Host, proxy: FaultProxy, small: Stored, method: str, fault: Fault, kind: ErrorKind, says: str
) -> None:
    proxy.plan(fault, method=method, times=-1)
    if method == "HEAD":  # why is then asked by GET
        proxy.plan(fault, method="GET", times=-1)
    error = refusal(host, small)
    assert (error.kind, error.retryable) == (kind, False)
    assert re.search(says, f"{error.msg} {error.hint}")
    assert host.waits == []
    assert host.files() == []
    assert_next_run_is_right(host, proxy, small)


# F17: 500, 503, 429


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_f17_a_server_in_trouble_is_asked_again_after_a_growing_wait(
    host: Host, proxy: FaultProxy, small: Stored, method: str, status: int
) -> None:
    proxy.plan(kinds.refused(status), method=method, times=3)
    fetched = host.fetch(small)
    assert len(host.waits) == 3
    assert all(0 <= wait <= 0.01 * 2**number for number, wait in enumerate(host.waits))
    if method == "GET":
        assert fetched.downloaded.attempts == 4
        assert fetched.downloaded.waited_seconds == pytest.approx(sum(host.waits))
    assert_next_run_is_right(host, proxy, small)


def test_f17_a_server_that_stays_in_trouble_is_given_up_as_retryable(
    host: Host, proxy: FaultProxy, small: Stored
) -> None:
    proxy.plan(kinds.refused(503, "SlowDown"), times=-1)
    error = refusal(host, small)
    assert (error.kind, error.retryable, error.details["attempts"]) == (ErrorKind.TRANSIENT, True, 4)
    assert error.details["waited_seconds"] == pytest.approx(sum(host.waits), abs=0.001)
    assert len(proxy.asked()) == 4
    assert host.files() == [], "nothing was received, so there is nothing to go on with"
    assert_next_run_is_right(host, proxy, small)


def test_f17_retry_after_is_what_is_waited(host: Host, proxy: FaultProxy, small: Stored) -> None:
    proxy.plan(kinds.refused(503, "SlowDown", headers={"retry-after": "2"}))
    assert host.fetch(small).downloaded.waited_seconds == 2
    assert sum(host.waits) == 2


def test_f17_a_retry_after_beyond_the_deadline_is_not_waited_for(host: Host, proxy: FaultProxy, small: Stored) -> None:
    proxy.plan(kinds.refused(503, "SlowDown", headers={"retry-after": "3600"}))
    error = refusal(host, small)
    assert (error.retryable, error.details["retry_after_seconds"]) == (True, 3600)
    assert host.waits == []
    assert_next_run_is_right(host, proxy, small)


# F18: reset, or silence for longer than the read time-out


@pytest.mark.parametrize(
    "fault",
    [
        kinds.gone,
        kinds.truncated(0, reset=True),
        kinds.truncated(30_000, reset=True),
        kinds.stalled(30_000, 1.0),
        kinds.stalled(0, 1.0),
    ],
    ids=["before the answer", "after its head", "in its body", "silence in its body", "silence after its head"],
)
def test_f18_a_line_that_breaks_is_resumed(host: Host, proxy: FaultProxy, stored: Stored, fault: Fault) -> None:
    proxy.plan(fault)
    fetched = host.fetch(stored, checksum=f"sha256:{stored.sha256}")
    assert fetched.downloaded.attempts == 2
    assert proxy.sent_bytes() < SIZE_BYTES + SEGMENT_BYTES
    assert_next_run_is_right(host, proxy, stored)


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (kinds.gone, "Connection reset by peer"),
        (kinds.truncated(30_000, reset=True), "Connection reset by peer"),
        (kinds.truncated(30_000), "ended after 30000 of"),
        (kinds.stalled(30_000, 1.0), "no bytes for"),
    ],
    ids=["before the answer", "reset", "cut", "silence"],
)
def test_f18_a_line_that_never_holds_is_given_up_and_reported_as_what_it_is(
    host: Host, proxy: FaultProxy, stored: Stored, fault: Fault, says: str
) -> None:
    proxy.plan(fault, times=-1)
    error = refusal(host, stored, streams=1, attempts=2)
    assert (error.kind, error.retryable) == (ErrorKind.TRANSIENT, True)
    assert re.search(says, error.msg)
    assert_next_run_is_right(host, proxy, stored)


def test_f18_an_interrupted_download_is_resumed_by_the_next_run(host: Host, proxy: FaultProxy, stored: Stored) -> None:
    proxy.plan(kinds.gone, skip=3, times=-1)
    refusal(host, stored, streams=1)
    assert host.files() == PART_AND_STATE
    proxy.clear()
    fetched = host.fetch(stored, checksum=f"sha256:{stored.sha256}")
    assert fetched.downloaded.resumed_bytes == 3 * SEGMENT_BYTES
    assert proxy.sent_bytes() == SIZE_BYTES - 3 * SEGMENT_BYTES
    assert_next_run_is_right(host, proxy, stored)


def test_f18_what_has_come_since_the_last_record_is_recorded_when_the_run_gives_up(
    host: Host, proxy: FaultProxy, stored: Stored
) -> None:
    proxy.plan(kinds.gone, skip=3, times=-1)
    refusal(host, stored, streams=1, checkpoint_seconds=1000)
    proxy.clear()
    assert host.fetch(stored).downloaded.resumed_bytes == 3 * SEGMENT_BYTES
    assert_next_run_is_right(host, proxy, stored)


def test_f18_what_an_earlier_run_left_of_another_object_is_not_used(
    host: Host, proxy: FaultProxy, stored: Stored
) -> None:
    proxy.plan(kinds.gone, skip=3, times=-1)
    refusal(host, stored, streams=1)
    proxy.clear()
    stored.replace(stored.content[::-1])
    assert host.fetch(stored).downloaded.resumed_bytes == 0
    assert_next_run_is_right(host, proxy, stored)


def test_f18_what_was_damaged_between_two_runs_is_not_used(host: Host, proxy: FaultProxy, stored: Stored) -> None:
    proxy.plan(kinds.gone, skip=3, times=-1)
    refusal(host, stored, streams=1)
    proxy.clear()
    with host.part.open("r+b") as part:
        part.seek(5000)
        part.write(b"bit rot")
    fetched = host.fetch(stored)  # no digest is known: only the state file can tell
    assert (fetched.downloaded.sha256, fetched.downloaded.resumed_bytes) == (stored.sha256, 0)
    assert_next_run_is_right(host, proxy, stored)


# F19: the object is replaced in the middle of a ranged download


def test_f19_an_object_replaced_between_two_ranges_is_begun_again_once_and_never_mixed(
    host: Host, proxy: FaultProxy, stored: Stored
) -> None:
    proxy.plan(kinds.before(lambda: stored.replace(stored.content[::-1])), skip=2)
    fetched = host.fetch(stored)
    assert 412 in [one.status for one in proxy.asked()]
    assert len(proxy.asked("HEAD")) == 4, "at first, twice whether only the ETag changes, and again"
    assert host.final.read_bytes() == stored.content
    assert fetched.downloaded.sha256 == stored.sha256
    assert_next_run_is_right(host, proxy, stored)


def test_f19_an_object_that_is_replaced_again_and_again_is_given_up_as_retryable(
    host: Host, proxy: FaultProxy, stored: Stored
) -> None:
    proxy.plan(kinds.before(lambda: stored.replace(stored.content[::-1])), skip=1, times=1)
    proxy.plan(kinds.before(lambda: stored.replace(stored.content[1:] + b"x")), skip=3, times=-1)
    error = refusal(host, stored, streams=1)
    assert isinstance(error, ObjectChanged)
    assert error.retryable
    assert host.files() == []
    assert_next_run_is_right(host, proxy, stored)


def test_f19_a_pinned_digest_that_fits_only_the_old_object_refuses_the_new_one(
    host: Host, proxy: FaultProxy, stored: Stored
) -> None:
    pinned = f"sha256:{stored.sha256}"
    proxy.plan(kinds.before(lambda: stored.replace(stored.content[::-1])), skip=2)
    assert refusal(host, stored, checksum=pinned).kind is ErrorKind.UNTRUSTED
    assert host.files() == []
    assert_next_run_is_right(host, proxy, stored)


# F20: the object is replaced after it was fetched


def test_f20_an_object_replaced_after_the_download_is_seen_by_its_etag_alone(
    host: Host, bucket: Bucket, proxy: FaultProxy, stored: Stored
) -> None:
    before = host.fetch(stored)
    old = stored.content
    stored.replace(stored.content[::-1])
    proxy.clear()
    assert bucket.head(stored.key).etag != before.downloaded.etag
    assert [one.request.method for one in proxy.seen] == ["HEAD"]
    assert host.final.read_bytes() == old
    assert_next_run_is_right(host, proxy, stored)


# F21: an endless object, a lying Content-Length, a trickle


@pytest.mark.parametrize("announced", [False, True], ids=["without a length", "with a length of its own"])
def test_f21_a_body_that_continues_after_the_announced_bytes_is_refused(
    host: Host, proxy: FaultProxy, stored: Stored, announced: bool
) -> None:
    proxy.plan(kinds.endless(announced=announced), times=-1)
    error = refusal(host, stored)
    assert (error.kind, error.retryable) == (ErrorKind.UNTRUSTED, False)
    assert "more than" in error.msg
    assert host.files() == []
    assert_next_run_is_right(host, proxy, stored)


def test_f21_a_head_that_announces_too_few_bytes_is_found_out(host: Host, proxy: FaultProxy, stored: Stored) -> None:
    proxy.plan(kinds.announcing(content_length="1000"), method="HEAD", times=-1)
    assert isinstance(refusal(host, stored), Untrusted)
    assert host.files() == []
    assert_next_run_is_right(host, proxy, stored)


def test_f21_a_head_that_announces_too_many_bytes_is_found_out(host: Host, proxy: FaultProxy, stored: Stored) -> None:
    proxy.plan(kinds.announcing(content_length=str(SIZE_BYTES + 1)), method="HEAD", times=-1)
    assert isinstance(refusal(host, stored), Untrusted)
    assert host.files() == []
    assert_next_run_is_right(host, proxy, stored)


def test_f21_an_object_above_the_limit_is_refused_before_a_byte_is_asked_for(
    host: Host, proxy: FaultProxy, stored: Stored
) -> None:
    proxy.plan(kinds.announcing(content_length=str(1 << 50)), method="HEAD", times=-1)
    error = refusal(host, stored)
    assert (error.kind, error.details["size_bytes"]) == (ErrorKind.BAD_INPUT, 1 << 50)
    assert proxy.asked() == []
    assert host.files() == []
    assert_next_run_is_right(host, proxy, stored)


def test_f21_a_trickle_is_broken_off_and_requested_again(host: Host, proxy: FaultProxy, stored: Stored) -> None:
    proxy.plan(kinds.trickling(10_000, every_seconds=0.02))
    begun = time.monotonic()
    fetched = host.fetch(stored, stall_seconds=0.3, stall_bytes_per_second=10_000)
    assert fetched.downloaded.attempts == 2
    assert time.monotonic() - begun < 5
    assert_next_run_is_right(host, proxy, stored)


def test_f21_a_trickle_without_end_stops_at_the_deadline(host: Host, proxy: FaultProxy, stored: Stored) -> None:
    proxy.plan(kinds.trickling(10_000, every_seconds=0.02), times=-1)
    begun = time.monotonic()
    error = refusal(host, stored, deadline_seconds=0.5)
    assert (error.kind, error.retryable) == (ErrorKind.TRANSIENT, True)
    assert 0.4 < time.monotonic() - begun < 5
    assert host.files() == PART_AND_STATE
    assert_next_run_is_right(host, proxy, stored)


def test_f21_silence_is_not_waited_for_beyond_the_deadline(
    host: Host, options: S3Options, proxy: FaultProxy, stored: Stored
) -> None:
    proxy.plan(kinds.stalled(10_000, 4.0), times=-1)
    with Bucket(replace(options, read_timeout_seconds=30)) as patient:
        begun = time.monotonic()
        error = refusal(Host(patient, host.directory), stored, deadline_seconds=0.3)
        assert time.monotonic() - begun < 3
    assert (error.kind, error.retryable) == (ErrorKind.TRANSIENT, True)
    assert_next_run_is_right(host, proxy, stored)


def endless_refusal(request: Request, upstream: Upstream) -> Answer:
    """An error whose page does not end."""
    return kinds.endless()(request, lambda asked: kinds.refused(403, "AccessDenied")(asked, upstream))


def test_f21_an_error_page_without_end_is_not_read_for_ever(
    host: Host, proxy: FaultProxy, stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_MAX_SAID_BYTES", 1 << 20)
    proxy.plan(endless_refusal, times=-1)
    error = refusal(host, stored, streams=1)
    assert (error.kind, error.retryable) == (ErrorKind.UNTRUSTED, False)
    assert "more than 1 MiB" in error.msg
    assert host.files() == []
    assert_next_run_is_right(host, proxy, stored)


def test_f21_a_list_without_end_is_not_read_for_ever(
    bucket: Bucket, proxy: FaultProxy, stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = ObjectKey("archives/")
    assert bucket.list_family(family)
    monkeypatch.setattr(client, "_MAX_SAID_BYTES", 1 << 20)
    proxy.plan(kinds.endless())
    with pytest.raises(Untrusted, match="more than 1 MiB"):
        bucket.list_family(family)
    monkeypatch.setattr(body, "_WITHIN_SECONDS", 0.2)
    proxy.plan(kinds.trickling(0, every_seconds=0.02))
    with pytest.raises(Transient, match=r"did not come within 0\.2 s"):
        bucket.list_family(family)
    monkeypatch.undo()
    assert bucket.list_family(family)


def test_f21_a_list_of_pages_without_end_is_not_followed(bucket: Bucket, proxy: FaultProxy, stored: Stored) -> None:
    proxy.plan(kinds.listing_without_end(), times=-1)
    with pytest.raises(Untrusted, match="does not end: 100 pages have 0 objects"):
        bucket.list_family(ObjectKey("archives/"))


@pytest.fixture
def sums(admin: S3Client, stored: Stored) -> str:
    """The key of a checksum file in the bucket."""
    admin.put_object(Bucket=BUCKET, Key="sums.sha256", Body=stored.sha256.encode())
    return "sums.sha256"


def test_f21_a_checksum_file_that_trickles_is_asked_for_again_and_not_for_ever(
    host: Host, proxy: FaultProxy, stored: Stored, sums: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body, "_WITHIN_SECONDS", 0.2)
    proxy.plan(kinds.trickling(0, every_seconds=0.02), path_end=sums)
    host.fetch(stored, checksum=sums)
    assert [one.request.path.endswith(sums) for one in proxy.asked()][:3] == [True, True, False]
    proxy.plan(kinds.trickling(0, every_seconds=0.02), path_end=sums, times=-1)
    host.final.unlink()
    assert refusal(host, stored, checksum=sums, attempts=2).kind is ErrorKind.TRANSIENT
    assert_next_run_is_right(host, proxy, stored)


@pytest.mark.parametrize("announced", [False, True], ids=["without a length", "with a length of its own"])
def test_f21_a_checksum_file_without_end_is_refused(
    host: Host, proxy: FaultProxy, stored: Stored, sums: str, announced: bool
) -> None:
    proxy.plan(kinds.endless(announced=announced), path_end=sums, times=-1)
    error = refusal(host, stored, checksum=sums)
    assert (error.kind, error.retryable) == (
        (ErrorKind.BAD_INPUT, False) if announced else (ErrorKind.UNSUPPORTED, False)
    )
    assert_next_run_is_right(host, proxy, stored)


# F22: the host's disk is full


@contextlib.contextmanager
def small_disk(at: Path, size: str) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", str(at)], check=False
    ).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        yield at
    finally:
        subprocess.run(["umount", str(at)], check=True)


def test_f22_a_disk_without_room_is_reported_before_the_download(host: Host, proxy: FaultProxy, stored: Stored) -> None:
    with small_disk(host.directory, "128k"):
        error = refusal(host, stored)
        assert (error.kind, error.details["free_bytes"]) == (ErrorKind.NO_SPACE, 128 << 10)
        assert proxy.asked() == []
        assert host.files() == []
    assert_next_run_is_right(host, proxy, stored)


def test_f22_a_disk_that_fills_up_does_not_matter_once_the_space_is_reserved(
    host: Host, proxy: FaultProxy, stored: Stored
) -> None:
    with small_disk(host.directory, str(DISK_RESERVE_BYTES + (800 << 10))):
        hog = host.directory / "hog"
        filled: list[int | None] = []

        def fill() -> None:
            try:
                with hog.open("wb", buffering=0) as file:
                    while file.write(bytes(65536)):
                        pass
            except OSError as error:
                filled.append(error.errno)

        proxy.plan(kinds.before(fill))
        host.fetch(stored)
        assert filled == [errno.ENOSPC]
        assert host.final.read_bytes() == stored.content
        hog.unlink()
        assert_next_run_is_right(host, proxy, stored)


# F37: fsync fails


def test_f37_bytes_that_cannot_be_synced_are_not_published(
    host: Host, proxy: FaultProxy, stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", fail)
        broken.setattr("module_utils._source.download.partfile.sync_directory", lambda path: None)
        error = refusal(host, stored)
    assert (error.kind, error.retryable) == (ErrorKind.COMMAND_FAILED, False)
    assert "syncing the download" in error.msg
    assert host.files() == []
    assert_next_run_is_right(host, proxy, stored)


# A server that knows less, or a gateway that gets it wrong


@pytest.fixture
def unsigned(host: Host, options: S3Options) -> Iterator[Host]:
    """Requests without a signature, which a gateway may change: a signature covers the range."""
    nobody = replace(options, bucket=PUBLIC_BUCKET, access_key="", secret_key="", anonymous=True)
    with Bucket(nobody) as bucket:
        yield Host(bucket, host.directory)


def test_a_server_without_ranges_is_read_in_one_stream(unsigned: Host, proxy: FaultProxy, store: Store) -> None:
    stored = store(SIZE_BYTES, PUBLIC_BUCKET)
    proxy.plan(kinds.truncated(1000), skip=1)
    proxy.plan(kinds.without_ranges, times=-1)
    fetched = unsigned.fetch(stored, checksum=f"sha256:{stored.sha256}", streams=1)
    assert [one.request.span for one in proxy.asked()] == [f"0-{SEGMENT_BYTES - 1}", "", ""]
    assert fetched.downloaded.attempts == 2
    assert_next_run_is_right(unsigned, proxy, stored)


def test_an_answer_about_other_bytes_than_asked_for_is_refused(unsigned: Host, proxy: FaultProxy, store: Store) -> None:
    stored = store(SIZE_BYTES, PUBLIC_BUCKET)
    proxy.plan(kinds.other_range, skip=1, times=-1)
    assert refusal(unsigned, stored, streams=1).kind is ErrorKind.UNTRUSTED
    assert unsigned.files() == []
    assert_next_run_is_right(unsigned, proxy, stored)

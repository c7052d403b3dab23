"""Downloading from a real S3 server when nothing goes wrong."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from module_utils._names import ObjectKey
from module_utils._source.download.fetch import Wanted, fetch
from tests.faults.proxy import Answer, FaultProxy, Request, Upstream
from tests.s3.conftest import QUICK, SEGMENT_BYTES, Host, Stored
from tests.s3.server import BUCKET

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client


@pytest.mark.parametrize(
    "size_bytes",
    [0, 1, SEGMENT_BYTES - 1, SEGMENT_BYTES, SEGMENT_BYTES + 1, 3 * SEGMENT_BYTES, 10 * SEGMENT_BYTES + 7],
)
def test_the_file_holds_the_objects_bytes(host: Host, store: Callable[[int], Stored], size_bytes: int) -> None:
    stored = store(size_bytes)
    fetched = host.fetch(stored, checksum=f"sha256:{stored.sha256}")
    assert host.final.read_bytes() == stored.content
    assert fetched.downloaded.sha256 == stored.sha256
    assert (fetched.downloaded.size_bytes, fetched.downloaded.attempts, fetched.downloaded.resumed_bytes) == (
        size_bytes,
        1,
        0,
    )
    assert host.files() == ["archive"]


@pytest.mark.parametrize("streams", [1, 4])
def test_ranges_are_asked_for_in_parallel(
    host: Host, proxy: FaultProxy, store: Callable[[int], Stored], streams: int
) -> None:
    stored = store(4 * SEGMENT_BYTES)
    all_asked = threading.Barrier(streams)

    def meet(request: Request, upstream: Upstream) -> Answer:
        if request.method == "GET":
            all_asked.wait(30)  # broken, and so a failed request, unless that many are asked for at a time
        return upstream(request)

    proxy.plan(meet, times=-1)
    assert host.fetch(stored, streams=streams).downloaded.sha256 == hashlib.sha256(stored.content).hexdigest()


def test_the_bytes_are_read_once(host: Host, proxy: FaultProxy, store: Callable[[int], Stored]) -> None:
    stored = store(5 * SEGMENT_BYTES + 1)
    host.fetch(stored)
    assert [one.request.method for one in proxy.seen] == ["HEAD"] + 6 * ["GET"]
    assert proxy.sent_bytes() == len(stored.content)


@pytest.mark.parametrize("streams", [1, 4])
def test_a_download_is_no_faster_than_its_rate(host: Host, store: Callable[[int], Stored], streams: int) -> None:
    stored, bytes_per_second = store(5 * SEGMENT_BYTES), 10 * SEGMENT_BYTES
    fetched = host.fetch(stored, streams=streams, max_bytes_per_second=bytes_per_second)
    assert host.final.read_bytes() == stored.content
    assert fetched.downloaded.seconds >= len(stored.content) / bytes_per_second


def test_all_objects_of_a_family_share_the_rate(host: Host, admin: S3Client) -> None:
    for number in range(4):
        admin.put_object(Bucket=BUCKET, Key=f"slowly/{number}.tar", Body=bytes([number]) * SEGMENT_BYTES)
    arrived = fetch(
        host.bucket,
        Wanted(ObjectKey("slowly/")),
        lambda number: str(host.directory / f"{number}.part"),
        retry=host.retry(),
        options=replace(QUICK, max_bytes_per_second=8 * SEGMENT_BYTES),
    )
    assert arrived.received_bytes == 4 * SEGMENT_BYTES
    assert arrived.seconds >= arrived.received_bytes / (8 * SEGMENT_BYTES)


def test_all_objects_of_a_family_together_are_asked_for_by_no_more_than_the_given_connections(
    host: Host, proxy: FaultProxy, admin: S3Client
) -> None:
    for number in range(6):
        admin.put_object(Bucket=BUCKET, Key=f"together/{number}.tar", Body=bytes([number]) * 3 * SEGMENT_BYTES)
    lock, now, most = threading.Lock(), [0], [0]

    def counting(request: Request, upstream: Upstream) -> Answer:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.02)
        with lock:
            now[0] -= 1
        return upstream(request)

    proxy.plan(counting, path_end=".tar", times=-1)
    options = replace(QUICK, streams=2)
    arrived = fetch(
        host.bucket,
        Wanted(ObjectKey("together/")),
        lambda number: str(host.directory / f"{number}.part"),
        retry=host.retry(),
        options=options,
    )
    assert (len(proxy.asked()), most[0]) == (1 + 6 * 3, 2)
    assert [one.downloaded.sha256 for one in arrived.objects] == [
        hashlib.sha256(bytes([number]) * 3 * SEGMENT_BYTES).hexdigest() for number in range(6)
    ]

"""Downloading from a real S3 server when nothing goes wrong."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.faults import kinds
from tests.faults.proxy import FaultProxy
from tests.s3.conftest import SEGMENT_BYTES, Host, Stored


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


def test_ranges_in_parallel_are_faster_than_one_slow_connection(
    host: Host, proxy: FaultProxy, store: Callable[[int], Stored]
) -> None:
    stored = store(8 * SEGMENT_BYTES)
    proxy.plan(kinds.distant(0.02, 8 * SEGMENT_BYTES), times=-1)
    together = host.fetch(stored, streams=8).downloaded.seconds
    alone = host.fetch(stored, streams=1, segment_bytes=8 * SEGMENT_BYTES).downloaded.seconds
    assert together < 0.6 * alone


def test_the_bytes_are_read_once(host: Host, proxy: FaultProxy, store: Callable[[int], Stored]) -> None:
    stored = store(5 * SEGMENT_BYTES + 1)
    host.fetch(stored)
    assert [one.request.method for one in proxy.seen] == ["HEAD"] + 6 * ["GET"]
    assert proxy.sent_bytes() == len(stored.content)

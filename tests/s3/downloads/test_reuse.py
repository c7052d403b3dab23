# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The next generation of an archive from a real S3 server: how many bytes and requests it takes, and what may happen in between."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from module_utils._lifecycle.fetch import copies as local_copies
from module_utils._lifecycle.fetch.copies import LocalCopies
from module_utils._source.download.fetch import Arrived, Wanted, fetch
from module_utils._source.download.partfile import publish
from module_utils._source.reuse import paged
from module_utils._source.s3.bucket import Bucket, S3Options
from tests.faults import kinds
from tests.faults.proxy import FaultProxy
from tests.s3.conftest import QUICK, Host, Stored
from tests.s3.module import Module, descendants
from tests.s3.server import ACCESS_KEY, BUCKET, PUBLIC_BUCKET, SECRET_KEY
from tests.unit.builders import images, tar

if TYPE_CHECKING:
    from collections.abc import Sequence

MIB = 1 << 20


def layer(seed: int, size_bytes: int) -> bytes:
    return tar.tar(tar.file(b"file%d" % seed, random.Random(seed).randbytes(size_bytes)))


BASE, MIDDLE, APP, NEXT_APP = layer(1, 26 * MIB), layer(2, 6 * MIB), layer(3, 5 * MIB), layer(4, 5 * MIB)
SMALL = [layer(10 + number, 2000) for number in range(7)]


def gzipped(one: bytes) -> bytes:
    return gzip.compress(one, 0, mtime=0)


def named(layers: Sequence[bytes], suffix: str, pack: Callable[[bytes], bytes] = images.as_it_is) -> bytes:
    """Layers under their digests, then the configuration, then the list: as skopeo, kaniko and ko write it."""
    description, stored = images.config(layers), [pack(one) for one in layers]
    names = [hashlib.sha256(one).hexdigest() + suffix for one in stored]
    listed = json.dumps([{"Config": "config.json", "RepoTags": None, "Layers": names}]).encode()
    members = {name.encode(): one for name, one in zip(names, stored, strict=True)}
    return images.archive({**members, b"config.json": description, b"manifest.json": listed})


def hybrid(layers: Sequence[bytes]) -> bytes:
    """As docker 25 and later: an OCI layout with the list of a docker archive."""
    members = images.oci_members(layers)
    names = [images.blob_name(one).decode() for one in layers]
    listed = [{"Config": images.blob_name(images.config(layers)).decode(), "RepoTags": None, "Layers": names}]
    return images.archive({**members, b"manifest.json": json.dumps(listed).encode()})


LAYOUTS: dict[str, Callable[[Sequence[bytes]], bytes]] = {
    "docker": images.docker_archive,
    "docker-25": hybrid,
    "skopeo": lambda layers: named(layers, ".tar"),
    "oci": images.oci_archive,
    "oci-gzip": lambda layers: images.oci_archive(layers, gzipped),
    "kaniko": lambda layers: named(layers, ".tar.gz", gzipped),
}


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is no reason here to look no further; tests/unit/_source/download/test_reuse.py has the limits."""
    for module in (paged, local_copies):
        monkeypatch.setattr(module, "_MAX_SECONDS", 60.0)


def next_generation(host: Host, stored: Stored, before: bytes, *, checksum: str = "", own: bool = True) -> Arrived:
    """Fetch ``stored`` on a host that has ``before``, of the same key or of another one."""
    directory = host.directory / "kept"
    directory.mkdir(exist_ok=True)
    (directory / hashlib.sha256(before).hexdigest()).write_bytes(before)
    arrived = fetch(
        host.bucket,
        Wanted(stored.key, checksum),
        lambda _: str(host.part),
        retry=host.retry(),
        options=QUICK,
        copies=LocalCopies([str(path) for path in directory.iterdir()] if own else [], str(directory)),
    )
    publish(str(host.part), str(host.final))
    return arrived


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("number", [3, 10])
def test_it_takes_the_layer_that_changed_and_a_few_requests(
    host: Host, proxy: FaultProxy, store: Callable[[int], Stored], layout: str, number: int
) -> None:
    below = [BASE, MIDDLE, *SMALL[: number - 3]]
    stored = store(0)
    stored.replace(LAYOUTS[layout]([*below, NEXT_APP]))
    arrived = next_generation(host, stored, LAYOUTS[layout]([*below, APP]))
    assert host.final.read_bytes() == stored.content
    assert proxy.sent_bytes() == arrived.received_bytes
    print(f"{layout}: {arrived.walk_requests} requests, {arrived.received_bytes / len(NEXT_APP):.4f} of the layer")
    assert arrived.received_bytes <= 1.03 * len(NEXT_APP)
    assert arrived.walk_requests <= 8
    assert (arrived.not_reused_because, arrived.attempts) == (None, 1)


def test_headers_that_are_where_they_were_are_requested_together(
    host: Host, store: Callable[[int], Stored], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty layers, where no more than four requests may follow each other without that."""
    monkeypatch.setattr(paged, "_MAX_MISSES", 4)
    layers = [layer(100 + number, 3 * MIB // 2) for number in range(19)]
    stored = store(0)
    stored.replace(named([*layers, NEXT_APP], ".tar"))
    arrived = next_generation(host, stored, named([*layers, APP], ".tar"))
    assert host.final.read_bytes() == stored.content
    assert (arrived.not_reused_because, arrived.walk_requests) == (None, 21)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layer_that_changed_below_the_others_moves_them(
    host: Host, store: Callable[[int], Stored], layout: str
) -> None:
    stored = store(0)
    stored.replace(LAYOUTS[layout]([layer(5, 4 * MIB), MIDDLE, BASE, *SMALL]))
    arrived = next_generation(host, stored, LAYOUTS[layout]([NEXT_APP, MIDDLE, BASE, *SMALL]))
    assert host.final.read_bytes() == stored.content
    print(f"{layout}: {arrived.walk_requests} requests, {arrived.received_bytes / 4 / MIB:.4f} of the layer")
    assert arrived.received_bytes <= 1.05 * 4 * MIB
    assert arrived.walk_requests <= 8


@pytest.fixture
def stored(store: Callable[[int], Stored]) -> Stored:
    found = store(0)
    found.replace(images.docker_archive([BASE, MIDDLE, NEXT_APP]))
    return found


BEFORE = images.docker_archive([BASE, MIDDLE, APP])


@pytest.mark.parametrize("pages", [0, 1, 2, 3, 5])
def test_an_object_that_is_replaced_after_any_page_comes_as_it_is_then(
    host: Host, proxy: FaultProxy, stored: Stored, pages: int
) -> None:
    other = images.docker_archive([BASE, APP, MIDDLE])
    lock, requests = threading.Lock(), itertools.count()

    def replace_it() -> None:
        with lock:  # a request that is made again, since this takes long, must not find the object as it was
            if next(requests) == pages:
                stored.replace(other)

    proxy.plan(kinds.before(replace_it), times=-1)
    arrived = next_generation(host, stored, BEFORE)
    assert host.final.read_bytes() == other
    assert arrived.sha256 == hashlib.sha256(other).hexdigest()
    assert arrived.bytes_reused > 30 * MIB


def test_a_server_without_ranges_sends_it_whole(
    host: Host, options: S3Options, proxy: FaultProxy, store: Callable[..., Stored]
) -> None:
    stored = store(0, PUBLIC_BUCKET)
    stored.replace(images.docker_archive([BASE, MIDDLE, NEXT_APP]))
    proxy.plan(kinds.without_ranges, times=-1)
    unsigned = replace(options, bucket=PUBLIC_BUCKET, access_key="", secret_key="", anonymous=True)
    with Bucket(unsigned) as bucket:
        arrived = next_generation(Host(bucket, host.directory), stored, BEFORE)
    assert host.final.read_bytes() == stored.content
    assert (arrived.bytes_reused, arrived.not_reused_because) == (0, "no_ranges")


@pytest.mark.parametrize("number", range(4))
def test_a_line_that_changes_bytes_of_a_page_is_found_by_the_digest_of_the_whole(
    host: Host, proxy: FaultProxy, stored: Stored, number: int
) -> None:
    proxy.plan(kinds.corrupted(3), skip=number)
    next_generation(host, stored, BEFORE, checksum=f"sha256:{stored.sha256}")
    assert host.final.read_bytes() == stored.content


def test_a_line_that_breaks_during_the_search_is_asked_again(host: Host, proxy: FaultProxy, stored: Stored) -> None:
    proxy.plan(kinds.truncated(100, reset=True), skip=1)
    arrived = next_generation(host, stored, BEFORE)
    assert host.final.read_bytes() == stored.content
    assert (arrived.attempts, arrived.not_reused_because) == (2, None)


@pytest.mark.parametrize("is_expected", [False, True])
def test_a_layer_of_another_key_is_taken_only_with_the_digest_of_the_whole(
    host: Host, stored: Stored, is_expected: bool
) -> None:
    checksum = f"sha256:{stored.sha256}" if is_expected else ""
    arrived = next_generation(host, stored, BEFORE, checksum=checksum, own=False)
    assert host.final.read_bytes() == stored.content
    assert (arrived.bytes_reused > 30 * MIB) is is_expected


@pytest.mark.parametrize("sent_kib", [0, 40, 200, 2000])
def test_a_run_that_is_killed_is_gone_on_with(
    proxy: FaultProxy, stored: Stored, site: Path, tmp_path: Path, sent_kib: int
) -> None:
    """flyd_fetch itself, killed in the search or behind it: the next run ends with the right bytes, and most of them did not come."""
    options = {
        "key": stored.key.value,
        "bucket": BUCKET,
        "endpoint_url": proxy.url,
        "region": "us-east-1",
        "access_key": ACCESS_KEY,
        "secret_key": SECRET_KEY,
        "part_size": "256K",
    }
    module = Module(site, tmp_path / "state", options)
    content = stored.content
    stored.replace(BEFORE)
    assert module.run()["bytes_reused"] == 0
    stored.replace(content)
    proxy.clear()
    proxy.plan(kinds.slowed(2.0 * MIB), times=-1)
    before = set(proxy.lines)
    with module.running() as process:
        _wait(lambda: proxy.sent_bytes() > sent_kib << 10)
        assert process.poll() is None, "it ended before it could be killed"
        for pid in descendants(process.pid):
            os.kill(pid, signal.SIGKILL)
    _wait(lambda: not set(proxy.lines) - before)
    proxy.clear()
    said = module.run()
    assert said["sha256"] == stored.sha256
    assert (tmp_path / "state" / "archives" / stored.sha256).read_bytes() == content
    assert said["bytes_reused"] > 30 * MIB or said["resumed_bytes"] > 30 * MIB
    assert said["received_bytes"] == proxy.sent_bytes() <= 1.03 * len(NEXT_APP)


def _wait(is_due: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not is_due():
        assert time.monotonic() < until
        time.sleep(0.005)

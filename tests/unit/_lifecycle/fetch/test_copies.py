# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The next generation of an image: layers that archives on the host have do not come again, and whose layers those may be."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
from collections.abc import Callable
from typing import Any

import pytest

from module_utils._lifecycle.fetch import copies
from module_utils._lifecycle.fetch.options import Reuse
from module_utils._names import ObjectKey
from module_utils._source.reuse import paged
from tests.unit._lifecycle.machine import KEY, Machine
from tests.unit.builders import images, tar

KIB = 1 << 10
STRANGER = ObjectKey("images/stranger.tar")


def layer(seed: int, size_kib: int) -> bytes:
    return tar.tar(tar.file(b"file%d" % seed, random.Random(seed).randbytes(size_kib * KIB)))


BASE, APP, NEXT_APP = layer(1, 3000), layer(2, 200), layer(3, 200)
PRIVATE = layer(4, 2000)  # of the stranger


@pytest.fixture(autouse=True)
def small_archives_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Archives of tests are smaller than those for which this is worth it, and a busy machine is no reason here to look no further."""
    monkeypatch.setattr(copies, "LEAST_OBJECT_BYTES", 1 << 20)
    monkeypatch.setattr(copies, "LEAST_HERE_BYTES", 1 << 20)
    for module in (copies, paged):
        monkeypatch.setattr(module, "_MAX_SECONDS", 600.0)


def fetched(machine: Machine, content: bytes, key: ObjectKey = KEY, **how: Any) -> dict[str, Any]:
    """What flyd_fetch says of the object, which has ``content`` now, and what the log says of the end."""
    machine.s3.put(key.value, content)
    facts = machine.fetch(key=key, **how).facts
    path = machine.state / "archives" / hashlib.sha256(content).hexdigest()
    assert path.read_bytes() == content
    assert machine.left_over() == []
    lines = [json.loads(line) for line in (machine.state / "log/flyd.jsonl").read_text().splitlines()]
    return {**facts, "end": [line for line in lines if line["event"] == "end"][-1]}


def pinned(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def gzipped(one: bytes) -> bytes:
    return gzip.compress(one, 1, mtime=0)


@pytest.mark.parametrize(
    "pack",
    [
        images.docker_archive,
        images.oci_archive,
        lambda layers: images.oci_archive(layers, gzipped),
    ],
    ids=["docker", "oci", "oci-gzip"],
)
def test_of_the_next_generation_only_the_layer_that_changed_comes(
    pooled: Machine, pack: Callable[[list[bytes]], bytes]
) -> None:
    fetched(pooled, pack([BASE, APP]))
    said = fetched(pooled, pack([BASE, NEXT_APP]))
    assert said["bytes_reused"] > 2900 * KIB
    assert said["received_bytes"] == said["size"] - said["bytes_reused"] < 300 * KIB
    assert 0 < said["walk_requests"] <= 8
    end = said["end"]
    assert (end["bytes_reused"], end["walk_requests"]) == (said["bytes_reused"], said["walk_requests"])
    assert end["not_reused_because"] is None


def reused(machine: Machine, content: bytes, key: ObjectKey = KEY, **how: Any) -> tuple[bool, str | None]:
    """Whether anything was, and what the log gives as the reason why not."""
    said = fetched(machine, content, key, **how)
    return said["bytes_reused"] > 0, said["end"]["not_reused_because"]


def test_a_layer_of_another_key_needs_the_digest_of_the_whole(pooled: Machine) -> None:
    fetched(pooled, images.docker_archive([PRIVATE]), STRANGER)
    mine = images.docker_archive([PRIVATE, APP])
    assert reused(pooled, mine) == (False, "no_copies")
    other = images.docker_archive([PRIVATE, NEXT_APP])
    assert reused(pooled, other, ObjectKey("images/third.tar"), checksum=pinned(other)) == (True, None)


def claiming(archive: bytes, layer: bytes, filler: bytes) -> bytes:
    """The archive with ``filler`` where ``layer`` was: it claims to have a layer that its author has never seen."""
    assert len(layer) == len(filler)
    return archive.replace(layer, filler)


@pytest.mark.parametrize("is_pinned", [False, True])
def test_who_names_a_strangers_layer_does_not_get_it(pooled: Machine, is_pinned: bool) -> None:
    """The digest of a layer is no secret, and an archive can claim any."""
    fetched(pooled, images.docker_archive([PRIVATE]), STRANGER)
    mine = claiming(images.docker_archive([PRIVATE, APP]), PRIVATE, bytes(len(PRIVATE)))
    said = fetched(pooled, mine, checksum=pinned(mine) if is_pinned else "")  # its very bytes: see fetched
    assert said["bytes_reused"] == 0
    assert said["end"]["not_reused_because"] == ("wrong_digest" if is_pinned else "no_copies")


def test_a_false_claim_of_a_layer_of_the_same_key_gives_the_layer(pooled: Machine) -> None:
    """Without a digest of the whole nothing tells; what is stored then is the image that the archive says it is."""
    honest = images.docker_archive([BASE, NEXT_APP])
    fetched(pooled, images.docker_archive([BASE, APP]))
    pooled.s3.put(KEY.value, claiming(honest, BASE, bytes(len(BASE))))
    facts = pooled.fetch().facts
    path = pooled.state / "archives" / facts["sha256"]
    head = 16 * KIB - 512  # what was read to find out stays as it came
    assert facts["bytes_reused"] == len(BASE) - head
    assert path.stat().st_size == len(honest)
    assert facts["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_rotten_archive_gives_nothing(pooled: Machine) -> None:
    before = images.docker_archive([BASE, APP])
    fetched(pooled, before)
    path = pooled.state / "archives" / hashlib.sha256(before).hexdigest()
    rotten = bytearray(before)
    rotten[len(BASE) // 2] ^= 1
    path.write_bytes(rotten)
    assert reused(pooled, images.docker_archive([BASE, NEXT_APP])) == (False, "copy_differs")


def test_an_archive_that_is_no_file_is_passed_over(pooled: Machine) -> None:
    before = images.docker_archive([BASE, APP])
    fetched(pooled, before)
    path = pooled.state / "archives" / hashlib.sha256(before).hexdigest()
    path.unlink()
    os.mkfifo(path)
    after = images.docker_archive([BASE, NEXT_APP])
    assert reused(pooled, after, checksum=pinned(after)) == (False, "no_copies")


def test_each_reason_to_download_it_whole_is_in_the_log(pooled: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert reused(pooled, images.docker_archive([BASE])) == (False, "no_copies")
    assert reused(pooled, gzipped(images.docker_archive([BASE, APP]))) == (False, "not_understood")
    assert reused(pooled, layer(9, 2000)) == (False, "nothing_in_common")
    assert reused(pooled, images.docker_archive([layer(8, 2000)])) == (False, "nothing_in_common")
    monkeypatch.setattr(copies, "LEAST_OBJECT_BYTES", 1 << 30)
    assert reused(pooled, images.docker_archive([BASE, APP])) == (False, "small_object")


def test_reuse_never_downloads_it_whole(pooled: Machine) -> None:
    fetched(pooled, images.docker_archive([BASE, APP]))
    said = fetched(pooled, images.docker_archive([BASE, NEXT_APP]), reuse=Reuse.NEVER)
    assert (said["bytes_reused"], said["walk_requests"], said["received_bytes"]) == (0, 0, said["size"])
    assert said["end"]["not_reused_because"] is None

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an archive claims of its layers, from a few pieces of it, whatever wrote it."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import time

import pytest

from module_utils._image.outline import members
from module_utils._image.outline.claims import Claim, claims
from tests.unit.builders import images
from tests.unit.builders.tar import directory, file, hard_link, header, symlink, tar

LARGE = tar(file(b"large", random.Random(1).randbytes(300_000)))
OTHER = tar(file(b"other", random.Random(2).randbytes(200_000)))
SMALL = tar(file(b"small", b"y" * 10_000))


def hex_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def packed(layer: bytes) -> bytes:
    return gzip.compress(layer, mtime=0)


def of(archive: bytes) -> tuple[Claim, ...] | None:
    return claims(lambda offset, _least, most: archive[offset : offset + most], len(archive))


def right(archive: bytes, *layers: bytes) -> tuple[Claim, ...]:
    return tuple(Claim(archive.index(layer), len(layer), hex_of(layer)) for layer in layers)


def by_name(suffix: str, *layers: bytes) -> bytes:
    """As skopeo, kaniko and others write it: the names of layers are digests."""
    names = [hex_of(layer) + suffix for layer in layers]
    listed = json.dumps([{"Config": "none.json", "Layers": names}]).encode()
    return images.archive({**{n.encode(): one for n, one in zip(names, layers)}, b"manifest.json": listed})


@pytest.mark.parametrize(
    ("archive", "layers"),
    [
        (images.docker_archive([LARGE, OTHER]), [LARGE, OTHER]),
        (images.docker_archive([LARGE, SMALL]), [LARGE]),
        (images.oci_archive([LARGE, OTHER]), [LARGE, OTHER]),
        (images.oci_archive([LARGE, OTHER], packed), [packed(LARGE), packed(OTHER)]),
        (by_name(".tar", LARGE, OTHER), [LARGE, OTHER]),
        (by_name(".tar.gz", packed(LARGE)), [packed(LARGE)]),
        (by_name("", LARGE), [LARGE]),
    ],
)
def test_large_layers_are_known_by_their_digests(archive: bytes, layers: list[bytes]) -> None:
    assert of(archive) == right(archive, *layers)


def test_a_compressed_layer_whose_name_says_nothing_claims_nothing() -> None:
    assert of(images.docker_archive([LARGE], packed)) == ()


def test_a_layer_that_another_is_a_link_to_is_claimed_once() -> None:
    configuration = json.dumps({"rootfs": {"diff_ids": [f"sha256:{hex_of(LARGE)}"] * 3}}).encode()
    layers = ["one/layer.tar", "two/layer.tar", "three.tar"]
    archive = tar(
        directory(b"one"),
        file(b"one/layer.tar", LARGE),
        symlink(b"two/layer.tar", b"../one/layer.tar"),
        hard_link(b"three.tar", b"one/layer.tar"),
        file(b"c.json", configuration),
        file(b"manifest.json", json.dumps([{"Config": "c.json", "Layers": layers}]).encode()),
    )
    assert of(archive) == right(archive, LARGE)


def docker(listed: object, configuration: object = None) -> bytes:
    documents = [file(b"c", json.dumps(configuration).encode()), file(b"manifest.json", json.dumps(listed).encode())]
    return tar(file(b"l", LARGE), *documents)


@pytest.mark.parametrize(
    "archive",
    [
        b"",
        b"<html>no archive</html>" * 5000,
        gzip.compress(images.docker_archive([LARGE])),
        docker(7),
        docker([7]),
        docker([{"Layers": ["l"]}]),
        docker([{"Layers": ["l"], "Config": "missing"}]),
        docker([{"Layers": ["l"], "Config": "c"}]),
        docker([{"Layers": ["l"], "Config": "c"}], {"rootfs": {"diff_ids": []}}),
        docker([{"Layers": ["l"], "Config": "c"}], {"rootfs": {"diff_ids": 7}}),
        docker([{"Layers": ["l"], "Config": "l"}]),
        tar(header(b"back", size=-512)),
    ],
)
def test_what_cannot_be_understood_claims_nothing(archive: bytes) -> None:
    assert not of(archive)


def test_what_is_no_digest_is_no_claim() -> None:
    assert of(docker([{"Layers": ["l"], "Config": "c"}], {"rootfs": {"diff_ids": ["sha512:12"]}})) == ()
    assert of(docker([{"Layers": ["l"], "Config": "c"}], {"rootfs": {"diff_ids": [{}]}})) == ()


def test_a_member_that_ends_behind_the_archive_claims_nothing() -> None:
    archive = tar(header(b"0" * 64 + b".tar", size=1 << 40))
    assert not of(archive)


def test_a_list_that_names_one_large_document_for_ever_is_given_up() -> None:
    """Thousands of images with one configuration of half a megabyte: it is in the window, and would be parsed each time."""
    image = {"Layers": ["l"], "Config": "c"}
    archive = docker([image] * 3000, {"rootfs": {"diff_ids": ["none"]}, "x": list(range(80_000))})
    begun = time.process_time()
    assert of(archive) is None
    assert time.process_time() - begun < 15, "parsing is bounded as reading is"


def test_an_archive_of_many_members_is_not_read_to_its_end() -> None:
    archive = tar(*(file(b"%d" % number, bytes(20_000)) for number in range(600)))
    reads = []
    assert claims(lambda at, _least, most: reads.append(at) or archive[at : at + most], len(archive)) is None  # type: ignore[func-returns-value]
    assert len(reads) == members._MAX_READS

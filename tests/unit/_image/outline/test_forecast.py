"""The layers of an archive that is elsewhere, from a few pieces of it."""

from __future__ import annotations

import gzip
import json

import pytest

from module_utils._image.outline import members
from module_utils._image.outline.forecast import least_layers_bytes
from tests.unit.builders import images
from tests.unit.builders.tar import directory, file, hard_link, header, long_name, pax, symlink, tar

LARGE = tar(file(b"large", b"x" * 300_000))
SMALL = tar(file(b"small", b"y" * 10_000))


class Elsewhere:
    """An archive, and what was read of it."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.reads: list[tuple[int, int]] = []

    def read(self, offset: int, _least: int, most: int) -> bytes:
        self.reads.append((offset, most))
        return self.content[offset : offset + most]

    def least(self) -> int | None:
        return least_layers_bytes(self.read, len(self.content))


def test_of_a_docker_archive_only_headers_and_the_list_are_read() -> None:
    archive = Elsewhere(images.docker_archive([LARGE, SMALL, LARGE]))
    assert archive.least() == 2 * len(LARGE) + len(SMALL)
    assert sum(length for _offset, length in archive.reads) < 6 * (16 << 10)


def test_of_an_oci_archive_too() -> None:
    archive = Elsewhere(images.oci_archive([LARGE, SMALL]))
    assert archive.least() == len(LARGE) + len(SMALL)


def test_compressed_layers_count_as_they_are_stored() -> None:
    packed = gzip.compress(LARGE, mtime=0)
    archive = Elsewhere(images.docker_archive([LARGE], lambda layer: gzip.compress(layer, mtime=0)))
    assert archive.least() == len(packed)


def test_an_archive_that_is_compressed_as_a_whole_is_at_least_as_large() -> None:
    archive = Elsewhere(gzip.compress(images.docker_archive([LARGE])))
    assert archive.least() == len(archive.content)
    assert len(archive.reads) == 1


def test_of_several_images_the_smallest_counts() -> None:
    manifest = json.dumps([{"Layers": ["a.tar", "b.tar"]}, {"Layers": ["./b.tar"]}]).encode()
    content = images.archive({b"a.tar": LARGE, b"b.tar": SMALL, b"manifest.json": manifest})
    assert Elsewhere(content).least() == len(SMALL)


def test_layers_that_are_links_and_long_names_are_found() -> None:
    deep = b"/".join([b"d" * 90] * 3) + b"/layer.tar"
    manifest = json.dumps([{"Layers": ["one/layer.tar", "two/layer.tar", "three.tar", deep.decode(), "p"]}]).encode()
    content = tar(
        directory(b"one"),
        file(b"one/layer.tar", SMALL),
        symlink(b"two/layer.tar", b"../one/layer.tar"),
        hard_link(b"three.tar", b"one/layer.tar"),
        long_name(deep),
        file(b"x", SMALL),
        pax((b"path", b"p")),
        file(b"x", SMALL),
        file(b"manifest.json", manifest),
    )
    assert Elsewhere(content).least() == 5 * len(SMALL)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        bytes(1024),
        b"<html>no archive</html>" * 100,
        images.docker_archive([LARGE])[:5000],
        tar(file(b"manifest.json", b"[")),
        tar(file(b"manifest.json", b'[{"Layers": ["missing"]}]')),
        tar(file(b"manifest.json", b"[7]")),
        tar(file(b"manifest.json", b"[]")),
        tar(file(b"index.json", b'{"manifests": 7}')),
        tar(file(b"index.json", b'{"manifests": [{"digest": "sha256:00"}]}')),
        tar(file(b"only", b"a layer of a family")),
        tar(pax((b"size", b"x")), file(b"x")),
        tar(pax((b"size", b"-512")), file(b"x")),
        tar(header(b"back", size=-512)),
        tar(header(b"././@LongLink", b"L", -512)),
    ],
)
def test_what_cannot_be_understood_is_not_judged(content: bytes) -> None:
    assert Elsewhere(content).least() is None


def test_an_archive_of_many_members_is_not_read_to_its_end() -> None:
    archive = Elsewhere(tar(*(file(b"%d" % number, bytes(20_000)) for number in range(600))))
    assert archive.least() is None
    assert len(archive.reads) == members._MAX_READS


def test_a_list_that_contains_itself_ends() -> None:
    entry = {"digest": "sha256:aa"}
    document = json.dumps({"manifests": [entry, entry]}).encode()
    content = images.archive({b"blobs/sha256/aa": document, b"index.json": document})
    assert Elsewhere(content).least() is None

"""Archives as each producer writes them become the same tree."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable

import pytest

from tests.tools.tree import Rows, comparable
from tests.unit._image.unpacked import Playground, needs_root
from tests.unit.builders import images, tar

pytestmark = needs_root

LOWER = tar.tar(
    tar.directory(b"etc"),
    tar.file(b"etc/a", b"a" * 700, mode=0o4755, uid=3),
    tar.file(b"gone"),
    tar.symlink(b"l", b"/etc"),
)
UPPER = tar.tar(tar.file(b".wh.gone"), tar.file(b"l/b", b"b"), tar.hard_link(b"c", b"etc/a"))
LAYERS = [LOWER, UPPER]


def docker_24() -> bytes:
    """docker save up to 24: id/layer.tar beside id/json and id/VERSION, and a repeated layer is a symbolic link."""
    members = images.docker_members([*LAYERS, UPPER])
    extra = {b"layer0/VERSION": b"1.0", b"layer0/json": b"{}", b"repositories": b'{"x": {"latest": "layer2"}}'}
    extra |= {b"layer1/json": b'{"parent": "layer0"}', b"layer2/json": b'{"parent": "layer1"}'}
    del members[b"layer2/layer.tar"]
    link = tar.symlink(b"layer2/layer.tar", b"../layer1/layer.tar")
    return tar.tar(link, *(tar.file(*member) for member in {**members, **extra}.items()))


def docker_25() -> bytes:
    """docker save from 25 on: blobs without a suffix, index.json and manifest.json side by side, an attestation."""
    members = images.oci_members(LAYERS)
    index = json.loads(members[b"index.json"])
    attestation = b'{"config": {}, "layers": []}'
    platform = {"os": "unknown", "architecture": "unknown"}
    notes = {"vnd.docker.reference.type": "attestation-manifest"}
    index["manifests"].append(images.descriptor(attestation, platform=platform, annotations=notes))
    description = next(data for data in members.values() if b"rootfs" in data)
    manifest = [
        {
            "Config": images.blob_name(description).decode(),
            "RepoTags": ["x:latest"],
            "Layers": [images.blob_name(layer).decode() for layer in LAYERS],
        }
    ]
    changed = {b"index.json": json.dumps(index).encode(), b"manifest.json": json.dumps(manifest).encode()}
    return images.archive({**members, images.blob_name(attestation): attestation, **changed})


def podman() -> bytes:
    """podman and skopeo, docker-archive: digest.tar, with id/layer.tar as a symbolic link beside it."""
    names = [images.sha256(layer).partition(":")[2] + ".tar" for layer in LAYERS]
    members = images.docker_members(LAYERS, Layers=names)
    layers = [(name.encode(), members.pop(b"layer%d/layer.tar" % at)) for at, name in enumerate(names)]
    links = [tar.symlink(b"id%d/layer.tar" % at, b"../" + name) for at, (name, _) in enumerate(layers)]
    return tar.tar(*links, *(tar.file(*member) for member in (*layers, *members.items())))


def crane() -> bytes:
    """crane, ko, kaniko, bazel: digest.tar.gz, and a configuration named sha256:x."""
    names = [images.sha256(layer).partition(":")[2] + ".tar.gz" for layer in LAYERS]
    members = images.docker_members(LAYERS, gzip.compress)
    description = next(data for data in members.values() if b"rootfs" in data)
    manifest = [{"Config": images.sha256(description), "RepoTags": None, "Layers": names}]
    layers = {name.encode(): gzip.compress(layer) for name, layer in zip(names, LAYERS)}
    rest = {images.sha256(description).encode(): description, b"manifest.json": json.dumps(manifest).encode()}
    return images.archive({**layers, **rest})


def ctr() -> bytes:
    """ctr image export: compressed blobs, an index in an index, other platforms' blobs absent."""
    members = images.oci_members(LAYERS, gzip.compress)
    (ours,) = json.loads(members[b"index.json"])["manifests"]
    other = images.descriptor(b"absent", platform={"os": "linux", "architecture": "s390x"})
    inner = json.dumps({"manifests": [ours, other]}).encode()
    members[images.blob_name(inner)] = inner
    members[b"index.json"] = json.dumps({"manifests": [images.descriptor(inner)]}).encode()
    return images.archive(members)


PRODUCERS: dict[str, Callable[[], bytes]] = {
    "docker save up to 24": docker_24,
    "docker save from 25 on": docker_25,
    "podman and skopeo, docker-archive": podman,
    "oci-archive": lambda: images.oci_archive(LAYERS, gzip.compress),
    "crane, ko, kaniko, bazel": crane,
    "nix dockerTools": lambda: gzip.compress(images.docker_archive(LAYERS)),
    "ctr export": ctr,
}


def tree(playground: Playground, archive: bytes) -> Rows:
    """The tree of ``archive``, without the times of directories that no member is."""
    return comparable(playground.unpack_archive(archive).rows)


@pytest.fixture
def expected(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """The tree that all of them must become."""
    return comparable(Playground(tmp_path_factory.mktemp("expected")).unpack("family", LAYERS).rows)


@pytest.mark.parametrize("producer", PRODUCERS)
def test_every_producers_archive_becomes_the_same_tree(playground: Playground, expected: Rows, producer: str) -> None:
    assert tree(playground, PRODUCERS[producer]()) == expected
    assert {"/etc/a", "/etc/b", "/c", "/l"} < expected.keys()
    assert "/gone" not in expected

"""Manifests, configurations and digests that lie."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from module_utils._errors import Unsupported, Untrusted
from module_utils._image import documents
from tests.unit._image.unpacked import Playground, needs_root, plan_of
from tests.unit.builders import images, tar

LAYER = tar.tar(tar.file(b"f", b"content"))


def refusal(directory: Path, members: dict[bytes, bytes]) -> str:
    """The message with which an archive of ``members`` is refused."""
    with pytest.raises(Untrusted) as caught:
        plan_of(directory, images.archive(members))
    return caught.value.msg


def docker(**changes: Any) -> dict[bytes, bytes]:
    """A docker archive whose manifest was changed."""
    return images.docker_members([LAYER], **changes)


@pytest.mark.parametrize(
    "path", ["../../etc/shadow", "/../etc/shadow", "layer0/../../x", "..", "/etc/shadow", "", "no\0thing", "\ud800"]
)
def test_a_layers_path_is_only_looked_up_among_the_members(tmp_path: Path, path: str) -> None:
    refusal(tmp_path, docker(Layers=[path]))
    refusal(tmp_path, docker(Config=path))


@pytest.mark.parametrize("target", [b"/etc/shadow", b"../../etc/shadow", b"/layer0/layer.tar"])
def test_a_layer_that_links_out_of_the_archive_is_refused(tmp_path: Path, target: bytes) -> None:
    members = docker(Layers=["link"])
    archive = tar.tar(tar.symlink(b"link", target), *(tar.file(*item) for item in members.items()))
    with pytest.raises(Untrusted, match="link to something outside"):
        plan_of(tmp_path, archive)


def test_layers_that_link_to_each_other_are_refused(tmp_path: Path) -> None:
    files = [tar.file(*item) for item in docker(Layers=["one"]).items()]
    circle = tar.tar(tar.symlink(b"one", b"two"), tar.symlink(b"two", b"one"), *files)
    with pytest.raises(Untrusted, match="chain of more than 8 links"):
        plan_of(tmp_path, circle)


def test_eight_links_are_followed_and_nine_are_not(tmp_path: Path) -> None:
    links = [tar.symlink(b"l%d" % at, b"l%d" % (at + 1)) for at in range(1, 9)]
    links.append(tar.symlink(b"l9", b"layer0/layer.tar"))
    for first, is_fine in ((b"l2", True), (b"l1", False)):
        files = [tar.file(*item) for item in docker(Layers=[first.decode()]).items()]
        if is_fine:
            assert plan_of(tmp_path, tar.tar(*links, *files)).leaves.names == [b"f"]
        else:
            with pytest.raises(Untrusted, match="links"):
                plan_of(tmp_path, tar.tar(*links, *files))


WEAPONS = {
    "null": b"null",
    "nothing": b"",
    "no JSON": b"{]",
    "no UTF-8": b'["\xff"]',
    "an empty list": b"[]",
    "an object": b"{}",
    "a list of null": b"[null]",
    "a list of strings": b'["x"]',
    "depth": b"[" * 100_000 + b"]" * 100_000,
    "NaN": b'[{"Config": NaN}]',
    "Infinity": b'[{"Config": -Infinity}]',
    "a key twice": b'[{"Config": "a", "Config": "b", "Layers": []}]',
    "a key twice in two cases": b'[{"Config": "a", "config": "b", "Layers": []}]',
    "a number for a name": b'[{"Config": 7, "Layers": []}]',
    "a number of a million digits": b'[{"Config": ' + b"7" * 1_000_000 + b"}]",
    "layers that are a string": b'[{"Config": "c", "Layers": "abc"}]',
    "layers that are numbers": b'[{"Config": "c", "Layers": [1]}]',
    "no configuration": b'[{"Layers": []}]',
    "true for a list": b'[{"Config": "c", "Layers": true}]',
}


@pytest.mark.parametrize("weapon", WEAPONS)
def test_a_manifest_is_no_weapon(tmp_path: Path, weapon: str) -> None:
    assert "manifest.json" in refusal(tmp_path, {**docker(), b"manifest.json": WEAPONS[weapon]})


@pytest.mark.parametrize("weapon", WEAPONS)
def test_an_index_and_a_configuration_are_no_weapons_either(tmp_path: Path, weapon: str) -> None:
    assert "index.json" in refusal(tmp_path, {**images.oci_members([LAYER]), b"index.json": WEAPONS[weapon]})
    refusal(tmp_path, {**docker(Config="c"), b"c": WEAPONS[weapon]})


def test_a_long_number_costs_no_time() -> None:
    with pytest.raises(Untrusted, match="too long"):
        documents.parse(b"[" + b"7" * 30 + b"]", "the document")


def test_a_document_above_four_mebibytes_is_not_read(tmp_path: Path) -> None:
    large = {**docker(), b"manifest.json": b"[" + b" " * (4 << 20) + b"]"}
    assert "document_bytes is 4194304" in refusal(tmp_path, large)


def test_a_manifest_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    files = [tar.file(*item) for item in docker().items()]
    for double in (b"manifest.json", b"./manifest.json", b"layer0/layer.tar"):
        with pytest.raises(Untrusted, match="two different members of this name"):
            plan_of(tmp_path, tar.tar(*files, tar.file(double, b"[]")))


@pytest.mark.parametrize("diff_ids", [[], ["sha256:" + "0" * 64] * 2, None])
def test_counts_that_lie_are_refused(tmp_path: Path, diff_ids: object) -> None:
    description = images.config([LAYER], rootfs={"type": "layers", "diff_ids": diff_ids})
    assert "speaks of" in refusal(tmp_path, {**docker(Config="c"), b"c": description})


def test_repeated_layers_are_legal(tmp_path: Path) -> None:
    assert plan_of(tmp_path, images.docker_archive([LAYER, LAYER])).leaves.names == [b"f"]
    assert plan_of(tmp_path, images.oci_archive([LAYER, LAYER])).leaves.names == [b"f"]


def test_an_image_without_layers_is_an_empty_tree(tmp_path: Path) -> None:
    assert plan_of(tmp_path, images.docker_archive([])).entries == 0


@pytest.mark.parametrize("diff_id", ["md5:" + "0" * 32, "sha256:short", "sha256", "", "SHA256-" + "0" * 64])
def test_unknown_algorithms_and_broken_digests_are_refused(tmp_path: Path, diff_id: str) -> None:
    description = images.config([LAYER], rootfs={"type": "layers", "diff_ids": [diff_id]})
    assert "digest" in refusal(tmp_path, {**docker(Config="c"), b"c": description})


def test_sha512_works(tmp_path: Path) -> None:
    diff_id = "sha512:" + hashlib.sha512(LAYER).hexdigest()
    description = images.config([LAYER], rootfs={"type": "layers", "diff_ids": [diff_id]})
    assert plan_of(tmp_path, images.archive({**docker(Config="c"), b"c": description})).leaves.names == [b"f"]


def test_a_configuration_that_is_not_what_its_name_says_is_refused(tmp_path: Path) -> None:
    name = images.blob_name(images.config([LAYER]))
    members = docker(Config=name.decode())
    assert name.decode() in refusal(tmp_path, {**members, name: images.config([LAYER], author="another")})


@needs_root
@pytest.mark.parametrize("pack", [images.as_it_is, gzip.compress])
@pytest.mark.parametrize("form", ["docker", "oci"])
def test_a_layer_with_another_digest_is_refused_by_name(playground: Playground, form: str, pack: images.Pack) -> None:
    members = (images.docker_members if form == "docker" else images.oci_members)([LAYER], pack)
    name = next(name for name, data in members.items() if data == pack(LAYER))
    members[name] = pack(tar.tar(tar.file(b"f", b"CONTENT")))
    with pytest.raises(Untrusted, match=r"digest|bytes long") as caught:
        playground.unpack_archive(images.archive(members))
    assert name.rpartition(b"/")[2].decode()[:64] in caught.value.msg or name.decode() in caught.value.msg


def test_two_layers_in_each_others_place_are_refused(tmp_path: Path) -> None:
    other = tar.tar(tar.file(b"g", b"content"))
    members = images.docker_members([LAYER, other])
    members[b"layer0/layer.tar"], members[b"layer1/layer.tar"] = other, LAYER
    assert "digest" in refusal(tmp_path, members)


@pytest.mark.parametrize("where", ["manifest", "config", "layer"])
def test_a_blob_with_bytes_behind_it_is_refused(tmp_path: Path, where: str) -> None:
    members = images.oci_members([LAYER])
    blobs = [name for name in members if name.startswith(b"blobs/")]
    name = blobs[("manifest", "config", "layer").index(where)]
    members[name] += b" "
    assert "bytes long" in refusal(tmp_path, members)


def changed_manifest(**changes: Any) -> dict[bytes, bytes]:
    """An OCI archive whose layer's descriptor was changed."""
    description = images.config([LAYER])
    layer = {**images.descriptor(LAYER), **changes}
    manifest = json.dumps({"config": images.descriptor(description), "layers": [layer]}).encode()
    index = json.dumps({"manifests": [images.descriptor(manifest)]}).encode()
    blobs = {images.blob_name(blob): blob for blob in (LAYER, description, manifest)}
    return {b"oci-layout": b"{}", b"index.json": index, **blobs}


def test_urls_are_never_fetched(tmp_path: Path) -> None:
    members = changed_manifest(urls=["http://127.0.0.1:1/layer"])
    assert plan_of(tmp_path, images.archive(members)).leaves.names == [b"f"]
    del members[images.blob_name(LAYER)]
    assert "not in the archive" in refusal(tmp_path, members)


def test_a_media_type_is_not_believed(tmp_path: Path) -> None:
    members = changed_manifest(mediaType="application/vnd.oci.image.layer.v1.tar+gzip")
    assert plan_of(tmp_path, images.archive(members)).leaves.names == [b"f"]


def test_an_encrypted_layer_is_said_to_be_one(tmp_path: Path) -> None:
    members = changed_manifest(mediaType="application/vnd.oci.image.layer.v1.tar+gzip+encrypted")
    with pytest.raises(Unsupported, match="encrypted"):
        plan_of(tmp_path, images.archive(members))


@pytest.mark.parametrize("size", [-1, None, "12", 1.5, 10**30])
def test_a_size_that_is_none_is_refused(tmp_path: Path, size: object) -> None:
    refusal(tmp_path, changed_manifest(size=size))


def test_the_configuration_is_handed_on(tmp_path: Path) -> None:
    from module_utils._image.formats.config import parse_config

    parsed = parse_config(images.config([LAYER]), "c").config
    assert parsed.to_json()["Env"] == ["PATH=/bin"]
    assert (parsed.cmd, parsed.entrypoint, parsed.architecture) == (("/bin/sh",), (), "amd64")


def warnings_of(playground: Playground, members: dict[bytes, bytes], *double: bytes) -> list[str]:
    """What is said of the image in ``members``, all of which is taken."""
    done = playground.unpack_archive(tar.tar(*(tar.file(*item) for item in members.items()), *double))
    assert set(done.kinds()) == {"/f"}
    return done.summary.warnings


@needs_root
def test_members_that_are_there_twice_with_the_same_bytes_are_one(playground: Playground) -> None:
    members = docker()
    double = [tar.file(name, members[name]) for name in (b"manifest.json", b"layer0/layer.tar", b"layer0/layer.tar")]
    assert warnings_of(playground, members, *double) == []


@needs_root
def test_blobs_that_are_there_twice_with_the_same_bytes_are_one(playground: Playground) -> None:
    members = images.oci_members([LAYER])
    assert warnings_of(playground, members, *(tar.file(*item) for item in members.items())) == []


def test_a_name_that_is_a_file_and_a_link_is_refused_whichever_comes_first(tmp_path: Path) -> None:
    link = tar.symlink(b"layer0/layer.tar", b"../manifest.json")
    files = [tar.file(*item) for item in docker().items()]
    for archive in (tar.tar(link, *files), tar.tar(*files, link)):
        with pytest.raises(Untrusted, match="two different members of this name"):
            plan_of(tmp_path, archive)


@needs_root
def test_links_that_are_there_twice_with_the_same_target_are_one(playground: Playground) -> None:
    members = docker()
    layer = members.pop(b"layer0/layer.tar")
    link = tar.symlink(b"layer0/layer.tar", b"../l")
    assert warnings_of(playground, {**members, b"l": layer}, link, link) == []


@needs_root
def test_an_oci_layout_without_its_file_oci_layout_is_taken_with_a_warning(playground: Playground) -> None:
    members = images.oci_members([LAYER])
    del members[b"oci-layout"]
    assert warnings_of(playground, members) == ["the archive is an OCI layout without its file oci-layout"]


def test_the_two_lists_of_an_archive_must_agree_without_the_file_oci_layout_too(tmp_path: Path) -> None:
    members = {**docker(), **images.oci_members([tar.tar(tar.file(b"other"))])}
    del members[b"oci-layout"]
    assert "manifest.json names sha256:" in refusal(tmp_path, members)


@needs_root
@pytest.mark.parametrize("name", ["0" * 64 + ".json", "sha256:" + "0" * 64])
def test_a_configuration_by_another_name_than_its_digest_is_taken_with_a_warning(
    playground: Playground, name: str
) -> None:
    members = docker(Config=name)
    members[name.encode()] = images.config([LAYER])
    (warning,) = warnings_of(playground, members)
    assert images.sha256(images.config([LAYER])) in warning
    assert name in warning


@needs_root
def test_an_index_that_names_another_machine_than_the_configuration_is_said(playground: Playground) -> None:
    members = images.oci_members([LAYER], platform={"os": "linux", "architecture": "s390x"})
    index = json.loads(members[b"index.json"])
    index["manifests"][0]["platform"] = {"os": "linux", "architecture": "x86_64"}
    members[b"index.json"] = json.dumps(index).encode()
    done = playground.unpack_archive(images.archive(members), platform="linux/amd64")
    assert done.summary.warnings == [
        "the index says that the image is for linux/amd64, and its configuration says linux/s390x"
    ]


def test_a_zstd_chunked_layer_of_another_tar_is_refused_with_the_reason(tmp_path: Path) -> None:
    members = images.oci_members([LAYER], pack=lambda _: gzip.compress(LAYER + bytes(512)))
    index = json.loads(members[b"index.json"])
    name = b"blobs/" + index["manifests"][0]["digest"].replace(":", "/").encode()
    manifest = json.loads(members.pop(name))
    manifest["layers"][0]["annotations"] = {"io.github.containers.zstd-chunked.manifest-checksum": "sha256:0"}
    data = json.dumps(manifest).encode()
    members |= {images.blob_name(data): data}
    members[b"index.json"] = json.dumps({"manifests": [images.descriptor(data)]}).encode()
    with pytest.raises(Untrusted, match="digest") as caught:
        plan_of(tmp_path, images.archive(members))
    assert "zstd:chunked" in caught.value.hint

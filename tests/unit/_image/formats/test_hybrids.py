"""Archives with index.json and manifest.json side by side, as Docker 25 and BuildKit write them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from module_utils._errors import Untrusted
from tests.unit._image.unpacked import plan_of
from tests.unit.builders import images, tar

ONE = tar.tar(tar.file(b"one", b"1"))
OTHER = tar.tar(tar.file(b"other", b"3"))


def hybrid(oci_layers: list[bytes], docker_layers: list[bytes]) -> dict[bytes, bytes]:
    """The members of an archive that is both."""
    docker = images.docker_members(docker_layers)
    return {**docker, **images.oci_members(oci_layers)}


def manifest_of(config: bytes, layers: list[bytes]) -> dict[bytes, bytes]:
    """A manifest, the last of the blobs, and all that it names."""
    value = {"config": images.descriptor(config), "layers": [images.descriptor(layer) for layer in layers]}
    blobs = [config, *layers, json.dumps(value).encode()]
    return {images.blob_name(blob): blob for blob in blobs}


def indexed(*manifests: dict[bytes, bytes], **more: object) -> dict[bytes, bytes]:
    """index.json of ``manifests``, and their blobs."""
    listed = [images.descriptor(list(blobs.values())[-1], **more) for blobs in manifests]
    blobs = {name: blob for manifest in manifests for name, blob in manifest.items()}
    return {**blobs, b"oci-layout": b"{}", b"index.json": json.dumps({"manifests": listed}).encode()}


def docker_of(config: bytes, layers: list[bytes], **changes: Any) -> dict[bytes, bytes]:
    """manifest.json of one image with the configuration ``config``."""
    members = images.docker_members(layers, Config=images.blob_name(config).decode(), **changes)
    return {**members, images.blob_name(config): config}


def names(directory: Path, members: dict[bytes, bytes], **given: object) -> list[bytes]:
    """The names in the image."""
    return sorted(plan_of(directory, images.archive(members), platform="linux/amd64", **given).leaves.names)


def test_both_lists_of_the_same_layers_are_one_image(tmp_path: Path) -> None:
    assert names(tmp_path, hybrid([ONE], [ONE])) == [b"one"]


def test_two_lists_that_disagree_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Untrusted, match=r"index.json names the image sha256:.* and manifest.json names sha256:"):
        names(tmp_path, hybrid([ONE], [OTHER]))


def test_manifest_json_is_used_when_an_oci_blob_is_missing(tmp_path: Path) -> None:
    members = hybrid([ONE], [ONE])
    del members[images.blob_name(ONE)]
    assert names(tmp_path, members) == [b"one"]


@pytest.mark.parametrize("manifests", [None, []])
def test_manifest_json_is_used_when_the_index_is_empty(tmp_path: Path, manifests: object) -> None:
    members = hybrid([ONE], [OTHER])
    members[b"index.json"] = json.dumps({"schemaVersion": 2, "manifests": manifests}).encode()
    assert names(tmp_path, members) == [b"other"]


def test_manifest_json_is_used_when_the_counts_of_the_oci_side_differ(tmp_path: Path) -> None:
    members = hybrid([ONE, OTHER], [ONE, OTHER])
    members |= indexed(manifest_of(images.config([ONE, OTHER]), [ONE]))
    assert names(tmp_path, members) == [b"one", b"other"]


def test_a_broken_oci_side_must_name_the_configuration_of_manifest_json(tmp_path: Path) -> None:
    counts_differ = hybrid([ONE], [OTHER]) | indexed(manifest_of(images.config([ONE, ONE]), [ONE]))
    lacks_a_layer = hybrid([ONE], [OTHER])
    del lacks_a_layer[images.blob_name(ONE)]
    for members in (counts_differ, lacks_a_layer):
        with pytest.raises(Untrusted, match=r"index.json names the image"):
            names(tmp_path, members)


def test_index_json_is_used_when_a_member_of_manifest_json_is_missing(tmp_path: Path) -> None:
    members = hybrid([ONE], [ONE])
    del members[b"layer0/layer.tar"]
    assert names(tmp_path, members) == [b"one"]


def test_a_wrong_digest_on_the_oci_side_is_refused_though_manifest_json_is_there(tmp_path: Path) -> None:
    members = hybrid([ONE], [ONE])
    index = json.loads(members[b"index.json"])
    name = b"blobs/sha256/" + index["manifests"][0]["digest"].partition(":")[2].encode()
    members[name] = members[name].replace(b'"layers"', b'"Layers"')
    with pytest.raises(Untrusted, match="digest"):
        names(tmp_path, members)


def test_another_command_in_the_configuration_of_manifest_json_is_refused(tmp_path: Path) -> None:
    other = images.config([ONE], config={"Cmd": ["/bin/evil"]})
    with pytest.raises(Untrusted, match=r"manifest.json names sha256:.* for linux/amd64"):
        names(tmp_path, images.oci_members([ONE]) | docker_of(other, [ONE]))


@pytest.mark.parametrize("layer_is_there", [True, False])
@pytest.mark.parametrize(
    "platform", [{"architecture": "arm64"}, {"os": "windows"}, {"architecture": ""}, {"variant": "v3"}]
)
def test_an_image_for_another_platform_that_only_manifest_json_has_is_refused(
    tmp_path: Path, platform: dict[str, str], layer_is_there: bool
) -> None:
    members = images.oci_members([ONE]) | docker_of(images.config([OTHER], **platform), [OTHER])
    if not layer_is_there:
        del members[b"layer0/layer.tar"]
    with pytest.raises(Untrusted, match=r"index.json names the image sha256:.* for linux/amd64, and manifest.json"):
        names(tmp_path, members)


def of_two_platforms() -> tuple[dict[bytes, bytes], bytes]:
    """An index of two platforms, and the configuration of the other one."""
    ours, other = images.config([ONE]), images.config([OTHER], architecture="s390x")
    return indexed(manifest_of(ours, [ONE]), manifest_of(other, [OTHER])), other


def test_manifest_json_may_have_the_image_of_another_platform_that_the_index_has_too(tmp_path: Path) -> None:
    members, other = of_two_platforms()
    assert names(tmp_path, members | docker_of(other, [OTHER])) == [b"one"]


def test_an_image_that_the_index_has_for_our_platform_is_refused_when_its_configuration_says_another(
    tmp_path: Path,
) -> None:
    members, other = of_two_platforms()
    index = json.loads(members[b"index.json"])
    index["manifests"][0]["platform"] = images.THIS_PLATFORM
    index["manifests"][1]["platform"] = {"os": "linux", "architecture": "riscv64"}
    members[b"index.json"] = json.dumps(index).encode()
    with pytest.raises(Untrusted, match=r"for linux/amd64, and manifest.json names .* for linux/s390x"):
        names(tmp_path, members | docker_of(other, [OTHER]))


def test_layers_of_manifest_json_that_are_not_those_of_the_index_are_refused(tmp_path: Path) -> None:
    members = hybrid([ONE], [ONE])
    members[b"layer0/layer.tar"] = OTHER
    with pytest.raises(Untrusted, match=r"layer0/layer.tar has the digest"):
        names(tmp_path, members)
    members[b"layer0/layer.tar"] = gzip.compress(OTHER)
    with pytest.raises(Untrusted, match=r"layer0/layer.tar, decompressed, has the digest"):
        names(tmp_path, members)


def test_an_archive_without_oci_layout_has_two_lists_as_well(tmp_path: Path) -> None:
    members = hybrid([ONE], [OTHER])
    del members[b"oci-layout"]
    with pytest.raises(Untrusted, match=r"index.json names the image"):
        names(tmp_path, members)


def legacy(layers: list[bytes], **top: object) -> dict[bytes, bytes]:
    """``repositories`` and the layers below it, which are the members that ``docker_members`` names."""
    found = {b"repositories": json.dumps({"test/image": {"latest": f"layer{len(layers) - 1}"}}).encode()}
    for at, layer in enumerate(layers):
        parent = {"parent": f"layer{at - 1}"} if at else {}
        said = {**parent, **(top if at == len(layers) - 1 else {})}
        found |= {f"layer{at}/json".encode(): json.dumps(said).encode(), f"layer{at}/layer.tar".encode(): layer}
    return found


RUN = json.loads(images.config([]))["config"]


@pytest.mark.parametrize("top", [{}, {"config": RUN}], ids=["says nothing", "says the same"])
def test_repositories_beside_manifest_json_may_list_the_same_image(tmp_path: Path, top: dict[str, object]) -> None:
    members = images.docker_members([ONE, OTHER]) | legacy([ONE, OTHER], **top)
    assert names(tmp_path, members) == [b"one", b"other"]
    assert names(tmp_path, members, image_name="test/image") == [b"one", b"other"]


@pytest.mark.parametrize("image_name", ["", "test/image"])
def test_repositories_with_other_layers_or_another_configuration_are_refused(tmp_path: Path, image_name: str) -> None:
    members = images.docker_members([ONE, OTHER])
    fewer = {**legacy([ONE, OTHER]), b"repositories": b'{"test/image": {"latest": "layer0"}}'}
    with pytest.raises(
        Untrusted, match=r"test/image:latest names 1 layers, which are not those of the image in manifest.json"
    ):
        names(tmp_path, members | fewer, image_name=image_name)
    with pytest.raises(Untrusted, match=r"another configuration than that of the image in manifest.json"):
        names(tmp_path, members | legacy([ONE, OTHER], config={**RUN, "Cmd": ["/evil"]}), image_name=image_name)


def test_repositories_without_layers_of_their_own_are_not_looked_at(tmp_path: Path) -> None:
    members = hybrid([ONE], [ONE]) | {b"repositories": b'{"test/image": {"latest": "0123"}}'}
    assert names(tmp_path, members) == [b"one"]


def test_parents_that_go_round_in_a_circle_are_refused_at_once(tmp_path: Path) -> None:
    members = legacy([ONE, OTHER])
    members[b"layer0/json"] = b'{"parent": "layer1"}'
    with pytest.raises(Untrusted, match="parents never end"):
        names(tmp_path, members)


@pytest.mark.parametrize("name", [b"Index.json", b"MANIFEST.JSON", b"manifest.jsoN"])
def test_a_list_whose_name_comes_twice_in_different_case_is_refused(tmp_path: Path, name: bytes) -> None:
    with pytest.raises(Untrusted, match="ignore case"):
        names(tmp_path, hybrid([ONE], [ONE]) | {name: b"[]"})


def test_a_field_that_is_written_in_another_case_is_refused(tmp_path: Path) -> None:
    members = hybrid([ONE], [ONE])
    index = json.loads(members[b"index.json"])
    members[b"index.json"] = json.dumps({**index, "Manifests": []}).encode()
    with pytest.raises(Untrusted, match="another case"):
        names(tmp_path, members)


@pytest.mark.parametrize("name", [b"index.json", b"./index.json", b"manifest.json", b"/manifest.json"])
def test_two_lists_of_one_name_are_refused(tmp_path: Path, name: bytes) -> None:
    archive = tar.file(name, b"[]") + images.archive(hybrid([ONE], [ONE]))
    with pytest.raises(Untrusted, match="two different members of this name"):
        plan_of(tmp_path, archive)

"""Archives with index.json and manifest.json side by side, as Docker 25 and BuildKit write them."""

from __future__ import annotations

import json
from pathlib import Path

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


def names(directory: Path, members: dict[bytes, bytes]) -> list[bytes]:
    """The names in the image."""
    return plan_of(directory, images.archive(members)).leaves.names


def test_both_lists_of_the_same_layers_are_one_image(tmp_path: Path) -> None:
    assert names(tmp_path, hybrid([ONE], [ONE])) == [b"one"]


def test_two_lists_that_disagree_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Untrusted, match="different layers"):
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
    members = hybrid([ONE], [OTHER])
    description = images.config([ONE, ONE])
    manifest = {"config": images.descriptor(description), "layers": [images.descriptor(ONE)]}
    data = json.dumps(manifest).encode()
    members |= {images.blob_name(description): description, images.blob_name(data): data}
    members[b"index.json"] = json.dumps({"manifests": [images.descriptor(data)]}).encode()
    assert names(tmp_path, members) == [b"other"]


def test_index_json_is_used_when_a_member_of_manifest_json_is_missing(tmp_path: Path) -> None:
    members = hybrid([ONE], [OTHER])
    del members[b"layer0/layer.tar"]
    assert names(tmp_path, members) == [b"one"]


def test_a_wrong_digest_on_the_oci_side_is_refused_though_manifest_json_is_there(tmp_path: Path) -> None:
    members = hybrid([ONE], [ONE])
    index = json.loads(members[b"index.json"])
    name = b"blobs/sha256/" + index["manifests"][0]["digest"].partition(":")[2].encode()
    members[name] = members[name].replace(b'"layers"', b'"Layers"')
    with pytest.raises(Untrusted, match="digest"):
        names(tmp_path, members)

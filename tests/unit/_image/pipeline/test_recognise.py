"""What is no image is named for what it is, wherever it stands, with what to do."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from module_utils._errors import FlydError, Unsupported, Untrusted
from tests.unit._image.unpacked import plan_of
from tests.unit.builders import images, tar

LAYER = tar.tar(tar.file(b"f", b"content"))


def at(offset: int, magic: bytes) -> bytes:
    """``magic`` behind zeros, and more zeros."""
    return bytes(offset) + magic + bytes(70_000)


READ_BY_OTHERS = {
    "a zip archive": b"PK\x03\x04" + bytes(100),
    "a cpio archive": b"070701" + b"0" * 104,
    "an ar archive": b"!<arch>\ndebian-binary   ",
    "an RPM package": b"\xed\xab\xee\xdb" + bytes(600),
    "compressed with lz4": b"\x04\x22\x4d\x18" + bytes(600),
    "compressed with lzip": b"LZIP\x01" + bytes(30),
    "compressed with lzma": b"\x5d\0\0\x80\0" + b"\xff" * 600,
    "a squashfs file system": b"hsqs" + bytes(600),
    "an EROFS file system": at(1024, b"\xe2\xe1\xf5\xe0"),
    "an ext2, ext3 or ext4 file system": at(1080, b"\x53\xef"),
    "a btrfs file system": at(65600, b"_BHRfS_M"),
    "an ISO 9660 image": at(32769, b"CD001"),
    "a qcow2 disk image": b"QFI\xfb" + bytes(600),
    "a disk image with partitions": at(512, b"EFI PART"),
    "a disk image": at(510, b"\x55\xaa"),
    "an Apptainer image": b"#!/usr/bin/env run-singularity\n\0SIF_MAGIC" + bytes(600),
    "encrypted with age": b"age-encryption.org/v1\n-> X25519 ...",
}
OTHER_THINGS = {
    "an empty file": b"",
    "an HTML page": b"\n<!DOCTYPE html>\n<html><title>Sign in</title></html>",
    "an XML document": b'<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code></Error>',
    "a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n",
    "a JSON document": b'{"schemaVersion": 2, "layers": []}',
    "aws-chunked": b"1f4\r\n" + gzip.compress(bytes(100)) + b"\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n",
    "framing aws-chunked": b"10000;chunk-signature=" + b"ab" * 32 + b"\r\n" + bytes(600),
    "a program": b"\x7fELF" + bytes(600),
    "a text": b"404: Not Found\n",
    "is a text": "2026-11-30 10:00:01 INFO größer als ein Block\n".encode() * 500,
}


def fault(directory: Path, archive: bytes) -> FlydError:
    """The error that the archive is refused with."""
    with pytest.raises(FlydError) as caught:
        plan_of(directory, archive)
    assert caught.value.hint
    assert "malicious" not in caught.value.hint
    return caught.value


@pytest.mark.parametrize("what", [*READ_BY_OTHERS, *OTHER_THINGS])
def test_an_object_that_is_no_image_is_named(tmp_path: Path, what: str) -> None:
    kind = Unsupported if what in READ_BY_OTHERS else Untrusted
    data = {**READ_BY_OTHERS, **OTHER_THINGS}[what]
    error = fault(tmp_path, data)
    assert what in error.msg
    assert type(error) is kind
    if data:
        assert what in fault(tmp_path, gzip.compress(data)).msg


@pytest.mark.parametrize("what", READ_BY_OTHERS)
@pytest.mark.parametrize("make", [images.docker_archive, images.oci_archive])
def test_a_layer_that_is_no_tar_is_named(tmp_path: Path, what: str, make: object) -> None:
    assert callable(make)
    data = READ_BY_OTHERS[what]
    for archive in (make([data]), make([LAYER], lambda _: data), make([data], gzip.compress)):
        error = fault(tmp_path, archive)
        assert what in error.msg
        assert error.msg.count("the layer ") == 1, error.msg
        assert type(error) is Unsupported


def test_what_is_compressed_twice_is_said(tmp_path: Path) -> None:
    packed = gzip.compress(gzip.compress(images.docker_archive([LAYER])))
    assert "compressed twice (with gzip inside)" in fault(tmp_path, packed).msg


def test_a_tar_whose_first_name_looks_like_something_else_is_a_tar(tmp_path: Path) -> None:
    for name in (b"PK\x03\x04", b"hsqs", b"070701", b"!<arch>", b"{", b"<html>"):
        assert plan_of(tmp_path, images.docker_archive([tar.tar(tar.file(name))])).entries == 1


def artifact(config_type: str, **fields: object) -> dict[bytes, bytes]:
    """An OCI archive of something else than an image."""
    chart, config = gzip.compress(tar.tar(tar.file(b"chart/Chart.yaml"))), b"{}"
    manifest = {
        "schemaVersion": 2,
        "config": {**images.descriptor(config), "mediaType": config_type},
        "layers": [images.descriptor(chart)],
        **fields,
    }
    data = json.dumps(manifest).encode()
    blobs = {images.blob_name(blob): blob for blob in (chart, config, data)}
    return {b"oci-layout": b"{}", **blobs, b"index.json": json.dumps({"manifests": [images.descriptor(data)]}).encode()}


@pytest.mark.parametrize(
    ("members", "said"),
    [
        (artifact("application/vnd.cncf.helm.config.v1+json"), "a Helm chart"),
        (artifact("application/vnd.oci.empty.v1+json", artifactType="application/vnd.x"), "type application/vnd.x"),
        (artifact("application/vnd.buildkit.cacheconfig.v0"), "type application/vnd.buildkit.cacheconfig.v0"),
        (artifact("application/vnd.oci.image.config.v1+json", fsLayers=[]), "Docker's schema 1"),
    ],
)
def test_an_artifact_is_no_image(tmp_path: Path, members: dict[bytes, bytes], said: str) -> None:
    error = fault(tmp_path, images.archive(members))
    assert said in error.msg
    assert type(error) is Unsupported


def schema_1() -> bytes:
    return json.dumps({"schemaVersion": 1, "name": "x", "fsLayers": [], "history": []}).encode()


def test_a_manifest_of_schema_1_without_a_configuration_is_said(tmp_path: Path) -> None:
    data = schema_1()
    index = json.dumps({"manifests": [images.descriptor(data)]}).encode()
    error = fault(tmp_path, images.archive({b"oci-layout": b"{}", images.blob_name(data): data, b"index.json": index}))
    assert "Docker's schema 1" in error.msg
    assert type(error) is Unsupported


def test_an_image_beside_a_manifest_of_schema_1_is_read(tmp_path: Path) -> None:
    members, data = images.oci_members([LAYER]), schema_1()
    index = json.loads(members[b"index.json"])
    index["manifests"].insert(0, images.descriptor(data))
    members[images.blob_name(data)], members[b"index.json"] = data, json.dumps(index).encode()
    assert plan_of(tmp_path, images.archive(members)).entries > 0


def test_an_index_of_attestations_alone_is_said(tmp_path: Path) -> None:
    members = images.oci_members([LAYER])
    index = json.loads(members[b"index.json"])
    index["manifests"][0]["platform"] = {"os": "unknown", "architecture": "unknown"}
    members[b"index.json"] = json.dumps(index).encode()
    assert "is no image: an attestation" in fault(tmp_path, images.archive(members)).msg


def test_a_directory_of_skopeo_that_was_packed_is_said(tmp_path: Path) -> None:
    members = {b"version": b"Directory Transport Version: 1.1\n", b"manifest.json": b'{"schemaVersion": 2}'}
    error = fault(tmp_path, images.archive(members))
    assert "skopeo's dir:" in error.msg
    assert "skopeo copy" in error.hint


@pytest.mark.parametrize(
    ("names", "said", "hint"),
    [
        ((b"redis/index.json", b"redis/oci-layout", b"redis/blobs/sha256/0"), "its directory redis", "tar -C redis"),
        ((b"save/manifest.json",), "its directory save", "tar -C save"),
        ((b"rootfs/etc/passwd", b"rootfs/bin/sh"), "its directory rootfs", "tar -C rootfs"),
        ((b"redis.tar",), "a tar of one file, redis.tar", "store the file redis.tar itself"),
        ((b"redis/Chart.yaml", b"redis/values.yaml"), "a Helm chart", "store an image"),
        ((b"a/b", b"c"), "neither index.json", "docker save"),
    ],
)
def test_a_tar_that_holds_an_image_elsewhere_says_where(
    tmp_path: Path, names: tuple[bytes, ...], said: str, hint: str
) -> None:
    error = fault(tmp_path, tar.tar(*(tar.file(name) for name in names)))
    assert said in error.msg
    assert hint in error.hint

"""Every kind of archive that real tools write, told apart by what is in it."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from module_utils._errors import BadInput, Unsupported, Untrusted
from module_utils._image.formats import oci_index
from module_utils._image.formats.archive import Archive
from module_utils._image.formats.oci_blobs import Descriptor, read_blob
from module_utils._image.pipeline.unpacking import open_family, open_image
from module_utils._image.platforms import Platform, PlatformPolicy
from tests.unit._image.unpacked import options, plan_of
from tests.unit.builders import images, tar

ONE = tar.tar(tar.file(b"one", b"1"))
TWO = tar.tar(tar.file(b"two", b"2"), tar.file(b".wh.one"))
OTHER = tar.tar(tar.file(b"other", b"3"))


def names(directory: Path, archive: bytes, **given: str) -> list[bytes]:
    """The names in the root of the image in ``archive``."""
    return sorted(plan_of(directory, archive, **given).leaves.names)


def layout(directory: Path, archive: bytes) -> str:
    """What kind of archive ``archive`` was taken for."""
    (directory / "archive").write_bytes(archive)
    with open(directory / "archive", "rb") as file, open_image(file.fileno(), options(directory)) as unpacking:
        return unpacking.layout


def this_platform(**changes: str) -> dict[str, str]:
    """This machine's platform as an index has it."""
    machine = Platform.of_this_machine()
    return {"os": machine.os, "architecture": machine.architecture, **changes}


def test_a_docker_archive_is_recognised(tmp_path: Path) -> None:
    archive = images.docker_archive([ONE, TWO])
    assert (layout(tmp_path, archive), names(tmp_path, archive)) == ("docker", [b"two"])


def test_an_oci_archive_is_recognised(tmp_path: Path) -> None:
    archive = images.oci_archive([ONE, TWO])
    assert (layout(tmp_path, archive), names(tmp_path, archive)) == ("oci", [b"two"])


def test_a_root_file_system_is_recognised(tmp_path: Path) -> None:
    archive = tar.tar(tar.directory(b"etc"), tar.file(b"etc/passwd"), tar.file(b".dockerenv"))
    assert (layout(tmp_path, archive), names(tmp_path, archive)) == ("rootfs", [b".dockerenv", b"passwd"])


def test_a_root_file_system_that_was_cut_between_two_members_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Untrusted, match="it was cut"):
        plan_of(tmp_path, tar.tar(tar.directory(b"etc"), tar.file(b"etc/passwd"), end=b""))


def test_a_family_is_its_layers_in_order(tmp_path: Path) -> None:
    for at, layer in enumerate((ONE, gzip.compress(TWO))):
        (tmp_path / str(at)).write_bytes(layer)
    with open(tmp_path / "0", "rb") as one, open(tmp_path / "1", "rb") as two:
        with open_family([one.fileno(), two.fileno()], options(tmp_path)) as unpacking:
            assert (unpacking.layout, unpacking.plan.leaves.names) == ("family", [b"two"])
        expected = [hashlib.sha256(ONE).hexdigest(), hashlib.sha256(TWO).hexdigest()]
        with (
            pytest.raises(Untrusted, match="digest"),
            open_family([one.fileno(), two.fileno()], options(tmp_path), expected),
        ):
            pass


def legacy_members() -> dict[bytes, bytes]:
    """An archive of Docker before 1.10 with two layers."""
    return {
        b"top/json": json.dumps({"id": "top", "parent": "low", "os": "linux", "config": {"Cmd": ["x"]}}).encode(),
        b"top/layer.tar": TWO,
        b"low/json": b'{"id": "low"}',
        b"low/layer.tar": ONE,
        b"repositories": b'{"old/image": {"latest": "top"}}',
    }


def test_an_archive_of_docker_before_1_10_follows_the_parents(tmp_path: Path) -> None:
    archive = images.archive(legacy_members())
    assert (layout(tmp_path, archive), names(tmp_path, archive)) == ("docker-legacy", [b"two"])


def test_parents_in_a_circle_are_refused(tmp_path: Path) -> None:
    members = {**legacy_members(), b"low/json": b'{"id": "low", "parent": "top"}'}
    with pytest.raises(Untrusted, match="never end"):
        plan_of(tmp_path, images.archive(members))


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    for archive in (tar.tar(tar.file(b"readme")), tar.END):
        with pytest.raises(Untrusted, match="no image"):
            plan_of(tmp_path, archive)
    with pytest.raises(Untrusted):
        plan_of(tmp_path, b"no tar at all" * 100)


def test_keys_in_lower_case_are_read_as_jib_writes_them(tmp_path: Path) -> None:
    members = images.docker_members([ONE])
    (entry,) = json.loads(members[b"manifest.json"])
    members[b"manifest.json"] = json.dumps([{key.lower(): value for key, value in entry.items()}]).encode()
    assert names(tmp_path, images.archive(members)) == [b"one"]


def test_a_configuration_named_by_its_digest_alone_is_read(tmp_path: Path) -> None:
    members = images.docker_members([ONE])
    (entry,) = json.loads(members[b"manifest.json"])
    description = members.pop(entry["Config"].encode())
    members[images.sha256(description).encode()] = description
    members[b"manifest.json"] = json.dumps([{**entry, "Config": images.sha256(description)}]).encode()
    assert names(tmp_path, images.archive(members)) == [b"one"]


def test_a_repeated_layer_may_be_a_link_to_another_member(tmp_path: Path) -> None:
    members = images.docker_members([ONE, ONE])
    del members[b"layer1/layer.tar"]
    archive = tar.tar(
        tar.symlink(b"layer1/layer.tar", b"../layer0/layer.tar"),
        *(tar.file(name, data) for name, data in members.items()),
    )
    assert names(tmp_path, archive) == [b"one"]


def two_images() -> bytes:
    """A docker archive of two images."""
    members: dict[bytes, bytes] = {}
    entries = []
    for tag, layer in (("redis:7", ONE), ("example.com/other:latest", OTHER)):
        description = images.config([layer])
        members |= {tag.encode(): layer, b"%s.json" % tag.encode(): description}
        entries.append({"Config": f"{tag}.json", "RepoTags": [tag], "Layers": [tag]})
    return images.archive({**members, b"manifest.json": json.dumps(entries).encode()})


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        ("redis:7", b"one"),
        ("docker.io/library/redis:7", b"one"),
        ("0", b"one"),
        ("example.com/other", b"other"),
        ("1", b"other"),
    ],
)
def test_one_of_two_images_can_be_selected(tmp_path: Path, selector: str, found: bytes) -> None:
    assert names(tmp_path, two_images(), image_name=selector) == [found]


def test_two_images_without_a_selector_are_refused_with_their_names(tmp_path: Path) -> None:
    with pytest.raises(Untrusted, match=r"redis:7, example\.com/other:latest"):
        plan_of(tmp_path, two_images())


@pytest.mark.parametrize("selector", ["redis", "redis:8", "2", "-1", "other"])
def test_a_selector_that_fits_nothing_is_bad_input(tmp_path: Path, selector: str) -> None:
    with pytest.raises(BadInput, match="redis:7"):
        plan_of(tmp_path, two_images(), image_name=selector)


def index_of(*manifests: tuple[list[bytes], Mapping[str, object]], absent: tuple[int, ...] = ()) -> dict[bytes, bytes]:
    """An OCI archive's members: one manifest for each (layers, descriptor's fields), without the blobs of those ``absent``."""
    members = {b"oci-layout": b'{"imageLayoutVersion": "1.0.0"}'}
    entries = []
    for at, (layers, fields) in enumerate(manifests):
        one = images.oci_members(layers)
        (entry,) = json.loads(one.pop(b"index.json"))["manifests"]
        del entry["platform"]
        entries.append({**entry, **fields})
        members |= {} if at in absent else one
    return {**members, b"index.json": json.dumps({"manifests": entries}).encode()}


def test_the_image_for_this_machine_is_taken_of_several(tmp_path: Path) -> None:
    foreign = {"platform": {"os": "linux", "architecture": "s390x"}}
    members = index_of(([OTHER], foreign), ([ONE], {"platform": this_platform()}))
    assert names(tmp_path, images.archive(members)) == [b"one"]
    assert names(tmp_path, images.archive(members), platform="linux/s390x") == [b"other"]


def test_blobs_of_other_platforms_may_be_absent(tmp_path: Path) -> None:
    foreign = {"platform": {"os": "linux", "architecture": "s390x"}}
    members = index_of(([OTHER], foreign), ([ONE], {"platform": this_platform()}), absent=(0,))
    assert names(tmp_path, images.archive(members)) == [b"one"]
    with pytest.raises(Untrusted, match="not in the archive"):
        plan_of(tmp_path, images.archive(members), platform="linux/s390x")


def test_one_image_for_another_platform_is_refused_with_the_list(tmp_path: Path) -> None:
    members = index_of(([ONE], {"platform": {"os": "linux", "architecture": "s390x"}}))
    with pytest.raises(Unsupported, match="linux/s390x"):
        plan_of(tmp_path, images.archive(members))
    with pytest.raises(BadInput, match="linux/s390x"):
        plan_of(tmp_path, images.archive(members), platform="linux/arm64")


def test_one_image_for_another_platform_is_taken_by_those_who_run_nothing(tmp_path: Path) -> None:
    policy = PlatformPolicy.SOLE
    foreign = {"platform": {"os": "linux", "architecture": "s390x"}}
    third = {"platform": {"os": "linux", "architecture": "riscv64"}}
    sole = images.archive(index_of(([ONE], foreign)))
    assert plan_of(tmp_path, sole, platform_policy=policy).leaves.names == [b"one"]
    one_saved = images.archive(index_of(([ONE], foreign), ([OTHER], third), absent=(1,)))
    assert plan_of(tmp_path, one_saved, platform_policy=policy).leaves.names == [b"one"]
    ours = images.archive(index_of(([OTHER], foreign), ([ONE], {"platform": this_platform()})))
    assert plan_of(tmp_path, ours, platform_policy=policy).leaves.names == [b"one"]
    with pytest.raises(Unsupported, match="linux/s390x, linux/riscv64"):
        plan_of(tmp_path, images.archive(index_of(([ONE], foreign), ([OTHER], third))), platform_policy=policy)
    with pytest.raises(BadInput, match="linux/s390x"):
        plan_of(tmp_path, sole, platform_policy=policy, platform="linux/arm64")


def test_documents_are_read_once_however_often_an_index_lists_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = index_of(([ONE], {}))
    for _ in range(3):
        (entry,) = json.loads(members[b"index.json"])["manifests"]
        inner = json.dumps({"manifests": [entry] * 500}).encode()
        members[images.blob_name(inner)] = inner
        members[b"index.json"] = json.dumps({"manifests": [images.descriptor(inner)]}).encode()
    read: list[str] = []

    def read_and_note(archive: Archive, descriptor: Descriptor, what: str) -> bytes:
        read.append(what)
        return read_blob(archive, descriptor, what)

    monkeypatch.setattr(oci_index, "read_blob", read_and_note)
    assert names(tmp_path, images.archive(members)) == [b"one"]
    assert len(read) == 3 + 2


def test_an_index_of_too_many_manifests_is_refused(tmp_path: Path) -> None:
    entries = [{"digest": f"sha256:{at:064x}", "size": 1} for at in range(2000)]
    members = {b"oci-layout": b"{}", b"index.json": json.dumps({"manifests": entries}).encode()}
    with pytest.raises(Untrusted, match="without end"):
        plan_of(tmp_path, images.archive(members))


def test_the_plain_variant_is_taken_before_a_special_one(tmp_path: Path) -> None:
    special, plain = this_platform(variant="v3"), this_platform()
    members = index_of(([OTHER], {"platform": special}), ([ONE], {"platform": plain}))
    assert names(tmp_path, images.archive(members)) == [b"one"]


def test_attestations_and_artifacts_are_no_images(tmp_path: Path) -> None:
    members = index_of(
        ([OTHER], {"platform": {"os": "unknown", "architecture": "unknown"}}),
        ([OTHER], {"annotations": {"vnd.docker.reference.type": "attestation-manifest"}}),
        ([OTHER], {"artifactType": "application/spdx+json"}),
        ([ONE], {"platform": this_platform()}),
    )
    assert names(tmp_path, images.archive(members)) == [b"one"]


def test_two_images_for_this_machine_need_a_name(tmp_path: Path) -> None:
    def named(name: str) -> dict[str, object]:
        return {"annotations": {"org.opencontainers.image.ref.name": name}}

    archive = images.archive(index_of(([ONE], named("one")), ([OTHER], named("other"))))
    assert names(tmp_path, archive, image_name="other") == [b"other"]
    assert names(tmp_path, archive, image_name="0") == [b"one"]
    with pytest.raises(Untrusted, match="one, other"):
        plan_of(tmp_path, archive)
    with pytest.raises(BadInput, match="one, other"):
        plan_of(tmp_path, archive, image_name="third")


def nested(depth: int) -> bytes:
    """An OCI archive whose manifest is ``depth`` indexes below index.json."""
    members = index_of(([ONE], {"platform": this_platform()}))
    for _ in range(depth):
        inner = members[b"index.json"]
        members[images.blob_name(inner)] = inner
        members[b"index.json"] = json.dumps({"manifests": [images.descriptor(inner)]}).encode()
    return images.archive(members)


def test_an_index_in_an_index_is_followed_to_a_depth_of_four(tmp_path: Path) -> None:
    assert names(tmp_path, nested(1)) == names(tmp_path, nested(4)) == [b"one"]
    with pytest.raises(Untrusted, match="without end"):
        plan_of(tmp_path, nested(5))

"""Which image of an archive is taken for which machine, in every kind of archive, whatever the machine is called."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from module_utils._errors import BadInput, Unsupported, Untrusted
from module_utils._image.platforms import Platform, PlatformPolicy
from tests.unit._image.unpacked import plan_of
from tests.unit.builders import images, tar

AMD64 = {"os": "linux", "architecture": "amd64"}
ARM64 = {"os": "linux", "architecture": "arm64", "variant": "v8"}
WINDOWS = {"os": "windows", "architecture": "amd64"}


@pytest.fixture(autouse=True)
def amd64_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is the same wherever the tests run."""
    monkeypatch.setattr(Platform, "of_this_machine", lambda: Platform.parse("linux/x86_64"))


def layer(name: str) -> bytes:
    """A layer of one file."""
    return tar.tar(tar.file(name.encode(), b"1"))


def docker(*platforms: dict[str, str], tags: tuple[str, ...] = ()) -> bytes:
    """A docker archive of one image for each platform; its only file is named by its position."""
    members: dict[bytes, bytes] = {}
    entries = []
    for at, platform in enumerate(platforms):
        description = json.loads(images.config([layer(str(at))])) | {"os": None, "architecture": None} | platform
        members |= {b"%d.json" % at: json.dumps(description).encode(), b"%d.tar" % at: layer(str(at))}
        tag = tags[at] if tags else f"x/y:{at}"
        entries.append({"Config": f"{at}.json", "RepoTags": [tag] if tag else None, "Layers": [f"{at}.tar"]})
    return images.archive({**members, b"manifest.json": json.dumps(entries).encode()})


def legacy(platform: dict[str, str]) -> bytes:
    """What Docker before 1.10 saved."""
    members = {b"repositories": b'{"x": {"latest": "l"}}', b"l/json": json.dumps({"id": "l", **platform}).encode()}
    return images.archive({**members, b"l/layer.tar": layer("0")})


def oci(*platforms: dict[str, str], where: str = "index") -> bytes:
    """An OCI archive of one image for each platform, named in the index or in the configurations."""
    members: dict[bytes, bytes] = {}
    entries = []
    for at, platform in enumerate(platforms):
        one = images.oci_members([layer(str(at))], platform=platform)
        (entry,) = json.loads(one.pop(b"index.json"))["manifests"]
        if where != "index":
            del entry["platform"]
        entries.append(entry)
        members |= one
    return images.archive({**members, b"index.json": json.dumps({"manifests": entries}).encode()})


def found(directory: Path, archive: bytes, **given: object) -> str:
    """Which image was taken, by its position."""
    (name,) = plan_of(directory, archive, **given).leaves.names
    return name.decode()


def of_one(platform: dict[str, str]) -> list[bytes]:
    """Every kind of archive of one image."""
    return [docker(platform), legacy(platform), oci(platform), oci(platform, where="configuration")]


@pytest.mark.parametrize("platform", [ARM64, WINDOWS, {"os": "windows"}, {"architecture": "s390x"}])
@pytest.mark.parametrize("kind", range(4))
def test_an_image_for_another_machine_is_unsupported_in_every_kind_of_archive(
    tmp_path: Path, kind: int, platform: dict[str, str]
) -> None:
    archive = of_one(platform)[kind]
    with pytest.raises(Unsupported, match=r"no image for linux/amd64, only for: (linux|windows)") as caught:
        plan_of(tmp_path, archive)
    offered = str(caught.value).rpartition(": ")[2]
    if "/" in offered:  # what the message lists is taken
        assert found(tmp_path, archive, platform=offered) == "0"
    with pytest.raises(BadInput, match="no image for linux/mips64le"):
        plan_of(tmp_path, archive, platform="linux/mips64le")
    assert found(tmp_path, archive, platform_policy=PlatformPolicy.SOLE) == "0"


@pytest.mark.parametrize("kind", range(4))
def test_an_image_that_names_no_machine_is_taken(tmp_path: Path, kind: int) -> None:
    assert found(tmp_path, of_one({})[kind]) == "0"


@pytest.mark.parametrize("make", [docker, oci])
def test_of_several_images_the_one_for_the_platform_is_taken(tmp_path: Path, make: object) -> None:
    assert callable(make)
    archive = make(WINDOWS, ARM64, AMD64)
    assert found(tmp_path, archive) == "2"
    assert found(tmp_path, archive, platform="linux/arm64") == "1"
    assert found(tmp_path, archive, platform="windows/amd64") == "0"
    with pytest.raises(Unsupported, match="windows/amd64, linux/arm64"):
        plan_of(tmp_path, make(WINDOWS, ARM64))


def test_a_name_and_a_platform_select_together(tmp_path: Path) -> None:
    archive = docker(AMD64, ARM64, AMD64, ARM64, tags=("a:1", "a:1", "b:1", "b:1"))
    assert found(tmp_path, archive, image_name="b:1") == "2"
    assert found(tmp_path, archive, image_name="a:1", platform="linux/arm64") == "1"
    with pytest.raises(Untrusted, match="2 images and none was selected; there are: 0, 2"):
        plan_of(tmp_path, archive)
    assert found(tmp_path, archive, image_name="2") == "2"
    with pytest.raises(Unsupported, match="only for: linux/arm64"):
        plan_of(tmp_path, archive, image_name="1")


def test_one_image_under_two_tags_is_one(tmp_path: Path) -> None:
    members = images.docker_members([layer("0")])
    (entry,) = json.loads(members[b"manifest.json"])
    members[b"manifest.json"] = json.dumps([entry, {**entry, "RepoTags": ["other:1"]}]).encode()
    assert found(tmp_path, images.archive(members)) == "0"
    assert found(tmp_path, images.archive(members), image_name="other:1") == "0"


def test_an_image_whose_configuration_is_missing_is_an_error_only_when_it_is_chosen(tmp_path: Path) -> None:
    members = images.docker_members([layer("0")])
    (entry,) = json.loads(members[b"manifest.json"])
    absent = {**entry, "RepoTags": ["absent:1"], "Config": "absent.json"}
    members[b"manifest.json"] = json.dumps([entry, absent]).encode()
    assert found(tmp_path, images.archive(members), image_name="test/image") == "0"
    with pytest.raises(Untrusted, match=r"absent\.json: the archive lacks this member"):
        plan_of(tmp_path, images.archive(members), image_name="absent:1")


def test_images_of_one_platform_without_names_are_selected_by_what_the_message_lists(tmp_path: Path) -> None:
    archive = docker(AMD64, AMD64, tags=("", ""))
    with pytest.raises(Untrusted, match="there are: 0, 1"):
        plan_of(tmp_path, archive)
    assert found(tmp_path, archive, image_name="1") == "1"
    archive = oci(AMD64, AMD64)
    with pytest.raises(Untrusted, match="there are: 0, 1"):
        plan_of(tmp_path, archive)
    assert found(tmp_path, archive, image_name="1") == "1"


def test_images_within_one_entry_of_an_index_are_selected_by_their_digests(tmp_path: Path) -> None:
    members: dict[bytes, bytes] = {b"oci-layout": b"{}"}
    entries = []
    for at in range(2):
        one = images.oci_members([layer(str(at))])
        entries += json.loads(one.pop(b"index.json"))["manifests"]
        members |= one
    inner = json.dumps({"manifests": entries}).encode()
    members[images.blob_name(inner)] = inner
    members[b"index.json"] = json.dumps({"manifests": [images.descriptor(inner)]}).encode()
    archive = images.archive(members)
    with pytest.raises(Untrusted, match=f"there are: {entries[0]['digest']}, {entries[1]['digest']}"):
        plan_of(tmp_path, archive)
    assert found(tmp_path, archive, image_name=entries[1]["digest"]) == "1"
    with pytest.raises(BadInput, match=entries[0]["digest"]):
        plan_of(tmp_path, archive, image_name=images.sha256(b"other"))


@pytest.mark.parametrize(
    ("name", "normal"),
    [
        ("x86_64", "linux/amd64"),
        ("x86-64", "linux/amd64"),
        ("AMD64", "linux/amd64"),
        ("amd64/v1", "linux/amd64"),
        ("amd64/v3", "linux/amd64/v3"),
        ("aarch64", "linux/arm64"),
        ("ARM64/V8", "linux/arm64"),
        ("arm64/8", "linux/arm64"),
        ("arm64v8", "linux/arm64"),
        ("i386", "linux/386"),
        ("i686", "linux/386"),
        ("arm", "linux/arm/v7"),
        ("arm/7", "linux/arm/v7"),
        ("armhf", "linux/arm/v7"),
        ("armel", "linux/arm/v6"),
        ("armv7l", "linux/arm/v7"),
        ("arm32v5", "linux/arm/v5"),
        ("ppc64el", "linux/ppc64le"),
        ("riscv64", "linux/riscv64"),
    ],
)
def test_architectures_by_other_names_are_the_same_on_both_sides(tmp_path: Path, name: str, normal: str) -> None:
    architecture, _slash, variant = name.partition("/")
    platform = {"os": "Linux", "architecture": architecture, "variant": variant}
    offered = Platform.of(*platform.values())
    assert str(offered) == normal
    for archive in (docker(platform, {**AMD64, "os": "plan9"}), oci(platform, {**AMD64, "os": "plan9"})):
        assert found(tmp_path, archive, platform=normal) == "0"
        assert found(tmp_path, archive, platform=f"linux/{name}") == "0"
    assert offered.rank(Platform.parse(f"LINUX/{name}")) == offered.rank(Platform.parse(normal)) == 0


def test_an_architecture_that_no_one_knows_is_taken_by_the_name_that_the_message_lists(tmp_path: Path) -> None:
    archive = oci({"os": "linux", "architecture": "e2k_v4.1-x"})
    with pytest.raises(Unsupported, match=r"linux/e2k_v4\.1-x"):
        plan_of(tmp_path, archive)
    assert found(tmp_path, archive, platform="linux/e2k_v4.1-x") == "0"


@pytest.mark.parametrize(
    "text", ["", "linux", "linux/", "/amd64", "linux/a/b/c", "linux/amd 64", "linux/ä", "linux/amd64/"]
)
def test_what_is_no_platform_is_bad_input(text: str) -> None:
    with pytest.raises(BadInput, match="the platform is"):
        Platform.parse(text)


def test_a_variant_runs_what_is_for_a_lower_one_and_the_nearest_is_taken(tmp_path: Path) -> None:
    def arm(*variants: str) -> bytes:
        return docker(*({"os": "linux", "architecture": "arm", "variant": variant} for variant in variants))

    assert found(tmp_path, arm("v5", "v6", "v7"), platform="linux/arm/v7") == "2"
    assert found(tmp_path, arm("v5", "v6", "v8"), platform="linux/arm/v7") == "1"
    assert found(tmp_path, arm("v6"), platform="linux/armhf") == "0"
    with pytest.raises(BadInput, match="linux/arm/v7"):
        plan_of(tmp_path, arm("v7"), platform="linux/armel")


def test_images_for_some_machines_of_an_architecture_only_are_chosen_by_platform(tmp_path: Path) -> None:
    archive = oci({**AMD64, "variant": "v2"}, {**AMD64, "variant": "v3"})
    with pytest.raises(
        BadInput, match="no image for every linux/amd64, only for: linux/amd64/v2, linux/amd64/v3"
    ) as caught:
        plan_of(tmp_path, archive)
    assert "platform" in caught.value.hint
    assert found(tmp_path, archive, platform="linux/amd64/v2") == "0"
    assert found(tmp_path, archive, platform="linux/amd64/v4") == "1"
    with pytest.raises(BadInput, match="no image for linux/amd64/v1"):
        plan_of(tmp_path, archive, platform="linux/amd64/v1")
    assert found(tmp_path, oci({**AMD64, "variant": "v3"})) == "0"

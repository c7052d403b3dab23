"""Images for other machines, as buildah and podman make them: refused with the reason, or chosen by platform."""

from __future__ import annotations

from pathlib import Path

import pytest

from module_utils._errors import BadInput, Unsupported
from module_utils._image.platforms import Platform
from tests.real_images.conftest import run
from tests.unit._image.unpacked import Playground, needs_root

pytestmark = [needs_root, pytest.mark.timeout(600)]


@pytest.fixture(autouse=True)
def amd64_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is the same wherever the tests run."""
    monkeypatch.setattr(Platform, "of_this_machine", lambda: Platform.parse("linux/x86_64"))


def build(work: Path, storage: list[str], platform: str, name: str) -> None:
    """An image of one file, named by its architecture, in buildah's storage."""
    os_name, architecture = platform.split("/")
    (work / architecture).write_text(platform)
    buildah = ("buildah", *storage)
    container = run(*buildah, "from", "scratch").strip()
    run(*buildah, "copy", container, work / architecture, "/")
    run(*buildah, "config", "--os", os_name, "--arch", architecture, container)
    run(*buildah, "commit", "--signature-policy", work / "policy.json", container, name)


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
@pytest.mark.parametrize("platform", ["linux/arm64", "windows/amd64"])
def test_an_image_for_another_machine(
    playground: Playground, work: Path, storage: list[str], form: str, platform: str
) -> None:
    build(work, storage, platform, "localhost/x:1")
    policy = ("--signature-policy", work / "policy.json")
    run("buildah", *storage, "push", *policy, "localhost/x:1", f"{form}:{work}/out")
    data = (work / "out").read_bytes()
    with pytest.raises(Unsupported, match=f"no image for linux/amd64, only for: {platform}"):
        playground.unpack_archive(data)
    with pytest.raises(BadInput, match=f"no image for linux/s390x, only for: {platform}"):
        playground.unpack_archive(data, platform="linux/s390x")
    done = playground.unpack_archive(data, platform=platform)
    assert set(done.kinds()) == {"/" + platform.partition("/")[2]}


def test_a_docker_archive_of_several_machines(playground: Playground, work: Path, storage: list[str]) -> None:
    names = []
    for platform in ("linux/arm64", "linux/amd64", "linux/s390x"):
        names.append(f"localhost/{platform.partition('/')[2]}:1")
        build(work, storage, platform, names[-1])
    run("podman", *storage, "save", "--multi-image-archive", "--output", work / "out", *names)
    data = (work / "out").read_bytes()
    assert set(playground.unpack_archive(data).kinds()) == {"/amd64"}

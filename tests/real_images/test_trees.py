"""What each program writes becomes the tree that GNU tar extracts of the same layers."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from module_utils._errors import Untrusted
from tests.real_images.conftest import Layers, run
from tests.tools.tree import Rows, comparable, differences
from tests.unit._image.unpacked import Playground, needs_root
from tests.unit.builders import images

pytestmark = [needs_root, pytest.mark.timeout(600)]

COMPRESSED = ("--dest-compress", "--dest-compress-format")


def docker_archive(layers: Layers) -> bytes:
    """A docker archive of these layers."""
    return images.docker_archive([path.read_bytes() for path in layers.paths])


def check(playground: Playground, layers: Layers, archive: Path, *, exact: bool = True) -> None:
    """Unpack ``archive`` and compare the tree; not ``exact``: seconds, and the names of attributes, for what rewrites layers."""
    done = playground.unpack_files([archive.read_bytes()], False)
    ours, theirs = (done.rows, layers.rows) if exact else (comparable(done.rows), comparable(layers.rows))
    assert differences(without_root_time(ours), without_root_time(theirs)) == []
    assert len(done.rows) > 500
    assert done.summary.warnings == []


def without_root_time(rows: Rows) -> Rows:
    """The rows without the root, whose time depends on what is extracted over it."""
    return {path: row for path, row in rows.items() if path != "/"}


def kaniko(layers: Layers) -> bytes:
    """As kaniko and crane write it: compressed layers, a configuration named with its algorithm."""
    members = images.docker_members([path.read_bytes() for path in layers.paths], gzip.compress)
    (entry,) = json.loads(members.pop(b"manifest.json"))
    config = members.pop(entry["Config"].encode())
    members = {name.replace(b"/layer.tar", b".tar.gz"): data for name, data in members.items()}
    names = [name.replace("/layer.tar", ".tar.gz") for name in entry["Layers"]]
    changed = {"Config": images.sha256(config), "RepoTags": ["x:1"], "Layers": names}
    return images.archive(
        {images.sha256(config).encode(): config, **members, b"manifest.json": json.dumps([changed]).encode()}
    )


def jib(layers: Layers) -> bytes:
    """As Jib writes it: keys in lower case."""
    members = images.docker_members([path.read_bytes() for path in layers.paths], gzip.compress)
    (entry,) = json.loads(members[b"manifest.json"])
    lower = {"config": entry["Config"], "repoTags": ["x:1"], "layers": entry["Layers"]}
    return images.archive({**members, b"manifest.json": json.dumps([lower]).encode()})


@pytest.mark.parametrize("make", [docker_archive, kaniko, jib])
def test_archives_as_builders_without_a_package_write_them(
    playground: Playground, layers: Layers, work: Path, make: Callable[[Layers], bytes]
) -> None:
    (work / "out").write_bytes(make(layers))
    check(playground, layers, work / "out")


@pytest.mark.parametrize(
    "form",
    [
        ["docker-archive:{}:x/y:z"],
        ["oci-archive:{}"],
        [*COMPRESSED, "gzip", "oci-archive:{}"],
        [*COMPRESSED, "zstd", "oci-archive:{}"],
    ],
    ids=lambda form: " ".join(form[1:]),
)
def test_skopeo(playground: Playground, layers: Layers, work: Path, form: list[str]) -> None:
    (work / "in").write_bytes(docker_archive(layers))
    copy = ("skopeo", "--policy", work / "policy.json", "--tmpdir", work, "copy", "--quiet")
    *options, target = (text.format(work / "out") for text in form)
    run(*copy, *options, f"docker-archive:{work}/in", target)
    check(playground, layers, work / "out")


def test_skopeo_with_zstd_chunked(playground: Playground, layers: Layers, work: Path) -> None:
    (work / "in").write_bytes(docker_archive(layers))
    copy = ("skopeo", "--policy", work / "policy.json", "--tmpdir", work, "copy", "--quiet")
    run(*copy, *COMPRESSED, "zstd:chunked", f"docker-archive:{work}/in", f"oci-archive:{work}/out")
    try:
        check(playground, layers, work / "out")
    except Untrusted as error:  # skopeo 1.9 puts another tar into such a layer than the configuration names
        if "digest" not in error.msg or "zstd:chunked" not in error.hint:
            raise


@pytest.mark.parametrize("has_layout", [True, False])
def test_umoci(playground: Playground, layers: Layers, work: Path, has_layout: bool) -> None:
    layout = work / "layout"
    run("umoci", "init", "--layout", layout)
    run("umoci", "new", "--image", f"{layout}:x")
    for path in layers.paths:
        run("umoci", "raw", "add-layer", "--image", f"{layout}:x", path)
    if not has_layout:
        (layout / "oci-layout").unlink()
    with tarfile.open(work / "out", "w") as archive:
        archive.add(layout, ".")
    shutil.rmtree(layout)
    if has_layout:
        check(playground, layers, work / "out")
    else:
        done = playground.unpack_files([(work / "out").read_bytes()], False)
        assert done.summary.warnings == ["the archive is an OCI layout without its file oci-layout"]


@pytest.mark.parametrize("program", ["buildah", "podman"])
@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
def test_buildah_and_podman(
    playground: Playground, layers: Layers, work: Path, storage: list[str], program: str, form: str
) -> None:
    # Storage of kind vfs keeps neither ACLs nor holes of what it takes apart: the Debian alone, which has neither.
    (work / "in").write_bytes(images.docker_archive([layers.paths[0].read_bytes()]))
    policy = ("--signature-policy", work / "policy.json")
    run(program, *storage, "pull", *policy, f"docker-archive:{work}/in")
    name = "localhost/test/image:latest"
    if program == "buildah":
        run(program, *storage, "push", *policy, name, f"{form}:{work}/out")
    else:
        run(program, *storage, "save", "--format", form, "--output", work / "out", name)
    merged = work / "merged"
    merged.mkdir()
    done = playground.unpack_files([(work / "out").read_bytes()], False)
    expected = {path: row for path, row in comparable(layers.rows).items() if not path.startswith("/srv")}
    ours = {path: row for path, row in comparable(done.rows).items() if not path.startswith("/srv")}
    assert differences(without_root_time(ours), without_root_time(expected)) == []


def test_zeros_in_front_of_a_layer(playground: Playground, work: Path) -> None:
    with open(work / "zeros", "wb") as file:
        file.truncate(100 << 20)
    (work / "noise").write_bytes(os.urandom(20 << 20))
    run("tar", "-cf", work / "layer.tar", "-C", work, "zeros", "noise")
    archive = images.oci_archive([(work / "layer.tar").read_bytes()], lambda data: gzip.compress(data, 1))
    assert playground.unpack_archive(archive).summary.entries == 2

"""What the programs that make images write, where they are installed, becomes the tree of the layers that they were given."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.harness.containerd import Daemon
from tests.tools.tree import Rows, comparable
from tests.unit._image.formats.test_producers import LAYERS, LOWER, tree
from tests.unit._image.unpacked import Playground, needs_root
from tests.unit.builders import images, tar

pytestmark = needs_root

NAME = "localhost/test/image:latest"
ARCHIVES = ("docker-archive", "oci-archive")
# The same tree, but no file comes through a link: storage of kind vfs does not find such a file again.
STRAIGHT = [LOWER, tar.tar(tar.file(b".wh.gone"), tar.file(b"etc/b", b"b"), tar.hard_link(b"c", b"etc/a"))]
SKOPEO = {
    "docker-archive": ["docker-archive:{}:x/y:z"],
    "oci-archive": ["oci-archive:{}"],
    "oci-archive, gzip": ["--dest-compress", "--dest-compress-format=gzip", "oci-archive:{}"],
    "oci-archive, zstd": ["--dest-compress", "--dest-compress-format=zstd", "oci-archive:{}"],
}


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """The tree that all of them must become."""
    return comparable(Playground(tmp_path_factory.mktemp("expected")).unpack("family", LAYERS).rows)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A directory that no canary stands in, with the layers as ``in`` and ``straight``, and a policy that takes any image."""
    directory = tmp_path / "spool"
    directory.mkdir()
    (directory / "in").write_bytes(images.docker_archive(LAYERS))
    (directory / "straight").write_bytes(images.docker_archive(STRAIGHT))
    (directory / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    return directory


@pytest.fixture
def storage() -> Iterator[list[str | Path]]:
    """Options that keep buildah and podman out of the host's images; podman wants a short path."""
    with tempfile.TemporaryDirectory(prefix="flyd-") as directory:
        yield ["--root", f"{directory}/images", "--runroot", f"{directory}/run", "--storage-driver", "vfs"]


@pytest.mark.parametrize("form", SKOPEO)
def test_what_skopeo_writes_becomes_the_same_tree(
    playground: Playground, expected: Rows, work: Path, form: str
) -> None:
    copy = program("skopeo", "--policy", work / "policy.json", "--tmpdir", work, "copy", "--quiet")
    *options, target = (text.format(work / "out") for text in SKOPEO[form])
    run([*copy, *options, f"docker-archive:{work}/in", target])
    assert tree(playground, (work / "out").read_bytes()) == expected


@pytest.mark.parametrize("form", ARCHIVES)
def test_what_buildah_writes_becomes_the_same_tree(
    playground: Playground, expected: Rows, work: Path, storage: list[str | Path], form: str
) -> None:
    buildah = [*program("buildah"), *storage]
    run([*buildah, "pull", "--signature-policy", work / "policy.json", f"docker-archive:{work}/straight"])
    run([*buildah, "push", "--signature-policy", work / "policy.json", NAME, f"{form}:{work}/out"])
    assert tree(playground, (work / "out").read_bytes()) == expected


@pytest.mark.parametrize("form", ARCHIVES)
def test_what_podman_writes_becomes_the_same_tree(
    playground: Playground, expected: Rows, work: Path, storage: list[str | Path], form: str
) -> None:
    podman = [*program("podman"), *storage]
    run([*podman, "pull", "--signature-policy", work / "policy.json", f"docker-archive:{work}/straight"])
    run([*podman, "save", "--format", form, "--output", work / "out", NAME])
    assert tree(playground, (work / "out").read_bytes()) == expected


def test_what_ctr_exports_becomes_the_same_tree(playground: Playground, expected: Rows, work: Path) -> None:
    program("containerd")
    daemon = Daemon(work)
    with daemon.running(work, work):
        run([*daemon.ctr("images", "import", "--no-unpack"), work / "in"])
        (name,) = run(daemon.ctr("images", "list", "--quiet")).split()
        run(daemon.ctr("images", "export", work / "out", name))
    assert tree(playground, (work / "out").read_bytes()) == expected


def test_what_umoci_writes_becomes_the_same_tree(playground: Playground, expected: Rows, work: Path) -> None:
    layout = work / "layout"
    umoci = program("umoci")
    run([*umoci, "init", "--layout", layout])
    run([*umoci, "new", "--image", f"{layout}:x"])
    for at, layer in enumerate(LAYERS):
        (work / f"{at}.tar").write_bytes(layer)
        run([*umoci, "raw", "add-layer", "--image", f"{layout}:x", work / f"{at}.tar"])
    with tarfile.open(work / "out", "w") as archive:
        archive.add(layout, ".")
    assert tree(playground, (work / "out").read_bytes()) == expected


def program(name: str, *arguments: str | Path) -> list[str | Path]:
    """The beginning of a command; skips when the program is not installed."""
    if shutil.which(name) is None:
        pytest.skip(f"the program {name} is not installed")
    return [name, *arguments]


def run(command: list[str | Path]) -> str:
    """What a program prints that must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout

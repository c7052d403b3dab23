"""Layers of a real Debian, made once, and what GNU tar makes of them."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.tools.tree import Rows, rows_of_directory
from tests.unit._image.unpacked import Playground

SPARSE_BYTES = 100 << 20
SMALL_DEBIAN = "base-files,base-passwd,busybox,mount"


@dataclass(frozen=True)
class Layers:
    """The tars of an image's layers as files, lowest first, and the rows of the tree that they are together."""

    paths: tuple[Path, ...]
    rows: Rows


def run(*command: str | Path, **given: object) -> str:
    """What a program prints that must succeed."""
    done = subprocess.run(list(command), capture_output=True, text=True, check=False, **given)  # type: ignore[call-overload]
    assert done.returncode == 0, (command, done.stderr[-2000:])
    return str(done.stdout)


def extract(layer: Path, directory: Path) -> None:
    """Have GNU tar extract a layer over what is in ``directory``."""
    options = ["-p", "--same-owner", "--numeric-owner", "--xattrs", "--xattrs-include=*", "--acls"]
    run("tar", "-x", *options, "-C", directory, "-f", layer)


@pytest.fixture(scope="session")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tar of a small Debian, as mmdebstrap writes it."""
    path = tmp_path_factory.mktemp("debian") / "debian.tar"
    options = ["--variant=extract", f"--include={SMALL_DEBIAN}", "--skip=check/empty", "--quiet"]
    run("mmdebstrap", *options, "bookworm", path)
    return path


@pytest.fixture(scope="session")
def layers(debian: Path, tmp_path_factory: pytest.TempPathFactory) -> Layers:
    """That Debian, and above it a layer of bsdtar with ACLs, links, a capability and a sparse file of 100 MiB."""
    work = tmp_path_factory.mktemp("layers")
    made, merged = work / "made", work / "merged"
    for directory in (made, merged):
        directory.mkdir(mode=0o755)
    (made / "srv").mkdir()
    (made / "srv" / "file").write_bytes(b"content")
    os.link(made / "srv" / "file", made / "srv" / "second")
    (made / "srv" / "link").symlink_to("/etc/passwd")
    for name in ("file", "."):
        run("setfacl", "-m", "u:54321:rw,g:54322:r", made / "srv" / name)
    run("setfacl", "-d", "-m", "u:54321:rwx", made / "srv")
    with open(made / "srv" / "sparse", "wb") as file:
        file.truncate(SPARSE_BYTES)
        file.seek(SPARSE_BYTES // 2)
        file.write(b"in the middle")
    upper = work / "upper.tar"
    run("bsdtar", "--format=pax", "--acls", "--numeric-owner", "-cf", upper, "-C", made, "srv")
    for layer in (debian, upper):
        extract(layer, merged)
    return Layers((debian, upper), rows_of_directory(merged, exact=True))


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A directory that no canary stands in, with a policy that takes any image."""
    directory = tmp_path / "spool"
    directory.mkdir()
    (directory / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    return directory


@pytest.fixture
def storage() -> Iterator[list[str]]:
    """Options that keep buildah and podman out of the host's images; podman wants a short path."""
    with tempfile.TemporaryDirectory(prefix="flyd-") as directory:
        yield ["--root", f"{directory}/images", "--runroot", f"{directory}/run", "--storage-driver", "vfs"]


@pytest.fixture
def playground(tmp_path: Path) -> Playground:
    """Where an image is unpacked, with canaries around."""
    return Playground(tmp_path)

"""One image in the forms that the contenders read, all of them in memory.

Invariant: all forms hold the same layers; skopeo converts, and umoci writes nothing.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.measuring import environment, run

ROOT = Path(__file__).parents[1]
_COPY = ("skopeo", "--insecure-policy", "copy", "--quiet")
TAG = "image"


@dataclass(frozen=True)
class Inputs:
    """The image ``name`` as a docker archive, as the flat tars of its layers, and as OCI: plain and gzip."""

    name: str
    archive: Path
    layers: tuple[Path, ...]
    gzip_layers: tuple[Path, ...]
    oci: Path
    gzip_oci: Path
    gzip_archive: Path
    content_bytes: int
    entries: int


def of_lab(name: str) -> Path:
    """The archive of the lab's image ``name``, built when missing."""
    return Path(run([sys.executable, ROOT / "tests/vm/lab.py", "image", name], environment()).strip())


def prepare(name: str, archive: Path, work: Path) -> Inputs:
    """Convert ``archive`` into all forms, below ``work``."""
    env = environment()
    copy = work / "image.tar"
    shutil.copyfile(archive, copy)
    oci, packed, packed_archive = work / "oci", work / "oci-gzip", work / "oci-gzip.tar"
    run([*_COPY, "--dest-oci-accept-uncompressed-layers", f"docker-archive:{copy}", f"oci:{oci}:{TAG}"], env)
    run([*_COPY, "--dest-compress-format", "gzip", f"docker-archive:{copy}", f"oci:{packed}:{TAG}"], env)
    run(["tar", "-C", packed, "-cf", packed_archive, "."], env)
    layers = _blobs(oci)
    names = "".join(run(["tar", "-tf", layer], env) for layer in layers)
    return Inputs(name, copy, layers, _blobs(packed), oci, packed, packed_archive, _bytes_of(layers), names.count("\n"))


def _blobs(layout: Path) -> tuple[Path, ...]:
    """The layers of the only image in an OCI layout, lowest first."""
    index = json.loads((layout / "index.json").read_text())
    manifest = json.loads(_blob(layout, index["manifests"][0]["digest"]).read_text())
    return tuple(_blob(layout, layer["digest"]) for layer in manifest["layers"])


def _blob(layout: Path, digest: str) -> Path:
    algorithm, _colon, value = digest.partition(":")
    return layout / "blobs" / algorithm / value


def _bytes_of(paths: tuple[Path, ...]) -> int:
    return sum(path.stat().st_size for path in paths)

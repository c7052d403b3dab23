"""One image in the forms that the contenders read, all of them in memory.

Invariant: all forms hold the same layers; skopeo converts, and umoci writes nothing.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.harness import synthetic
from bench.harness.measuring import MIB, environment, run

ROOT = Path(__file__).parents[2]
_COPY = ("skopeo", "--insecure-policy", "copy", "--quiet")
TAG = "image"
_SYNTHETIC = re.compile(r"(entries|mb)-(\d+)")


@dataclass(frozen=True)
class Inputs:
    """The image ``name`` as a docker archive, as the flat tars of its layers, and as OCI: plain and gzip (perhaps left out)."""

    name: str
    archive: Path
    layers: tuple[Path, ...]
    gzip_layers: tuple[Path, ...]
    oci: Path
    gzip_oci: Path
    gzip_archive: Path
    content_bytes: int
    entries: int


def find(name: str, work: Path) -> Path:
    """The archive ``name``: a path, ``entries-N`` or ``mb-N``, which are made up in ``work``, or an image of the lab, built when missing."""
    if "/" in name:
        return Path(name)
    made_up = _SYNTHETIC.fullmatch(name)
    if made_up is None:
        return _of_lab(name)
    path, count = work / f"{name}.tar", int(made_up[2])
    if made_up[1] == "entries":
        synthetic.of_entries(path, count)
    else:
        synthetic.of_bytes(path, count * MIB)
    return path


def _of_lab(name: str) -> Path:
    return Path(run([sys.executable, ROOT / "tests/vm/lab.py", "image", name], environment()).strip())


def prepare(name: str, archive: Path, work: Path, *, packed: bool = True) -> Inputs:
    """Convert ``archive`` into all forms, below ``work``; without the gzip ones unless ``packed``."""
    env = environment()
    copy = archive
    if work not in archive.parents:
        copy = work / "image.tar"
        shutil.copyfile(archive, copy)
    oci, gzip_oci, gzip_archive = work / "oci", work / "oci-gzip", work / "oci-gzip.tar"
    run([*_COPY, "--dest-oci-accept-uncompressed-layers", f"docker-archive:{copy}", f"oci:{oci}:{TAG}"], env)
    gzip_layers: tuple[Path, ...] = ()
    if packed:
        run([*_COPY, "--dest-compress-format", "gzip", f"docker-archive:{copy}", f"oci:{gzip_oci}:{TAG}"], env)
        run(["tar", "-C", gzip_oci, "-cf", gzip_archive, "."], env)
        gzip_layers = _blobs(gzip_oci)
    layers = _blobs(oci)
    names = "".join(run(["tar", "-tf", layer], env) for layer in layers)
    bytes_of_layers = sum(layer.stat().st_size for layer in layers)
    return Inputs(name, copy, layers, gzip_layers, oci, gzip_oci, gzip_archive, bytes_of_layers, names.count("\n"))


def _blobs(layout: Path) -> tuple[Path, ...]:
    """The layers of the only image in an OCI layout, lowest first."""
    index = json.loads((layout / "index.json").read_text())
    manifest = json.loads(_blob(layout, index["manifests"][0]["digest"]).read_text())
    return tuple(_blob(layout, layer["digest"]) for layer in manifest["layers"])


def _blob(layout: Path, digest: str) -> Path:
    algorithm, _colon, value = digest.partition(":")
    return layout / "blobs" / algorithm / value

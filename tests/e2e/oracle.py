"""The tree that GNU tar makes of a docker archive's layers, with whiteouts applied by hand: the judge of our own unpacking."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.e2e.machine import ROOT


def tree_by_gnu_tar(archive: str, work: Path) -> str:
    """The rows of tests/tools/tree.py --exact for the image in ``archive``, unpacked below ``work`` (as root, and removed again)."""
    parts, tree = work / "parts", work / "tree"
    parts.mkdir()
    tree.mkdir()
    subprocess.run(["tar", "-xf", archive, "-C", parts], check=True)
    for layer in json.loads((parts / "manifest.json").read_text())[0]["Layers"]:
        _apply_whiteouts(parts / layer, tree)
        tar = [
            "tar",
            "--xattrs",
            "--xattrs-include=*",
            "--numeric-owner",
            "--same-owner",
            "--same-permissions",
            "--overwrite",
        ]
        subprocess.run([*tar, "--exclude=.wh.*", "-xf", parts / layer, "-C", tree], check=True)
    described = subprocess.run(
        [sys.executable, ROOT / "tests/tools/tree.py", tree, "--exact"], check=True, capture_output=True, text=True
    )
    shutil.rmtree(parts)
    shutil.rmtree(tree)
    return described.stdout


def _apply_whiteouts(layer: Path, tree: Path) -> None:
    names = subprocess.run(["tar", "-tf", layer], check=True, capture_output=True, text=True).stdout.splitlines()
    for path in map(Path, names):
        if path.name == ".wh..wh..opq":
            for child in (tree / path.parent).iterdir():
                _remove(child)
        elif path.name.startswith(".wh."):
            _remove(tree / path.parent / path.name.removeprefix(".wh."))


def _remove(path: Path) -> None:
    """Remove ``path``; its directory keeps the times that a layer gave it, for a whiteout is no change of the directory."""
    before = path.parent.lstat() if path.parent.is_dir() else None
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    if before is not None:
        os.utime(path.parent, ns=(before.st_atime_ns, before.st_mtime_ns))

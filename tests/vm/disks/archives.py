"""Docker archives made of layers, by the containers' own tools, once for each cache.

Invariant: what is in the cache is whole (see cache.py); umoci and skopeo write all of it but the layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from disks.cache import Cache, discard, made_whole
from disks.packages import ensure_programs
from programs import run

FORGET_HOST = '--customize-hook=rm -f "$1/etc/hostname" "$1/etc/resolv.conf"'
"""The container's network and name are its host's affair, and mmdebstrap copies this one's."""

_TOOL_TIMEOUT_SECONDS = 300.0

Build = Callable[[Path, Path, Path], None]
"""Makes an archive: called with an empty directory to work in, the archive's path, and a log."""


def cached_archive(cache: Cache, name: str, filename: str, build: Build) -> Path:
    """The path of the archive ``filename`` in the cache, which ``build`` makes first when it is missing."""
    archive = cache.directory("images") / filename
    with cache.lock(f"image-{name}"):
        if not archive.exists():
            work = cache.root / "images" / f"{name}.work"
            discard(work)
            work.mkdir(mode=0o700)
            with made_whole(archive) as part:
                build(work, part, cache.directory("logs") / f"{name}.log")
            discard(work)
    return archive


def join(layers: Iterable[Path], layout: Path, archive: Path, tag: str, config: Iterable[str], log: Path) -> None:
    """Write the docker archive of ``layers``, named ``tag``; ``config`` are options of `umoci config`, ``layout`` a path to use."""
    ensure_programs("umoci", "skopeo", log=log)
    image = f"{layout}:image"
    _tool(log, "umoci", "init", "--layout", layout)
    _tool(log, "umoci", "new", "--image", image)
    for layer in layers:
        _tool(log, "umoci", "raw", "add-layer", "--image", image, layer)
    _tool(log, "umoci", "config", "--image", image, *config)
    # Without a policy file skopeo copies nothing, and there is no signature to check.
    _tool(log, "skopeo", "--insecure-policy", "copy", f"oci:{image}", f"docker-archive:{archive}:{tag}")


def _tool(log: Path, *argv: str | Path) -> None:
    run(argv, timeout_seconds=_TOOL_TIMEOUT_SECONDS, log=log)

"""images/redis_latest.tar: a docker archive of redis, made of Debian's packages.

Three layers, so that an unpacker has all there is to do: Debian, what installing redis-server changed
in it, and whiteouts of the documentation and the package lists.

Invariant: the layers are what Debian's and the containers' own tools write; only the choice of what
goes into the second and third is ours (see layers.py).
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path

from cache import Cache, discard, made_whole
from layers import write_base, write_difference, write_whiteouts
from packages import debian_tree, ensure_programs
from programs import run

_TOOL_TIMEOUT_SECONDS = 300.0

# The container's network and name are its host's affair, and mmdebstrap copies this one's.
_FORGET_HOST = '--customize-hook=rm -f "$1/etc/hostname" "$1/etc/resolv.conf"'
_PROVE_REDIS = '--customize-hook=chroot "$1" /usr/bin/redis-server --version'
_KEEP_LISTS = ("--skip=cleanup/apt/lists", _FORGET_HOST)

_REMOVED = ("usr/share/doc", "usr/share/man")
_EMPTIED = ("var/lib/apt/lists",)

_CONFIG = (
    "--config.user=redis",
    "--config.workingdir=/var/lib/redis",
    "--config.env=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "--config.entrypoint=/usr/bin/redis-server",
    "--config.cmd=--dir",
    "--config.cmd=/var/lib/redis",
    "--config.exposedports=6379/tcp",
)


def redis_image(cache: Cache) -> Path:
    """The path of the archive, which is built first when missing (about a minute)."""
    archive = cache.directory("images") / "redis_latest.tar"
    with cache.lock("image-redis"):
        if not archive.exists():
            work = cache.root / "images" / "redis.work"
            discard(work)
            work.mkdir(mode=0o700)
            with made_whole(archive) as part:
                _build(work, part, cache.directory("logs") / "redis.log")
            discard(work)
    return archive


def _build(work: Path, archive: Path, log: Path) -> None:
    ensure_programs("umoci", "skopeo", log=log)
    debian, base, with_redis = work / "debian.tar", work / "base.tar", work / "with-redis.tar"
    debian_tree(debian, variant="minbase", include=(), options=_KEEP_LISTS, log=log)
    write_base(debian, base)
    on_top = (f"--setup-hook=tar-in {shlex.quote(str(base))} /", *_KEEP_LISTS, _PROVE_REDIS)
    debian_tree(with_redis, variant="custom", include=("redis-server",), options=on_top, log=log)
    redis, whiteouts = work / "redis.tar", work / "whiteouts.tar"
    write_difference(base, with_redis, redis)
    write_whiteouts(with_redis, whiteouts, removed=_REMOVED, emptied=_EMPTIED)
    _join((base, redis, whiteouts), work / "oci", archive, log)


def _join(layers: Iterable[Path], layout: Path, archive: Path, log: Path) -> None:
    image = f"{layout}:redis"
    _tool(log, "umoci", "init", "--layout", layout)
    _tool(log, "umoci", "new", "--image", image)
    for layer in layers:
        _tool(log, "umoci", "raw", "add-layer", "--image", image, layer)
    _tool(log, "umoci", "config", "--image", image, *_CONFIG)
    # Without a policy file skopeo copies nothing, and there is no signature to check.
    _tool(log, "skopeo", "--insecure-policy", "copy", f"oci:{image}", f"docker-archive:{archive}:redis:latest")


def _tool(log: Path, *argv: str | Path) -> None:
    run(argv, timeout_seconds=_TOOL_TIMEOUT_SECONDS, log=log)

"""images/redis_latest.tar: a docker archive of redis, made of Debian's packages.

Three layers, so that an unpacker has all there is to do: Debian, what installing redis-server changed
in it, and whiteouts of the documentation and the package lists.

Invariant: the layers are what Debian's and the containers' own tools write; only the choice of what
goes into the second and third is ours (see layers.py).
"""

from __future__ import annotations

import shlex
from pathlib import Path

from disks.archives import FORGET_HOST, cached_archive, join
from disks.cache import Cache
from disks.layers import write_base, write_difference, write_whiteouts
from disks.packages import debian_tree

_PROVE_REDIS = '--customize-hook=chroot "$1" /usr/bin/redis-server --version'
_KEEP_LISTS = ("--skip=cleanup/apt/lists", FORGET_HOST)

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
    return cached_archive(cache, "redis", "redis_latest.tar", _build)


def _build(work: Path, archive: Path, log: Path) -> None:
    debian, base, with_redis = work / "debian.tar", work / "base.tar", work / "with-redis.tar"
    debian_tree(debian, variant="minbase", include=(), options=_KEEP_LISTS, log=log)
    write_base(debian, base)
    on_top = (f"--setup-hook=tar-in {shlex.quote(str(base))} /", *_KEEP_LISTS, _PROVE_REDIS)
    debian_tree(with_redis, variant="custom", include=("redis-server",), options=on_top, log=log)
    redis, whiteouts = work / "redis.tar", work / "whiteouts.tar"
    write_difference(base, with_redis, redis)
    write_whiteouts(with_redis, whiteouts, removed=_REMOVED, emptied=_EMPTIED)
    join((base, redis, whiteouts), work / "oci", archive, "redis:latest", _CONFIG, log)

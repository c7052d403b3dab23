"""images/build_latest.tar: a docker archive of a compiler and what goes with it, made of Debian's packages.

The lab's large image: about 630 MB and 13,000 files in one layer, for benchmarks.
"""

from __future__ import annotations

from pathlib import Path

from disks.archives import FORGET_HOST, cached_archive, join
from disks.cache import Cache
from disks.layers import write_base
from disks.packages import debian_tree

_PACKAGES = ("build-essential", "python3-dev", "python3-numpy", "git")
_CONFIG = (
    "--config.env=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "--config.cmd=/bin/bash",
)


def build_image(cache: Cache) -> Path:
    """The path of the archive, which is built first when missing (some minutes)."""
    return cached_archive(cache, "build", "build_latest.tar", _build)


def _build(work: Path, archive: Path, log: Path) -> None:
    debian, layer = work / "debian.tar", work / "layer.tar"
    debian_tree(debian, variant="minbase", include=_PACKAGES, options=(FORGET_HOST,), log=log)
    write_base(debian, layer)
    join((layer,), work / "oci", archive, "build:latest", _CONFIG, log)

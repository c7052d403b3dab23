"""images/python-layers: the layers of images with Python, as they are built one after another, made of Debian's packages.

    base.tar             Debian, minimal
    python.tar           upon it, what installing Python and packages of it changed, of the packages of the release alone
    python-rebuilt.tar   the same packages, installed again
    python-updated.tar   the same, with the security updates of the day
    other.tar            upon base.tar, another image: Ruby and a web server
    flat.tar, flat-updated.tar    base.tar and python.tar, base.tar and python-updated.tar as one layer

Invariant: a layer and those below it are what apt has left there; only documents that tell of the host are removed.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from disks.apt_sources import SUITE, mirror_lines
from disks.archives import FORGET_HOST, cached_archive
from disks.cache import Cache
from disks.layers import write_base, write_difference
from disks.packages import debian_tree
from programs import LabError

_PYTHON = (
    "python3",
    "python3-pip",
    "python3-numpy",
    "python3-flask",
    "python3-requests",
    "python3-sqlalchemy",
    "python3-cryptography",
    "python3-psycopg2",
    "python3-lxml",
    "python3-pil",
    "gunicorn",
    "ca-certificates",
    "curl",
)
_OTHER = ("ruby", "ruby-nokogiri", "ruby-sinatra", "puma", "nginx-light", "ca-certificates", "curl")
# What mmdebstrap removes else: logs and caches that differ each time, as they do in an image that `docker build` makes.
_AS_LEFT = ("--skip=cleanup/reproducible", FORGET_HOST)


def python_layers(cache: Cache) -> Path:
    """The path of the directory, which is built first when missing (some minutes)."""
    return cached_archive(cache, "python-layers", "python-layers", _build)


def _build(work: Path, layers: Path, log: Path) -> None:
    updated = mirror_lines(os.environ)
    release = [line for line in updated if f" {SUITE} " in line]
    if release == updated:
        raise LabError(f"the apt sources have no updates of {SUITE}: an entry for {SUITE}-security is needed")
    layers.mkdir()
    debian, base = work / "debian.tar", layers / "base.tar"
    debian_tree(debian, variant="minbase", include=(), options=(FORGET_HOST,), log=log, lines=release)
    write_base(debian, base)
    # The sources that base.tar has are those of the release.
    renewed = f'--setup-hook=printf "%s\\n" {shlex.join(updated)} >"$1/etc/apt/sources.list"'
    for name, packages, hooks, flat in (
        ("python", _PYTHON, (), "flat"),
        ("python-rebuilt", _PYTHON, (), ""),
        ("python-updated", _PYTHON, (renewed,), "flat-updated"),
        ("other", _OTHER, (), ""),
    ):
        tree = work / "tree.tar"
        _install(base, tree, packages, hooks, log)
        write_difference(base, tree, layers / f"{name}.tar")
        if flat:
            write_base(tree, layers / f"{flat}.tar")


def _install(base: Path, tree: Path, packages: Sequence[str], hooks: Sequence[str], log: Path) -> None:
    on_top = (f"--setup-hook=tar-in {shlex.quote(str(base))} /", *hooks, *_AS_LEFT)
    debian_tree(tree, variant="custom", include=packages, options=on_top, log=log)

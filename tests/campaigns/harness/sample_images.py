# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Small images for campaigns: two layers with files, links, whiteouts and attributes, in two generations, in the lab's S3 server.

Invariant: one generation and size always give the same bytes. Nine of ten files are the same in every generation, so that the base of one
can be made of the base of another.
"""

from __future__ import annotations

import random
from pathlib import Path

from tests.e2e.machine import lab
from tests.unit.builders import images, tar

KEY = "images/campaign.tar"
OTHER_KEY = "images/other.tar"
CHANGED = 10  # one file of so many differs between generations
BUCKETS = ("campaign-one", "campaign-two")
"""The generations of one key lie in two buckets, so that none of them has to be replaced while machines read it."""


def archive(generation: int, *, files: int = 200, file_bytes: int = 12_000) -> bytes:
    """A docker archive of two layers, the upper one with whiteouts; about ``files`` times ``file_bytes`` large."""
    lower = [tar.directory(b"etc"), tar.directory(b"data"), tar.directory(b"gone"), tar.file(b"gone/file", b"lower")]
    for number in range(files):
        name = b"data/%04d" % number
        dice = random.Random(number * len(BUCKETS) + (generation if number % CHANGED == 0 else 0))
        lower.append(tar.file(name, dice.randbytes(dice.randrange(file_bytes * 2)), mode=0o640, uid=number))
    lower += [tar.symlink(b"link", b"/etc/name"), tar.hard_link(b"etc/hard", b"data/0001"), tar.fifo(b"fifo")]
    upper = [tar.file(b".wh.gone"), tar.file(b"etc/name", b"generation %d\n" % generation, mode=0o4755)]
    upper += [tar.pax((b"SCHILY.xattr.user.generation", b"%d" % generation)), tar.file(b"etc/attribute", b"x")]
    return images.docker_archive([tar.tar(*lower), tar.tar(*upper)])


def publish(directory: Path) -> None:
    """Have both generations in the lab's S3 server; ``directory`` is for files of this run."""
    for generation, bucket in enumerate(BUCKETS):
        path = directory / f"generation-{generation}.tar"
        path.write_bytes(archive(generation))
        for key in (KEY, OTHER_KEY):
            lab("s3", "put", str(path), key, "--bucket", bucket)

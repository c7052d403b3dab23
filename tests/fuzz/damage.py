# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real images, cut at every block and with a byte flipped in every header: ``python -m tests.fuzz.damage [--sample N]``.

Each must be refused, or, where what was lost or changed has no meaning (padding, a member that nothing names, a tag, a time that the
tree does not have), become the very tree that the whole image becomes. FLYD_SAMPLE_IMAGES names the directory of images.

A compressed archive is cut as it is, and its headers are flipped in what it unpacks to.
"""

from __future__ import annotations

import argparse
import bz2
import gzip
import lzma
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from module_utils._errors import BadInput, Unsupported, Untrusted
from module_utils._image.limits import Limits
from module_utils._image.pipeline.unpacking import PlatformPolicy
from module_utils._image.tar.header import parse_header
from tests.tools.tree import Rows, comparable
from tests.unit._image.unpacked import Playground

BLOCK = 512
_UNPACKERS = {b"\x1f\x8b": gzip.decompress, b"\xfd7": lzma.decompress, b"BZ": bz2.decompress}


@dataclass(frozen=True)
class Sample:
    """A real image, and which of several it is that counts."""

    name: str
    data: bytes
    image_name: str = ""


def samples() -> list[Sample]:
    """Those of FLYD_SAMPLE_IMAGES; none when it names nothing."""
    directory = Path(os.environ.get("FLYD_SAMPLE_IMAGES", "/nonexistent"))
    if not directory.is_dir():
        return []
    paths = sorted(path for path in directory.iterdir() if ".tar" in path.name and path.suffix != ".tsv")
    return [Sample(path.name, path.read_bytes(), "0" if path.name.startswith("two-images") else "") for path in paths]


def tree_of(data: bytes, sample: Sample) -> Rows | None:
    """The tree that ``data`` becomes, or None when it is refused."""
    directory = Path(tempfile.mkdtemp(prefix="flyd-damage-"))
    given = {
        "image_name": sample.image_name,
        "platform_policy": PlatformPolicy.SOLE,
        "limits": Limits(),
        "processes": 1,
    }
    try:
        return comparable(Playground(directory).unpack_files([data], False, **given).rows)
    except (Untrusted, BadInput, Unsupported):
        return None
    finally:
        shutil.rmtree(directory)


@dataclass(frozen=True)
class Damage:
    """What is done to an archive: the byte at ``where`` gets other ``bits``, or all from there on is gone (no bits)."""

    where: int
    bits: int = 0

    def done_to(self, data: bytes) -> bytes:
        """``data`` with the damage."""
        if not self.bits:
            return data[: self.where]
        return data[: self.where] + bytes([data[self.where] ^ self.bits]) + data[self.where + 1 :]


def cuts(data: bytes) -> list[Damage]:
    """A cut at each whole number of blocks."""
    return [Damage(length) for length in range(0, len(data), BLOCK)]


def plain(data: bytes) -> bytes:
    """``data``, decompressed if it is compressed."""
    return bytes(_UNPACKERS[data[:2]](data)) if data[:2] in _UNPACKERS else data


def flips(data: bytes) -> list[Damage]:
    """A change of one bit of one byte in each header, those of layers within too; which one is chosen by its place."""
    made = []
    for at in range(0, len(data) - BLOCK + 1, BLOCK):
        if parse_header(data[at : at + BLOCK]) is not None:
            chance = random.Random(at)
            made.append(Damage(at + chance.randrange(BLOCK), 1 << chance.randrange(8)))
    return made


def sampled(damaged: list[Damage], most: int) -> list[Damage]:
    """At most ``most`` of them, spread evenly; 0: all."""
    return damaged[:: max(1, -(-len(damaged) // most))] if most else damaged


def outcomes(sample: Sample, data: bytes, damages: list[Damage]) -> Counter[str]:
    """How many were refused, and how many became the whole image's tree; raises ``AssertionError`` for any other.

    ``data`` is the image, or what it decompresses to.
    """
    golden = tree_of(sample.data, sample)
    assert golden, f"{sample.name} is refused whole"
    found: Counter[str] = Counter(refused=0, equal=0)
    for damage in damages:
        tree = tree_of(damage.done_to(data), sample)
        assert tree in (None, golden), f"{sample.name} became another tree by {damage}"
        found["refused" if tree is None else "equal"] += 1
    return found


def report(sample: Sample, most: int) -> list[str]:
    """A line for the cuts and one for the flips of an image, at most ``most`` of each (0: all)."""
    lines = []
    for kind, data, make in (("cut", sample.data, cuts), ("flipped", plain(sample.data), flips)):
        found = outcomes(sample, data, sampled(make(data), most))
        lines.append(f"{sample.name:30} {kind:8} {found['refused']:6} refused  {found['equal']:4} equal")
    return lines


def main() -> int:
    """Print how many of each; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--sample", type=int, default=0, help="at most this many cuts and flips of each image; default: all"
    )
    given = parser.parse_args()
    for sample in samples():
        print("\n".join(report(sample, given.sample)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

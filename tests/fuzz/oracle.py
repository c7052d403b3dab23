# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must be true of any archive whatsoever, tried on one.

Unpacking ends soon, with a tree or with an error of the family that is the archive's fault; nothing outside of the tree changes; no
marker of a whiteout is in it; and a tar that was taken has the members that GNU tar lists.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from module_utils._errors import BadInput, Unsupported, Untrusted
from module_utils._image.extent import Extent
from module_utils._image.limits import Limits
from module_utils._image.pipeline.unpacking import PlatformPolicy
from module_utils._image.tar.header import BLOCK, parse_header
from module_utils._image.tar.members import TarReader
from tests.fuzz.recipes import Dish, cook
from tests.unit._image.unpacked import Playground

MAX_SECONDS = 20
LIMITS = Limits(
    entries=2000, content_bytes=1 << 24, file_bytes=1 << 24, decompressed_bytes=1 << 24, seconds=MAX_SECONDS
)
_NO_CONTENT = (b"2", b"3", b"4", b"6")
# Hard links with content, which POSIX allows; and owners that the reader leaves to the one that applies the layer, where they are refused.
_TAKEN_ALL_THE_SAME = re.compile(r"Skipping to next header|out of [gu]id_t range")
_PLAIN = re.compile(rb"[\x21-\x7e]+")


class Wrong(AssertionError):
    """Something that must be true of any archive was not."""


@contextlib.contextmanager
def _time_limit() -> Iterator[None]:
    def ring(_number: int, _frame: object) -> None:
        raise Wrong(f"it did not end within {MAX_SECONDS} s")

    old = signal.signal(signal.SIGALRM, ring)
    signal.alarm(MAX_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)


def judge(recipe: bytes, *, with_gnu_tar: bool = True) -> str:
    """Unpack the archive of ``recipe``; returns what came of it (``unpacked`` or a kind of error), raises ``Wrong``."""
    dish = cook(recipe)
    directory = Path(tempfile.mkdtemp(prefix="flyd-fuzz-"))
    try:
        with _time_limit():
            verdict = _unpacked(directory, dish)
        if with_gnu_tar:
            for layer in dish.layers:
                compare_with_gnu_tar(directory, layer)
        return verdict
    finally:
        shutil.rmtree(directory)


def _unpacked(directory: Path, dish: Dish) -> str:
    playground = Playground(directory)
    begun = time.monotonic()
    try:
        # The playground compares its canaries, whatever comes of it.
        done = playground.unpack_files(
            dish.files, dish.form == "family", limits=LIMITS, platform_policy=PlatformPolicy.SOLE
        )
    except (Untrusted, BadInput, Unsupported) as error:
        if not str(error).isprintable():
            raise Wrong(f"the error is not printable: {error!r}") from error
        return error.kind.value
    if any("/.wh." in path for path in done.rows):
        raise Wrong("a marker of a whiteout is in the tree")
    if len(done.kinds()) != done.summary.entries:
        raise Wrong(f"{done.summary.entries} entries were said to be written, and there are {len(done.kinds())}")
    if time.monotonic() - begun > MAX_SECONDS:
        raise Wrong("it took too long")
    return "unpacked"


def compare_with_gnu_tar(directory: Path, layer: bytes) -> bool:
    """Where we take a tar, GNU tar must take it and see the same members, by name, in order; says whether it was compared."""
    path = directory / "layer.tar"
    path.write_bytes(layer)
    with open(path, "rb") as file:
        try:
            ours = [member.name for member in TarReader(Extent.whole(file.fileno()), LIMITS, terminated=False)]
        except Untrusted:
            return False
    if _is_read_in_two_ways(layer) or not all(_PLAIN.fullmatch(name) for name in ours):
        return False
    listed, complaint, code = _listed_by_gnu_tar(path)
    if code and not _TAKEN_ALL_THE_SAME.search(complaint):
        raise Wrong(f"GNU tar refuses what we take, with {ours}: {complaint}")
    if listed != [name.rstrip(b"/") for name in ours]:
        raise Wrong(f"GNU tar lists {listed}, and we read {ours}: {complaint}")
    return True


def _is_read_in_two_ways(layer: bytes) -> bool:
    """Whether there is a volume label, which GNU tar lists as if it were a member, or a size that it takes for content against POSIX."""
    blocks = (layer[at : at + BLOCK] for at in range(0, len(layer) - BLOCK + 1, BLOCK))
    headers = [header for header in map(parse_header, blocks) if header]
    return any(one.typeflag == b"V" or (one.typeflag in _NO_CONTENT and one.size.strip(b"0 \0")) for one in headers)


def _listed_by_gnu_tar(path: Path) -> tuple[list[bytes], str, int]:
    """The names that it lists, without the slash that it gives to directories; what it says, and its exit code."""
    done = subprocess.run(["tar", "-tP", "--quoting-style=literal", "-f", path], capture_output=True, check=False)
    names = [name.rstrip(b"/") for name in done.stdout.split(b"\n") if name]
    return names, os.fsdecode(done.stderr)[:200], done.returncode

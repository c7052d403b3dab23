# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Archives that are small and want to become large, given to the tool as anybody would: ``python -m tests.fuzz.bombs``.

Each is refused by a limit that has its default, and the peak memory and the time are those of the tool and all of its children.
"""

from __future__ import annotations

import bz2
import io
import json
import lzma
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.unit.builders import images, tar

MIB, GIB, TIB = 1 << 20, 1 << 30, 1 << 40
TOOL = Path(__file__).parents[1] / "tools" / "unpack.py"
MAX_PEAK_MIB = 256

# ru_maxrss begins with the size of the process that forked; this one is small, whatever starts it.
_LAUNCHER = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(code)
"""


@dataclass(frozen=True)
class Bomb:
    """``write`` writes the archive to an open file; ``limits`` are those that refuse it, whichever comes first."""

    name: str
    write: Callable[[io.BufferedWriter], object]
    limits: tuple[str, ...]
    is_slow: bool = False  # bzip2 takes ten seconds for the first gibibyte, from which on the ratio counts


@dataclass(frozen=True)
class Blast:
    """What became of a bomb: what the tool answered, and what that took."""

    archive_bytes: int
    code: int
    answer: dict[str, str]
    seconds: float
    peak_mib: int

    @property
    def limit(self) -> str:
        """The limit that refused it."""
        details = self.answer.get("details")
        return str(details.get("limit", "")) if isinstance(details, dict) else ""


def _gzip_of(chunks: Iterator[bytes]) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join(map(packer.compress, chunks)) + packer.flush()


def _layer(packed: bytes) -> bytes:
    """A docker archive whose layer is ``packed``, whatever its digest."""
    return images.docker_archive([tar.tar(tar.file(b"a"))], pack=lambda _: packed)


def _pax_header(file: io.BufferedWriter) -> None:
    def chunks() -> Iterator[bytes]:
        yield tar.header(b"bomb", b"x", 400 * MIB)
        yield from (bytes(MIB) for _ in range(400))

    file.write(_gzip_of(chunks()))


def _pax_header_as_it_is(file: io.BufferedWriter) -> None:
    inner = 512 + 400 * MIB
    file.write(tar.header(b"etc/x", size=0) + tar.header(b"bomb", b"x", 400 * MIB))
    file.truncate(1024 + inner)


def _gzip(file: io.BufferedWriter) -> None:
    member = _gzip_of(bytes(MIB) for _ in range(1024))
    for _ in range(1024):
        file.write(member)


def _bzip2(file: io.BufferedWriter) -> None:
    stream = bz2.compress(bytes(64 * MIB))
    for _ in range(1024):
        file.write(stream)


def _xz_dictionary(file: io.BufferedWriter) -> None:
    """A block header that asks for a dictionary of 1.5 GiB (the .xz file format, 3.1 and 5.3.1)."""
    packed = bytearray(lzma.compress(tar.tar(tar.file(b"a"))))
    header = 12  # behind the stream header
    size = (packed[header] + 1) * 4
    assert packed[header + 2 : header + 4] == b"\x21\x01"  # LZMA2, with one byte of properties
    packed[header + 4] = 37
    packed[header + size - 4 : header + size] = zlib.crc32(packed[header : header + size - 4]).to_bytes(4, "little")
    file.write(_layer(bytes(packed)))


def _zstd_window(file: io.BufferedWriter) -> None:
    """A frame header that asks for a window of 2 GiB (RFC 8878, 3.1.1.1.2)."""
    frames = bytearray(_zstd_frames(MIB))
    frames[5] = 21 << 3
    file.write(_layer(bytes(frames)))


def _zstd_frames(size_bytes: int) -> bytes:
    """One frame of blocks that each repeat one byte 131,072 times (RFC 8878, 3.1.1.2)."""
    block = (128 << 10 << 3 | 1 << 1).to_bytes(3, "little") + b"\0"
    last = (1 << 3 | 1 << 1 | 1).to_bytes(3, "little") + b"\0"
    return b"\x28\xb5\x2f\xfd\x00\x38" + block * (size_bytes >> 17) + last


def _zstd(file: io.BufferedWriter) -> None:
    file.write(_layer(_zstd_frames(TIB)))


def _sparse(file: io.BufferedWriter) -> None:
    tail = bytes(41) + (tar.octal(0, 12) + tar.octal(4, 12)).ljust(96, b"\0") + b"\0" + tar.base256(4 * TIB, 12)
    member = tar.header(b"sparse", b"S", 4, magic=tar.GNU, tail=tail) + tar.padded(b"1234")
    file.write(images.docker_archive([tar.tar(member)]))


def _entries(file: io.BufferedWriter) -> None:
    member = _gzip_of(tar.file(b"usr/share/%x" % (at * 2654435761 % 2**32)) for at in range(1000))
    file.write(_layer(member * 10_000))


def _deep(file: io.BufferedWriter) -> None:
    file.write(images.docker_archive([tar.tar(tar.pax((b"path", b"d/" * 100_000 + b"f")), tar.file(b"f"))]))


def _deep_through_links(file: io.BufferedWriter) -> None:
    """Each name is short: a link leads to where the last one ended."""
    members = [tar.directory(b"d")]
    for at in range(100_000 // 40):
        way = b"d/" * 40
        link = b"s%d" % at
        members += [tar.symlink(link, (b"s%d/" % (at - 1) if at else b"") + way), tar.file(link + b"/x")]
    file.write(images.docker_archive([tar.tar(*members)]))


BOMBS = (
    Bomb("PAX header of 400 MiB in 400 KB of gzip", _pax_header, ("ratio", "header_bytes")),
    Bomb("PAX header of 400 MiB, uncompressed", _pax_header_as_it_is, ("header_bytes",)),
    Bomb("gzip to 1 TiB", _gzip, ("ratio",)),
    Bomb("zstd to 1 TiB", _zstd, ("ratio",)),
    Bomb("bzip2 to 64 GiB", _bzip2, ("ratio",), is_slow=True),
    Bomb("xz that asks for a dictionary of 1.5 GiB", _xz_dictionary, ("decoder_memory_bytes",)),
    Bomb("zstd that asks for a window of 2 GiB", _zstd_window, ("decoder_memory_bytes",)),
    Bomb("sparse file of 4 TiB", _sparse, ("file_bytes",)),
    Bomb("10 million entries", _entries, ("entries",)),
    Bomb("100,000 directories deep by one path", _deep, ("path_bytes",)),
    Bomb("100,000 directories deep through links", _deep_through_links, ("depth", "implied_directories")),
)


def explode(bomb: Bomb, directory: Path) -> Blast:
    """Give ``bomb`` to the tool, in ``directory``."""
    archive, target = directory / "bomb", directory / "target"
    target.mkdir()
    with open(archive, "wb") as file:
        bomb.write(file)
    command = [sys.executable, "-c", _LAUNCHER, sys.executable, str(TOOL), str(archive), str(target)]
    begun = time.monotonic()
    done = subprocess.run([*command, "--spool", str(directory)], capture_output=True, check=False)
    seconds = time.monotonic() - begun
    return Blast(
        archive.stat().st_size, done.returncode, json.loads(done.stdout), seconds, int(done.stderr.split()[-1]) >> 10
    )


def main() -> int:
    """Print a table; returns the exit code."""
    are_all_refused = True
    for bomb in BOMBS:
        with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
            blast = explode(bomb, Path(name))
        are_all_refused &= blast.limit in bomb.limits and blast.peak_mib <= MAX_PEAK_MIB
        size = f"{blast.archive_bytes / 1000:,.0f} KB"
        print(f"{bomb.name:42} {size:>13}  {blast.limit:20} {blast.seconds:6.1f} s {blast.peak_mib:5} MiB", flush=True)
    return 0 if are_all_refused else 1


if __name__ == "__main__":
    sys.exit(main())

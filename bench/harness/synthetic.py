"""Docker archives of any size that hold nothing of interest: many small files, or a few large ones.

Invariant: written as a stream, so an archive may be larger than this process; every digest in it is right.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import random
from collections.abc import Iterable, Iterator
from pathlib import Path

from bench.harness.measuring import MIB
from tests.unit.builders import tar

_FILES_PER_DIRECTORY = 100
_SMALL_BYTES = 400
_LARGE_FILE_BYTES = 64 * MIB


def of_entries(path: Path, count: int) -> None:
    """An image of ``count`` entries: directories with a hundred small files each."""
    _write(path, _small_members(count))


def of_bytes(path: Path, size_bytes: int) -> int:
    """An image of files of 64 MiB, ``size_bytes`` together; returns how many they are."""
    _write(path, _large_members(size_bytes))
    return -(-size_bytes // _LARGE_FILE_BYTES)


def _small_members(count: int) -> Iterator[bytes]:
    content = random.Random(1).randbytes(_SMALL_BYTES)
    for at in range(count):
        directory, number = divmod(at, _FILES_PER_DIRECTORY)
        if number == 0:
            yield tar.directory(b"d%05d" % directory)
        else:
            yield tar.file(b"d%05d/file%02d" % (directory, number), content, mtime=1_600_000_000 + at)


def _large_members(size_bytes: int) -> Iterator[bytes]:
    piece = random.Random(2).randbytes(MIB)
    for at, begin in enumerate(range(0, size_bytes, _LARGE_FILE_BYTES)):
        length = min(_LARGE_FILE_BYTES, size_bytes - begin)
        yield tar.header(b"large%d" % at, b"0", length)
        for _piece in range(length // MIB):
            yield piece


def _write(path: Path, members: Iterable[bytes]) -> None:
    """A docker archive of one layer of ``members``; its header is written last, when its size is known."""
    hasher = hashlib.sha256()
    with path.open("wb") as file:
        file.seek(tar.BLOCK)
        for data in itertools.chain(members, [tar.END]):
            hasher.update(data)
            file.write(data)
        layer_bytes = file.tell() - tar.BLOCK
        diff_id = f"sha256:{hasher.hexdigest()}"
        config = json.dumps(
            {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [diff_id]}}
        ).encode()
        manifest = json.dumps(
            [{"Config": "config.json", "RepoTags": ["synthetic:latest"], "Layers": ["layer.tar"]}]
        ).encode()
        file.write(tar.file(b"config.json", config) + tar.file(b"manifest.json", manifest) + tar.END)
        file.seek(0)
        file.write(tar.header(b"layer.tar", b"0", layer_bytes))

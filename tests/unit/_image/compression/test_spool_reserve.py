"""The spool leaves a reserve on the file system that it shares with the database, whatever an archive wants and whatever else is written."""

from __future__ import annotations

import gzip
import os
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from module_utils._errors import NoSpace
from module_utils._host.confinement import isolation
from module_utils._host.files.durable import DISK_RESERVE_BYTES, free_bytes
from module_utils._host.processes.child import in_child
from module_utils._image.pipeline.unpacking import open_image
from tests.unit._image.unpacked import needs_root, options
from tests.unit.builders import images, tar

pytestmark = [pytest.mark.slow, needs_root]

MIB = 1 << 20
NOISE = random.Random(3).randbytes(MIB)


class Disk:
    """A small file system, and the least that was free on it while something was done."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.least = free_bytes(str(path))

    def watching(self, work: Callable[[], None]) -> None:
        """Do ``work`` and look at what is free all the while."""
        is_over = threading.Event()

        def watch() -> None:
            while not is_over.wait(0.002):
                self.least = min(self.least, free_bytes(str(self.path)))

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            work()
        finally:
            is_over.set()
            watcher.join()
            self.least = min(self.least, free_bytes(str(self.path)))


def archive(mib: int, layers: int = 1) -> bytes:
    """An image of gzip layers that hold so much between them, and hardly compress."""
    content = NOISE * (mib // layers)
    return images.docker_archive(
        [tar.tar(tar.file(b"f%d" % at, content)) for at in range(layers)], lambda data: gzip.compress(data, 1)
    )


def tried_on(
    tmp_path: Path, size_mib: int, image: bytes, also: Callable[[Path], None] = lambda _path: None
) -> list[object]:
    """The kind of error, what it says, and the least that was free in MiB, on a tmpfs of that size; in a mount namespace of its own."""
    path = tmp_path / "image"
    path.write_bytes(image)
    place = tmp_path / "state"
    place.mkdir(exist_ok=True)

    def work() -> list[object]:
        isolation.own_mount_namespace()
        isolation.mount("tmpfs", str(place), "tmpfs", 0, f"size={size_mib}m")
        disk, found = Disk(place), []

        def unpack() -> None:
            threads = [threading.Thread(target=also, args=(place,))]
            threads[0].start()
            fd = os.open(path, os.O_RDONLY)
            try:
                with open_image(fd, options(place)):
                    found.append("done")
            except NoSpace as error:
                found.extend([error.kind.value, error.msg, error.hint])
            threads[0].join()

        disk.watching(unpack)
        return [*found, disk.least / MIB]

    return list(in_child(work, what="the test"))


@pytest.mark.parametrize("layers", [1, 3])
def test_an_archive_that_wants_more_than_there_is_leaves_the_reserve(tmp_path: Path, layers: int) -> None:
    kind, msg, hint, least = tried_on(tmp_path, 72, archive(12, layers))
    assert kind == "no_space"
    assert "64 MiB of them stay free for the database" in str(msg)
    assert "state_dir" in str(hint)
    assert float(str(least)) >= DISK_RESERVE_BYTES / MIB


def test_with_less_than_the_reserve_free_nothing_is_written(tmp_path: Path) -> None:
    kind, _msg, _hint, least = tried_on(tmp_path, 50, archive(3))
    assert kind == "no_space"
    assert float(str(least)) == 50


def test_what_fits_is_decompressed(tmp_path: Path) -> None:
    assert tried_on(tmp_path, 80, archive(6, 2))[0] == "done"


def test_room_is_asked_for_again_while_another_writes(tmp_path: Path) -> None:
    def write(place: Path) -> None:
        with open(place / "other", "wb") as file:
            for _ in range(6):
                file.write(NOISE)

    kind, *_, least = tried_on(tmp_path, 80, archive(15), write)
    assert kind == "no_space"
    assert float(str(least)) >= DISK_RESERVE_BYTES / MIB

"""What programs make that is no image is named for what it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from module_utils._errors import FlydError
from tests.real_images.conftest import run
from tests.unit._image.unpacked import plan_of
from tests.unit.builders import images

COMMANDS = {
    "a squashfs file system": ["mksquashfs", "{in}", "{out}", "-quiet"],
    "an EROFS file system": ["mkfs.erofs", "{out}", "{in}"],
    "compressed with lz4": ["lz4", "-q", "{in}/file", "{out}"],
    "a zip archive": ["sh", "-c", "cd {in} && zip -q {out}.zip file && mv {out}.zip {out}"],
    "a cpio archive": ["sh", "-c", "cd {in} && echo file | cpio -o --quiet -H newc > {out}"],
    "an ISO 9660 image": ["genisoimage", "-quiet", "-o", "{out}", "{in}"],
    "a qcow2 disk image": ["qemu-img", "create", "-q", "-f", "qcow2", "{out}", "10M"],
    "an ext2, ext3 or ext4 file system": ["mkfs.ext4", "-q", "-F", "{out}", "8M"],
}


@pytest.mark.parametrize("what", COMMANDS)
def test_it_is_named(work: Path, what: str) -> None:
    source = work / "in"
    source.mkdir()
    (source / "file").write_bytes(bytes(range(256)) * 100)
    run(*(word.replace("{in}", str(source)).replace("{out}", f"{work}/out") for word in COMMANDS[what]))
    data = (work / "out").read_bytes()
    for archive in (data, images.docker_archive([b""], lambda _: data)):
        with pytest.raises(FlydError) as caught:
            plan_of(work, archive)
        assert what in caught.value.msg
        assert caught.value.kind.value == "unsupported"


def test_a_window_beyond_the_memory_of_the_decoders_names_the_limit(work: Path) -> None:
    run("sh", "-c", f"head -c 300M /dev/zero | zstd -q --ultra -1 --zstd=windowLog=28 -o {work}/out")
    data = (work / "out").read_bytes()
    for archive in (data, images.docker_archive([b""], lambda _: data)):
        with pytest.raises(FlydError) as caught:
            plan_of(work, archive)
        assert (caught.value.kind.value, caught.value.details["limit"]) == ("untrusted", "decoder_memory_bytes")

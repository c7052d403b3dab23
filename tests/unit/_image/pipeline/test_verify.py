"""Digests are computed beside the writing, and nothing is believed before they are known."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import time
from pathlib import Path

import pytest

from module_utils._errors import BadInput, CommandFailed, FlydError, Untrusted
from module_utils._image.extent import Extent
from module_utils._image.pipeline import verify
from module_utils._image.pipeline.unpacking import open_image
from module_utils._image.pipeline.verify import Check, Verification
from module_utils._names import Digest
from tests.unit._image.unpacked import Playground, needs_root, options, plan_of
from tests.unit.builders import images, tar

LARGE = os.urandom(1 << 20) * 3  # large enough for a process of its own
LAYER = tar.tar(tar.file(b"f", LARGE))


@pytest.fixture
def large_file(tmp_path: Path) -> int:
    """A descriptor of a file that holds ``LARGE``."""
    (tmp_path / "large").write_bytes(LARGE)
    fd = os.open(tmp_path / "large", os.O_RDONLY)
    os.unlink(tmp_path / "large")
    return fd


def check(fd: int, data: bytes = LARGE, algorithm: str = "sha256") -> Check:
    """A check that the file ``fd`` holds ``data``."""
    return Check("the blob", Extent.whole(fd), Digest(algorithm, hashlib.new(algorithm, data).hexdigest()))


def helper_of(verification: Verification) -> int:
    """The pid of the process that computes the digests."""
    assert verification._helper is not None
    return verification._helper.pid


def test_right_digests_are_silent(large_file: int) -> None:
    verification = Verification([check(large_file), check(large_file, algorithm="sha512")])
    verification.join()
    verification.close()


def test_a_wrong_digest_is_raised_when_joined_with_both_digests(large_file: int) -> None:
    verification = Verification([check(large_file), check(large_file, b"other")])
    with pytest.raises(Untrusted, match="the blob has the digest sha256:") as caught:
        verification.join()
    assert hashlib.sha256(b"other").hexdigest() in caught.value.msg
    assert hashlib.sha256(LARGE).hexdigest() in caught.value.msg
    verification.close()


def test_what_cannot_be_read_was_not_verified(tmp_path: Path) -> None:
    unreadable = Extent(os.open(tmp_path, os.O_RDONLY), 0, len(LARGE))  # a directory: preadv fails
    verification = Verification([Check("the blob", unreadable, Digest("sha256", hashlib.sha256(LARGE).hexdigest()))])
    with pytest.raises(FlydError, match=r"computing digests: .*Is a directory"):
        verification.join()
    verification.close()


def test_no_memory_is_no_verdict(large_file: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(_check: Check) -> None:
        raise MemoryError

    monkeypatch.setattr(verify, "_check", no_memory)
    verification = Verification([check(large_file)])
    with pytest.raises(CommandFailed, match="ended without an answer"):
        verification.join()
    verification.close()


def test_the_verdict_can_be_had_in_a_child(large_file: int) -> None:
    verification = Verification([check(large_file, b"other")])
    pid = os.fork()
    if pid == 0:
        try:
            verification.join()
        except Untrusted:
            os._exit(42)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 42
    verification.close()


def test_a_helper_that_is_killed_is_no_verdict(large_file: int) -> None:
    verification = Verification([check(large_file)] * 50)
    os.kill(helper_of(verification), signal.SIGKILL)
    with pytest.raises(CommandFailed, match="without an answer"):
        verification.join()
    verification.close()


def test_closing_ends_the_helper_at_once(large_file: int) -> None:
    verification = Verification([check(large_file)] * 500)
    pid = helper_of(verification)
    verification.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_the_helper_keeps_no_descriptor_but_its_own(large_file: int) -> None:
    read_end, write_end = os.pipe()
    verification = Verification([check(large_file)] * 500)
    ours = os.readlink(f"/proc/self/fd/{write_end}")
    until = time.monotonic() + 30  # it closes them as its first act, whenever it comes to run
    while ours in _open_files(helper_of(verification)) and time.monotonic() < until:
        time.sleep(0.005)
    assert ours not in _open_files(helper_of(verification))
    verification.close()
    os.close(read_end)
    os.close(write_end)


def _open_files(pid: int) -> set[str]:
    """What the descriptors of a process lead to; one may be closed while they are listed."""
    found = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return found


@needs_root
def test_a_wrong_digest_of_a_large_layer_fails_the_writing(playground: Playground) -> None:
    members = images.docker_members([LAYER])
    flipped = bytearray(LAYER)
    flipped[600] ^= 1
    with pytest.raises(Untrusted, match=r"layer0/layer\.tar has the digest"):
        playground.unpack_archive(images.archive({**members, b"layer0/layer.tar": bytes(flipped)}))


@needs_root
@pytest.mark.parametrize("layer", [LAYER, tar.tar(tar.file(b"f", b"x"))])
def test_the_archives_own_digest_is_verified(playground: Playground, layer: bytes) -> None:
    archive = images.docker_archive([layer])
    playground.unpack_archive(archive, expected_sha256=hashlib.sha256(archive).hexdigest())
    (playground.root / "f").unlink()
    with pytest.raises(Untrusted, match="the archive has the digest"):
        playground.unpack_archive(archive, expected_sha256=hashlib.sha256(archive + b"x").hexdigest())


def test_an_expected_digest_that_is_none_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="checksum"):
        plan_of(tmp_path, images.docker_archive([LAYER]), expected_sha256="abc")


def test_an_archive_that_shrinks_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "archive"
    path.write_bytes(images.docker_archive([LAYER]))
    with open(path, "rb") as file, open_image(file.fileno(), options(tmp_path)) as unpacking:
        os.truncate(path, 2000)
        for verification in unpacking.verifications:
            if verification._helper:
                with pytest.raises(Untrusted, match=r"cut while it was read|digest"):
                    Verification([check(file.fileno())])

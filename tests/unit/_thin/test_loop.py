"""Loop devices: simulated ones for the rules, real ones where this machine has them."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from module_utils._errors import BadInput, Busy, CommandFailed, DamagedPool, ForeignDevice
from module_utils._host.processes.command import Completed, Runner
from module_utils._names import exact_size_text
from module_utils._thin import loop
from tests.unit.fakes.host import FakeHost
from tests.unit.fakes.kernel import Kernel
from tests.unit.support import loops
from tests.unit.support.real import needs_loops

pytestmark = pytest.mark.slow

SIZE = 1 << 20


@pytest.fixture
def file(tmp_path: Path) -> str:
    return backing_file(tmp_path / "backing")


@pytest.fixture
def real_file(tmp_path: Path) -> Iterator[str]:
    path = backing_file(tmp_path / "backing")
    yield path
    attached = subprocess.run(
        ["losetup", "--associated", path, "--output", "NAME", "-n"], capture_output=True, text=True
    ).stdout
    for device in attached.split():
        subprocess.run(["losetup", "--detach", device], check=True)


def backing_file(path: Path) -> str:
    with open(path, "xb") as file:
        file.truncate(SIZE)
    path.chmod(0o600)
    return str(path)


def test_a_file_gets_one_loop_device(fake_host: FakeHost, file: str) -> None:
    first = loops.attach(fake_host.runner, file, sysfs=fake_host.sysfs)
    assert loops.attach(fake_host.runner, file, expected_bytes=SIZE, sysfs=fake_host.sysfs) == first
    assert loops.find(fake_host.runner, file, sysfs=fake_host.sysfs) == first
    assert list(fake_host.loops().values()) == [file]
    assert (first.backing_device, first.backing_inode) == (os.stat(file).st_dev, os.stat(file).st_ino)


def test_a_host_without_loops_is_asked_by_a_look_alone(fake_host: FakeHost, file: str) -> None:
    assert loops.find(fake_host.runner, file, sysfs=fake_host.sysfs) is None
    assert fake_host.runner.ran == []


def test_a_foreign_loop_is_not_an_own_one(fake_host: FakeHost, file: str, tmp_path: Path) -> None:
    loops.attach(fake_host.runner, file, sysfs=fake_host.sysfs)
    other = backing_file(tmp_path / "other")
    assert loops.find(fake_host.runner, other, sysfs=fake_host.sysfs) is None
    assert loops.detach(fake_host.runner, other, sysfs=fake_host.sysfs) is False
    assert list(fake_host.loops().values()) == [file]


def test_the_file_is_known_by_its_inode_not_by_its_name(fake_host: FakeHost, file: str) -> None:
    made = loops.attach(fake_host.runner, file, sysfs=fake_host.sysfs)
    os.link(file, file + ".link")
    assert loops.attach(fake_host.runner, file + ".link", sysfs=fake_host.sysfs).path == made.path


def untold(fake_host: FakeHost, monkeypatch: pytest.MonkeyPatch, back_file: str | None, **told: int) -> None:
    """Let losetup list the first loop device with nothing but the name of its file, as when it cannot open the device."""
    row = dict.fromkeys(("back-ino", "back-maj:min", "back-file", "offset", "sizelimit"))
    listed = json.dumps(
        {"loopdevices": [{"name": f"{fake_host.root}/dev/loop0", **row, "back-file": back_file, **told}]}
    )
    monkeypatch.setattr(fake_host.runner, "run", lambda *argv: Completed(argv, 0, listed, "", 0.0))


@pytest.mark.parametrize("is_named", [True, False])
def test_a_device_that_may_be_over_our_file_is_not_passed_over(
    fake_host: FakeHost, file: str, monkeypatch: pytest.MonkeyPatch, *, is_named: bool
) -> None:
    loops.attach(fake_host.runner, file, sysfs=fake_host.sysfs)
    untold(fake_host, monkeypatch, file if is_named else None, offset=0, sizelimit=0)
    with pytest.raises(CommandFailed, match=r"does not show which file is behind .*/dev/loop0") as caught:
        loops.find(fake_host.runner, file, sysfs=fake_host.sysfs)
    assert caught.value.retryable


def test_a_foreign_device_without_details_is_passed_over(
    fake_host: FakeHost, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loops.attach(fake_host.runner, file, sysfs=fake_host.sysfs)
    untold(fake_host, monkeypatch, "/somebody/else")
    assert loops.find(fake_host.runner, file, sysfs=fake_host.sysfs) is None


def test_a_device_that_was_detached_while_losetup_looked_is_passed_over(
    fake_host: FakeHost, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = backing_file(tmp_path / "other")
    for path in (file, other):
        loops.attach(fake_host.runner, path, sysfs=fake_host.sysfs)
    loops.detach(fake_host.runner, file, sysfs=fake_host.sysfs)
    untold(fake_host, monkeypatch, None)
    assert loops.find(fake_host.runner, file, sysfs=fake_host.sysfs) is None


def test_a_link_in_the_files_place_does_not_lead_to_the_loop(fake_host: FakeHost, file: str) -> None:
    loops.attach(fake_host.runner, file, sysfs=fake_host.sysfs)
    os.symlink(file, file + ".link")
    assert loops.find(fake_host.runner, file + ".link", sysfs=fake_host.sysfs) is None


def test_two_loops_over_one_file_are_refused(fake_host: FakeHost, file: str) -> None:
    loops.attach(fake_host.runner, file, sysfs=fake_host.sysfs)
    with Kernel.of(str(fake_host.root)) as kernel:
        kernel.loops["9"] = file
    with pytest.raises(ForeignDevice, match="more than one loop device"):
        loops.find(fake_host.runner, file, sysfs=fake_host.sysfs)


def test_the_second_of_two_that_fails_takes_the_first_with_it(fake_host: FakeHost, file: str, tmp_path: Path) -> None:
    other = backing_file(tmp_path / "other")
    fake_host.refuse(f"--nooverlap {other}", errno.ENOSPC)
    with pytest.raises(CommandFailed, match="No space left on device"):
        loop.attach_all(fake_host.runner, [file, other], there={}, sysfs=fake_host.sysfs)
    assert fake_host.loops() == {}


def test_a_loop_that_the_kernel_keeps_is_busy(fake_host: FakeHost, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "_DETACH_SECONDS", 0.1)
    made = loops.attach(fake_host.runner, file, sysfs=fake_host.sysfs)
    number = os.path.basename(made.path)[len("loop") :]
    with Kernel.of(str(fake_host.root)) as kernel:
        kernel.create("user", "FLYD-user", f"0 8 linear 7:{number} 0", read_only=False)
    with pytest.raises(Busy, match="is held by"):
        loops.detach(fake_host.runner, file, sysfs=fake_host.sysfs)


def test_a_missing_file_is_a_contradiction(tmp_path: Path) -> None:
    with pytest.raises(DamagedPool, match="is missing"):
        loop.check_backing_file(str(tmp_path / "nonesuch"))


def test_a_link_is_refused_although_it_leads_to_a_good_file(file: str) -> None:
    os.symlink(file, file + ".link")
    with pytest.raises(BadInput, match="a symbolic link"):
        loop.check_backing_file(file + ".link")


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no regular file"):
        loop.check_backing_file(str(tmp_path))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_file_that_others_may_open_is_refused(file: str, mode: int) -> None:
    os.chmod(file, mode)
    with pytest.raises(BadInput, match="others could change"):
        loop.check_backing_file(file)


@needs_loops
def test_a_file_of_another_owner_is_refused(file: str) -> None:
    os.chown(file, 1, 1)
    with pytest.raises(BadInput, match="belongs to uid 1"):
        loop.check_backing_file(file)


@pytest.mark.parametrize("size", [SIZE - 512, SIZE + 512])
def test_a_file_of_another_size_is_refused(file: str, size: int) -> None:
    os.truncate(file, size)
    with pytest.raises(DamagedPool, match=f"has {exact_size_text(size)}, {exact_size_text(SIZE)} are expected"):
        loop.check_backing_file(file, SIZE)


@needs_loops
def test_a_backing_file_in_a_directory_that_others_may_write_to_is_refused(tmp_path: Path, file: str) -> None:
    Path(file).chmod(0o600)
    loop.check_backing_file(file)
    Path(file).parent.chmod(0o777)
    with pytest.raises(BadInput, match="could exchange"):
        loop.check_backing_file(file)


def test_real_a_loop_is_found_again_by_what_is_behind_it(real_file: str) -> None:
    runner = Runner()
    made = loops.attach(runner, real_file, expected_bytes=SIZE)
    os.rename(real_file, real_file + ".moved")
    backing_file(Path(real_file))
    assert loops.find(runner, real_file) is None, "another file has the name now"
    assert loops.find(runner, real_file + ".moved") == made
    assert loops.attach(runner, real_file + ".moved") == made
    assert loops.detach(runner, real_file + ".moved") is True
    assert loops.detach(runner, real_file + ".moved") is False


@needs_loops
def test_real_two_loops_and_a_partial_one_are_refused(real_file: str) -> None:
    for options in ([], ["--offset", "4096"]):
        subprocess.run(["losetup", "--find", *options, real_file], check=True)
        if options:
            with pytest.raises(ForeignDevice, match="more than one loop device, or one that shows a part"):
                loops.find(Runner(), real_file)


@needs_loops
def test_real_a_loop_that_is_held_is_busy_and_its_holder_is_named(
    real_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_DETACH_SECONDS", 0.2)
    made = loops.attach(Runner(), real_file)
    with open(made, "rb"), pytest.raises(Busy, match=f"process {os.getpid()} "):
        loops.detach(Runner(), real_file)

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The child that reads an image: its limits of the kernel, and how it ends."""

from __future__ import annotations

import contextlib
import os
import resource
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from module_utils._errors import BadInput, CommandFailed, FlydError, Unsupported, Untrusted
from module_utils._host.processes.conversation import Conversation
from module_utils._image import opening
from module_utils._image.limits import Limits
from module_utils._image.opening import open_family
from module_utils._image.pipeline import reader, unpacking
from module_utils._image.writing.writer import Writer
from tests.fuzz.slow_recipes import RECIPES, packed
from tests.unit._image.unpacked import needs_root, options
from tests.unit.builders import tar

pytestmark = pytest.mark.slow

LAYER = tar.tar(tar.file(b"f", b"x"))
SMALL = Limits(entries=1000, metadata_bytes=1 << 20, document_bytes=1 << 16, decompressed_bytes=1 << 26)


def unpacked(directory: Path, *layers: bytes, limits: Limits) -> None:
    """Unpack a family of ``layers``."""
    (directory / "root").mkdir()
    fds = []
    for at, layer in enumerate(layers):
        (directory / f"{at}").write_bytes(layer)
        fds.append(os.open(directory / f"{at}", os.O_RDONLY))
    root_fd = os.open(directory / "root", os.O_RDONLY)
    try:
        with open_family(fds, options(directory, limits=limits)) as image:
            image.write_into(root_fd)
    finally:
        for fd in (*fds, root_fd):
            os.close(fd)


def error(directory: Path, *layers: bytes, limits: Limits) -> FlydError:
    """The error with which it ends; no child of this process is left."""
    before = children()
    with pytest.raises(FlydError) as caught:
        unpacked(directory, *layers, limits=limits)
    assert children() == before
    return caught.value


def children() -> str:
    """The pids of this process's children, those that have ended and were not reaped too."""
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text()


def spin(*_given: object) -> NoReturn:
    """Never ask a deadline."""
    while True:
        pass


@pytest.mark.parametrize("hang", [spin, lambda *_given: time.sleep(3600)], ids=["computing", "waiting"])
def test_a_reader_that_asks_no_deadline_is_killed_when_its_time_is_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hang: Callable[..., Any]
) -> None:
    monkeypatch.setattr(unpacking, "make_plan", hang)
    begun = time.monotonic()
    caught = error(tmp_path, LAYER, limits=SMALL._replace(seconds=1))
    assert isinstance(caught, Untrusted)
    assert caught.details["limit"] == "seconds"
    assert time.monotonic() - begun < 30  # it would have taken an hour


@needs_root
def test_a_writer_that_asks_no_deadline_is_killed_when_its_time_is_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Writer, "write_leaves", spin)
    caught = error(tmp_path, LAYER, limits=SMALL._replace(seconds=2))
    assert caught.details["limit"] == "seconds"
    assert "writing the tree" in str(caught)


def test_the_kernel_ends_a_reader_whose_parent_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "make_plan", spin)
    monkeypatch.setattr(opening, "_GRACE", 1000)
    monkeypatch.setattr(reader, "cpu_seconds", lambda _limits: 1)
    caught = error(tmp_path, LAYER, limits=SMALL._replace(seconds=1))
    assert caught.details["limit"] == "seconds"


def test_memory_beyond_what_the_limits_allow_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "make_plan", lambda *_given: bytearray(2 * reader.memory_bytes(SMALL)))
    caught = error(tmp_path, LAYER, limits=SMALL)
    assert isinstance(caught, Untrusted)
    assert caught.details["limit"] == "memory_bytes"
    assert "entries" in caught.hint


def test_a_lower_limit_of_the_host_is_not_the_images_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def little(*given: Any) -> Any:
        resource.setrlimit(resource.RLIMIT_DATA, (64 << 20, resource.RLIM_INFINITY))
        return limit(*given)

    limit = reader._limit
    monkeypatch.setattr(reader, "_limit", little)
    monkeypatch.setattr(unpacking, "make_plan", lambda *_given: bytearray(1 << 28))
    assert isinstance(error(tmp_path, LAYER, limits=SMALL), Unsupported)


def test_the_limits_of_the_kernel_follow_from_those_of_the_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(*_given: object) -> NoReturn:
        kinds = (resource.RLIMIT_DATA, resource.RLIMIT_CPU, resource.RLIMIT_FSIZE, resource.RLIMIT_CORE)
        limited = BadInput("", hint="")
        limited.details.update({str(kind): resource.getrlimit(kind)[1] for kind in kinds})
        raise limited

    monkeypatch.setattr(unpacking, "make_plan", told)
    for name in ("small", "large"):
        (tmp_path / name).mkdir()
    limits = SMALL._replace(seconds=7)
    small = error(tmp_path / "small", LAYER, limits=limits).details
    large = error(tmp_path / "large", LAYER, limits=limits._replace(entries=10**6 + 1000)).details
    data = str(resource.RLIMIT_DATA)
    assert int(large[data]) - int(small[data]) == pytest.approx(900 * 10**6, rel=0.05)
    assert 7 <= int(small[str(resource.RLIMIT_CPU)]) <= 7 * len(os.sched_getaffinity(0)) + 10
    assert small[str(resource.RLIMIT_FSIZE)] == SMALL.decompressed_bytes
    assert small[str(resource.RLIMIT_CORE)] == 0


def test_as_many_layers_as_are_allowed_are_decompressed(tmp_path: Path) -> None:
    layers = [packed(tar.file(b"%d" % at)) for at in range(300)]  # 600 files are open
    unpacked(tmp_path, *layers, limits=SMALL._replace(layers=300))
    assert len(list((tmp_path / "root").iterdir())) == 300


def test_a_reader_that_is_killed_is_no_fault_of_the_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def kill_the_reader(_conversation: Conversation, _timeout_seconds: float) -> None:
        _conversation.stop()

    monkeypatch.setattr(unpacking, "make_plan", lambda *_given: time.sleep(3600))
    monkeypatch.setattr(Conversation, "hear", kill_the_reader)
    assert isinstance(error(tmp_path, LAYER, limits=SMALL), CommandFailed)


@pytest.mark.parametrize(
    "report",
    [
        None,
        [],
        {"plan": {}},
        {"plan": {"volume_blocks": "x", "inodes": 1}, "config": {}, "seconds": {}},
        {"seconds": 1},
    ],
)
def test_a_report_that_is_none_is_no_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, report: object) -> None:
    monkeypatch.setattr(reader, "_report", lambda _unpacking: report)
    assert isinstance(error(tmp_path, LAYER, limits=SMALL), CommandFailed)


def test_the_reader_holds_no_descriptor_but_what_it_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def told(*_given: object) -> NoReturn:
        held = []
        for fd in range(3, 256):
            with contextlib.suppress(OSError):
                held.append(f"{stat.S_IFMT(os.fstat(fd).st_mode):o}-{os.fstat(fd).st_ino}")
        raise BadInput("", hint="", held=" ".join(held))

    monkeypatch.setattr(unpacking, "make_plan", told)
    with open(tmp_path / "secret", "wb") as secret:
        held = str(error(tmp_path, LAYER, limits=SMALL).details["held"]).split()
        assert f"100000-{os.fstat(secret.fileno()).st_ino}" not in held
    # The layer and the reader's own size in /proc; the socket to the module; the pipe of the answer. No directory.
    assert sorted(name.partition("-")[0] for name in held) == ["10000", "100000", "100000", "140000"]


@pytest.mark.parametrize(
    "name",
    [
        "hard links through links that lead nowhere",
        "files below five links of 4,000 bytes",
        "global headers without a member",
    ],
)
def test_an_archive_that_would_take_a_minute_ends_within_its_seconds(tmp_path: Path, name: str) -> None:
    (recipe,) = (one for one in RECIPES if one.name == name)
    begun = time.monotonic()
    caught = error(tmp_path, *recipe.make(recipe.count), limits=Limits(seconds=1))
    assert (caught.details["limit"], "reading" in str(caught)) == ("seconds", True)
    assert time.monotonic() - begun < 30  # of a machine that does other things too

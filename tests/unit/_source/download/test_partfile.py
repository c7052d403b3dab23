"""A download before it has its name: what its state file claims, and what of that is believed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from module_utils._errors import Busy, FlydError, NoSpace, Transient, Unsupported, Untrusted
from module_utils._host.files import durable as files
from module_utils._source.download import partfile
from module_utils._source.download.partfile import Received, discard, load, open_part, publish
from module_utils._source.s3.bucket import ObjectChanged, ObjectInfo

INFO = ObjectInfo("archive.tar", 1000, '"etag"')
GOOD = Received(100, "ab" * 32, ((0, 100), (300, 400)))


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return tmp_path / "one.part"


@pytest.fixture
def saved(part: Path) -> Path:
    """A part file that an earlier run left, with its state."""
    with open_part(str(part), INFO, resume=True) as opened:
        opened.write_at(b"x" * 400, 0)
        opened.save(GOOD)
    return part


def state(part: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(part.with_suffix(".part.state").read_text())
    return found


def test_a_part_file_is_ours_alone_and_has_its_space_reserved(part: Path) -> None:
    with open_part(str(part), INFO, resume=True) as opened:
        found = os.fstat(opened.fd)
        assert found.st_mode & 0o7777 == 0o600
        assert found.st_size == 1000
        assert found.st_blocks * 512 >= 1000
        assert not os.get_inheritable(opened.fd)


def test_what_was_saved_is_believed_in_the_same_boot(saved: Path) -> None:
    assert load(str(saved), INFO) == GOOD
    with open_part(str(saved), INFO, resume=True) as opened:
        assert opened.received == GOOD
        assert os.pread(opened.fd, 5, 0) == b"xxxxx"


def test_after_another_boot_only_what_was_hashed_is_believed(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partfile, "boot_id", lambda: "another")
    assert load(str(saved), INFO) == Received(100, "ab" * 32)


@pytest.mark.parametrize(
    "other",
    [INFO._replace(key="b"), INFO._replace(etag='"b"'), INFO._replace(version_id="2"), INFO._replace(size_bytes=999)],
    ids=["key", "etag", "version", "size"],
)
def test_what_was_received_of_another_object_is_not_used(saved: Path, other: ObjectInfo) -> None:
    assert load(str(saved), other) == Received()
    with open_part(str(saved), other, resume=True) as opened:
        assert opened.received == Received()
        assert os.pread(opened.fd, 5, 0) == bytes(5)
    assert os.listdir(saved.parent) == ["one.part"]


@pytest.mark.parametrize(
    "change",
    [
        {"format": 1},
        {"hashed_bytes": -1},
        {"hashed_bytes": 1001},
        {"hashed_bytes": "many"},
        {"spans": [[0, 5000]]},
        {"spans": [[0]]},
        {"spans": None},
        {"object": None},
    ],
    ids=str,
)
def test_a_state_that_cannot_be_right_is_not_believed(saved: Path, change: dict[str, Any]) -> None:
    saved.with_suffix(".part.state").write_text(json.dumps({**state(saved), **change}))
    assert load(str(saved), INFO) == Received()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format": 1}'])
def test_a_state_that_is_no_state_is_not_believed(saved: Path, text: str) -> None:
    saved.with_suffix(".part.state").write_text(text)
    assert load(str(saved), INFO) == Received()


def test_a_part_of_another_length_is_not_believed(saved: Path) -> None:
    os.truncate(saved, 500)
    assert load(str(saved), INFO) == Received()


def test_the_progress_can_be_watched(saved: Path) -> None:
    assert (state(saved)["received_bytes"], state(saved)["total_bytes"]) == (200, 1000)


def test_a_run_that_does_not_resume_begins_with_an_empty_file(saved: Path) -> None:
    with open_part(str(saved), INFO, resume=False) as opened:
        assert os.pread(opened.fd, 5, 0) == bytes(5)
    assert os.listdir(saved.parent) == ["one.part"]


def test_a_symbolic_link_is_not_followed(part: Path, tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"precious")
    part.symlink_to(tmp_path / "target")
    with pytest.raises(FlydError), open_part(str(part), INFO, resume=True):
        pass
    assert (tmp_path / "target").read_bytes() == b"precious"


def test_a_fifo_is_refused(part: Path) -> None:
    os.mkfifo(part)
    with pytest.raises(Unsupported, match="not a regular file"), open_part(str(part), INFO, resume=True):
        pass


def test_a_part_that_another_holds_open_is_busy_and_stays_its_own(part: Path) -> None:
    with open_part(str(part), INFO, resume=True):
        with pytest.raises(Busy), open_part(str(part), INFO, resume=True):
            pass
        assert part.exists()


@pytest.mark.parametrize(
    "error", [Untrusted("wrong", hint=""), ObjectChanged("replaced", hint="")], ids=["for good", "replaced"]
)
def test_an_error_that_no_run_can_go_on_from_leaves_nothing(saved: Path, error: FlydError) -> None:
    with pytest.raises(type(error)), open_part(str(saved), INFO, resume=True):
        raise error
    assert os.listdir(saved.parent) == []


def test_an_error_that_passes_leaves_what_was_received(saved: Path) -> None:
    with pytest.raises(Transient), open_part(str(saved), INFO, resume=True):
        raise Transient("busy", hint="")
    assert load(str(saved), INFO) == GOOD


def test_an_error_that_passes_leaves_no_file_of_which_nothing_was_received(part: Path) -> None:
    with pytest.raises(Transient), open_part(str(part), INFO, resume=True):
        raise Transient("busy", hint="")
    assert os.listdir(part.parent) == []


def test_an_object_that_does_not_fit_is_reported_before_anything_is_written(part: Path) -> None:
    huge = INFO._replace(size_bytes=1 << 60)
    with pytest.raises(NoSpace) as caught, open_part(str(part), huge, resume=True):
        pass
    assert caught.value.details["needed_bytes"] == 1 << 60
    assert os.listdir(part.parent) == []


def test_what_an_earlier_run_has_reserved_is_not_asked_for_again(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "free_bytes", lambda path: 0)
    with open_part(str(saved), INFO, resume=True) as opened:
        assert opened.received == GOOD


def test_publishing_leaves_the_final_name_alone(saved: Path, tmp_path: Path) -> None:
    publish(str(saved), str(tmp_path / "final"))
    assert os.listdir(tmp_path) == ["final"]


def test_discarding_leaves_nothing_and_may_be_done_twice(saved: Path) -> None:
    saved.with_suffix(".part.state.new").write_text("half")
    discard(str(saved))
    discard(str(saved))
    assert os.listdir(saved.parent) == []


def test_a_state_that_cannot_be_written_does_not_stop_the_download(saved: Path) -> None:
    saved.with_suffix(".part.state.new").mkdir()
    with open_part(str(saved), INFO, resume=True) as opened:
        opened.save(Received(200, "cd" * 32))
    assert load(str(saved), INFO) == GOOD, "the older state is as good"

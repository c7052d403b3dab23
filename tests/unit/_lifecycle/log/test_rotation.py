# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The log rotates without help, with several writers at once and after a kill at any point, and every line is counted once."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from module_utils._lifecycle.log import counters
from module_utils._lifecycle.log import rotation as log_file
from module_utils._lifecycle.log.counters import read
from module_utils._lifecycle.log.log import Log
from module_utils._lifecycle.log.rotation import LogDirectory, opened
from module_utils._names import Ulid
from tests.unit._lifecycle.disk import at_once, in_process, kill_myself

RUN = Ulid("01J9Z3M4N5P6Q7R8S9T0V1W2X3")
LIMIT = 2000


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A log that is rotated soon."""
    monkeypatch.setattr(log_file, "MAX_BYTES", LIMIT)
    path = tmp_path / "log"
    path.mkdir(mode=0o700)
    return path


def log(directory: Path) -> Log:
    return Log(str(directory / "flyd.jsonl"), RUN)


def settle(directory: Path, *marks: object) -> None:
    """Write a line of 100 bytes or so, which counts, for each mark."""
    for mark in marks:
        log(directory).write("settled", mark=str(mark))


def files(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("flyd*.jsonl"))


def marks(directory: Path) -> list[str]:
    """Of all lines that are whole, oldest file first."""
    return list(_marks(directory))


def _marks(directory: Path) -> Iterator[str]:
    for name in files(directory):
        for text in (directory / name).read_bytes().splitlines():
            try:
                yield json.loads(text)["mark"]
            except ValueError:
                continue


def counted(directory: Path) -> dict[Any, float]:
    with opened(str(directory), writable=False) as place:
        found = read(place)
    assert found is not None
    return found.counts


def test_a_log_that_is_large_gets_a_number_and_the_next_line_a_new_file(directory: Path) -> None:
    settle(directory, *range(50))
    assert files(directory)[:2] == ["flyd-000001.jsonl", "flyd-000002.jsonl"]
    assert marks(directory) == [str(number) for number in range(50)]
    assert {oct(path.stat().st_mode & 0o777) for path in directory.glob("*")} == {"0o600"}
    assert all((directory / name).stat().st_size < LIMIT + 200 for name in files(directory))


def test_the_oldest_files_are_removed_and_stay_counted(directory: Path) -> None:
    settle(directory, *range(300))
    kept = files(directory)
    assert len([name for name in kept if name != "flyd.jsonl"]) == log_file.KEPT
    assert marks(directory) == [str(number) for number in range(300)][-len(marks(directory)) :]
    assert counted(directory) == {("settled",): 300}


def test_a_log_whose_first_line_is_old_is_rotated(directory: Path) -> None:
    old = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - (log_file.MAX_AGE_DAYS + 2) * 86400))
    (directory / "flyd.jsonl").write_text(f'{{"time": "{old}", "event": "settled", "mark": "old"}}\n')
    settle(directory, "first")
    settle(directory, "second")
    assert files(directory) == ["flyd-000001.jsonl", "flyd.jsonl"]
    assert marks(directory) == ["old", "first", "second"]
    assert counted(directory) == {("settled",): 3}


@pytest.mark.parametrize("begin", [b"\xff\n", b'{"time": "9999-99-99T', b'{"time": "2999-01-01T00:00:00Z"}\n'])
def test_a_first_line_without_a_usable_time_does_not_matter(directory: Path, begin: bytes) -> None:
    (directory / "flyd.jsonl").write_bytes(begin)
    settle(directory, 1)
    assert (files(directory), counted(directory)) == (["flyd.jsonl"], {("settled",): 1})


@pytest.mark.parametrize("has_turn", [True, False])
def test_no_line_is_lost_while_several_processes_write_and_rotate(
    directory: Path, monkeypatch: pytest.MonkeyPatch, has_turn: bool
) -> None:
    monkeypatch.setattr(log_file, "KEPT", 1000)

    def write(name: int) -> Callable[[], None]:
        def work() -> None:
            if name == 0 and not has_turn:  # one that never gets its turn, as behind a stopped process
                log_file._TURN_SECONDS = -1
                monkeypatch.setattr(fcntl, "flock", refuse)
            settle(directory, *(f"{name}.{number}" for number in range(60)))

        return work

    def refuse(_fd: int, kind: int) -> None:
        if kind != fcntl.LOCK_UN:
            raise BlockingIOError

    assert at_once(*(write(name) for name in range(4))) == [0] * 4
    assert Counter(marks(directory)) == Counter(f"{name}.{number}" for name in range(4) for number in range(60))
    assert len(files(directory)) > 5
    total = counted(directory)[("settled",)]
    assert total == 240 if has_turn else 180 <= total <= 240


def test_a_process_that_was_stopped_in_its_turn_does_not_keep_others_from_writing(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_file, "_TURN_SECONDS", 0.05)
    settle(directory, 1)
    with opened(str(directory), writable=True):
        settle(directory, 2)
        assert marks(directory) == ["1", "2"]
    assert counted(directory) == {("settled",): 2}
    settle(directory, 3)
    assert counted(directory) == {("settled",): 3}


def test_a_kill_before_any_call_of_the_kernel_loses_no_line_and_no_count(directory: Path) -> None:
    """The 20th line rotates. It is killed at its first call, at its second …, until it comes to its end."""
    settle(directory, *range(18))
    assert files(directory) == ["flyd.jsonl"]
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    for calls in range(1, 100):
        for path in directory.iterdir():
            path.unlink()
        for name, data in before.items():
            (directory / name).write_bytes(data)
            (directory / name).chmod(0o600)
        status = in_process(lambda calls=calls: killed_at_call(directory, calls))  # type: ignore[misc]
        found = marks(directory)
        assert found in ([str(number) for number in range(18)], [*map(str, range(18)), "x" * 200])
        assert counted(directory) == {("settled",): len(found)}, calls
        settle(directory, "after")
        assert counted(directory) == {("settled",): len(found) + 1}, calls
        assert marks(directory) == [*found, "after"]
        if status == 0:
            break
        assert status == signal.SIGKILL
    assert calls > 15
    assert files(directory) == ["flyd-000001.jsonl", "flyd.jsonl"]


def killed_at_call(directory: Path, calls: int) -> None:
    left = calls

    def counting(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **given: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                kill_myself()
            return real(*args, **given)

        return call

    for name in ("open", "write", "rename", "unlink", "stat", "pread", "listdir", "fdopen", "close"):
        setattr(os, name, counting(getattr(os, name)))
    settle(directory, "x" * 200)


def test_a_line_that_was_cut_short_does_not_spoil_the_next(directory: Path) -> None:
    settle(directory, 1)
    with (directory / "flyd.jsonl").open("ab") as file:
        file.write(b'{"time": "2026-01-31T23:59:59Z", "event": "settl')
    assert counted(directory) == {("settled",): 1}
    settle(directory, 2)
    assert (marks(directory), counted(directory)) == (["1", "2"], {("settled",): 2})


@pytest.mark.parametrize("name", ["flyd.jsonl", "counters.json", "counters.json.new", "flyd-000001.jsonl"])
@pytest.mark.parametrize("what", ["link", "fifo", "directory"])
def test_what_is_no_file_is_not_followed_and_stops_nothing(
    directory: Path, tmp_path: Path, name: str, what: str
) -> None:
    victim = tmp_path / "victim"
    victim.write_text('{"number": 1, "offset": 0, "counts": [["settled", 99]]}')
    make: dict[str, Callable[[Path], None]] = {
        "link": lambda path: path.symlink_to(victim),
        "fifo": lambda path: os.mkfifo(path),
        "directory": lambda path: path.mkdir(),
    }
    make[what](directory / name)
    before = victim.read_bytes()
    settle(directory, *range(40))
    assert victim.read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["log", "victim"]
    with opened(str(directory), writable=False) as place:
        found = read(place)
    assert found is None or found.counts.get(("settled",), 0) <= 40


def test_an_external_rotation_counts_nothing_twice(directory: Path) -> None:
    settle(directory, 1, 2, 3)
    (directory / "flyd.jsonl").rename(directory / "flyd.jsonl.1")
    assert counted(directory) == {("settled",): 3}
    settle(directory, 4)
    assert counted(directory) == {("settled",): 4}


def test_lines_that_a_power_cut_took_are_not_counted_again(directory: Path) -> None:
    settle(directory, 1, 2, 3)
    log_path = directory / "flyd.jsonl"
    os.truncate(log_path, log_path.stat().st_size // 2)
    assert counted(directory) == {("settled",): 3}
    settle(directory, 4, 5)
    assert counted(directory) == {("settled",): 5}


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"number": 0, "offset": 0, "counts": []}', "\x00" * 100])
def test_counters_that_were_lost_begin_again_at_the_end_of_the_log(directory: Path, text: str) -> None:
    settle(directory, 1, 2, 3)
    (directory / "counters.json").write_text(text)
    assert counted(directory) == {}
    settle(directory, 4)
    assert counted(directory) == {("settled",): 1}


def test_lines_with_numbers_that_are_none_count_nothing(directory: Path) -> None:
    lines = ['{"event": "end", "seconds": 1e400}', '{"event": "end", "seconds": "x"}', "[" * 100000]
    lines += ['{"event": "end", "seconds": 1' + "0" * 400 + "}", '{"event": "end", "seconds": NaN}', "7", "\xff"]
    (directory / "flyd.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="latin-1")
    settle(directory, 1)
    found = counted(directory)
    assert found[("settled",)] == 1
    assert json.loads((directory / "counters.json").read_text())["counts"]
    assert all(abs(value) < 1000 for value in found.values())


def old_log(directory: Path, count: int) -> None:
    """As a version without counters has left it."""
    line = json.dumps({"time": "2026-01-31T23:59:59Z", "event": "end", "transition": "fetch", "outcome": "ok"}) + "\n"
    (directory / "flyd.jsonl").write_text(line * count)


FETCHES = ("transitions", "fetch", "ok", "")


def test_the_log_of_an_older_version_is_counted_once_by_the_next_line(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counters, "_MAX_TAIL_BYTES", LIMIT)
    old_log(directory, 10)
    assert counted(directory)[FETCHES] == 10
    old_log(directory, 1000)
    with opened(str(directory), writable=False) as place:
        assert read(place) is None
    settle(directory, 1)
    assert counted(directory) == {FETCHES: 1000, ("seconds", "fetch"): 0, ("settled",): 1}
    assert files(directory) == ["flyd-000001.jsonl"]


def test_a_log_of_an_older_version_that_is_too_long_is_not_counted(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counters, "_MAX_IMPORT_BYTES", LIMIT)
    old_log(directory, 1000)
    settle(directory, 1, 2)
    assert counted(directory) == {("settled",): 1}


def test_counters_that_cannot_be_saved_cost_neither_a_line_nor_a_count(directory: Path) -> None:
    settle(directory, 0)
    (directory / "counters.json.new").mkdir()
    settle(directory, *range(1, 50))
    assert marks(directory) == [str(number) for number in range(50)]
    assert counted(directory) == {("settled",): 50}
    (directory / "counters.json.new").rmdir()
    settle(directory, 50)
    assert '["settled", 51.0]' in (directory / "counters.json").read_text()


def test_what_is_read_for_the_metrics_does_not_grow_with_the_log(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_file, "MAX_BYTES", 1 << 20)
    amounts: list[int] = []
    real = LogDirectory.read

    def counting(self: LogDirectory, name: str, start: int, end: int) -> bytes:
        data = real(self, name, start, end)
        amounts[-1] += len(data)
        return data

    for count in (1, 500):
        settle(directory, *range(count))
        log(directory).write("begin")  # a line that counts nothing, which is not saved
        amounts.append(0)
        with monkeypatch.context() as patch:
            patch.setattr(LogDirectory, "read", counting)
            assert counted(directory)
    assert (directory / "flyd.jsonl").stat().st_size > 100 * max(amounts)
    assert abs(amounts[0] - amounts[1]) < 20

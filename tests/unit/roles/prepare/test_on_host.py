"""The program that a host runs by itself: packed the same every time, and complete."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from module_utils._lifecycle.store.records import PoolRecord
from module_utils._lifecycle.store.store import open_store

NOBODY = 65534
ROOT = Path(__file__).parents[4]


def packed(path: Path) -> Path:
    pack = ROOT / "roles/prepare/files/pack.py"
    with path.open("wb") as file:
        subprocess.run([sys.executable, pack, ROOT / "plugins/module_utils"], check=True, stdout=file)
    return path


def run(program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-I", program, *arguments], capture_output=True, text=True, check=False)


def test_the_same_sources_make_the_same_bytes(tmp_path: Path) -> None:
    assert packed(tmp_path / "one").read_bytes() == packed(tmp_path / "two").read_bytes()


def test_on_a_host_where_nothing_was_made_nothing_is_done(tmp_path: Path) -> None:
    program, state_dir = packed(tmp_path / "program.py"), tmp_path / "state"
    assert run(program, "restore", str(state_dir)).returncode == 0
    assert not state_dir.exists()


@pytest.mark.parametrize("by", ["SIGTERM", "another release"])
def test_the_service_that_lets_pools_grow_needs_no_package_and_ends(tmp_path: Path, by: str) -> None:
    program, state_dir = packed(tmp_path / "program.py"), tmp_path / "state"
    child = subprocess.Popen([sys.executable, "-I", "-S", program, "grow", str(state_dir)], stderr=subprocess.PIPE)
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(2)
        if by == "another release":
            packed(tmp_path / "new.py").rename(program)
        child.send_signal(signal.SIGTERM if by == "SIGTERM" else 0)
        assert child.wait(45) == 0
        assert child.communicate()[1] == b""
    finally:
        child.kill()
        child.wait()
    assert not state_dir.exists()


def test_numbers_are_written_whole(tmp_path: Path) -> None:
    program, state_dir, target = packed(tmp_path / "program.py"), tmp_path / "state", tmp_path / "flyd.prom"
    done = run(program, "metrics", str(state_dir), str(target))
    assert (done.returncode, done.stderr) == (0, "")
    assert 'flyd_snapshots{mapped="true"} 0' in target.read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["flyd.prom", "program.py"]


def test_numbers_that_cannot_be_written_leave_nothing_behind(tmp_path: Path) -> None:
    program, state_dir, target = packed(tmp_path / "program.py"), tmp_path / "state", tmp_path / "flyd.prom"
    target.mkdir()
    done = run(program, "metrics", str(state_dir), str(target))
    assert (done.returncode, "flyd.prom" in done.stderr) == (1, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["flyd.prom", "program.py"]


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a directory to another user")
def test_the_owner_of_the_textfile_directory_gains_nothing_by_links_for_all_names_to_come(tmp_path: Path) -> None:
    program, state_dir, textfile = packed(tmp_path / "program.py"), tmp_path / "state", tmp_path / "textfile"
    shadow = tmp_path / "shadow"
    shadow.write_text("root:secret")
    shadow.chmod(0o600)
    textfile.mkdir()
    pid = os.getpid()
    for name in ("flyd.prom", ".flyd.prom.new", *(f"flyd.prom.{number}" for number in range(pid, pid + 3000))):
        (textfile / name).symlink_to(shadow)
        os.chown(textfile / name, NOBODY, NOBODY, follow_symlinks=False)
    os.chown(textfile, NOBODY, NOBODY)
    before = shadow.stat()
    done = run(program, "metrics", str(state_dir), str(textfile / "flyd.prom"))
    assert (done.returncode, done.stderr) == (0, "")
    after = shadow.stat()
    assert (shadow.read_text(), after.st_mode, after.st_ctime_ns) == ("root:secret", before.st_mode, before.st_ctime_ns)
    assert (textfile / "flyd.prom").lstat().st_uid == NOBODY
    assert "flyd_snapshots" in (textfile / "flyd.prom").read_text()


def test_numbers_that_are_wanted_no_more_are_withdrawn_once(tmp_path: Path) -> None:
    program, target = packed(tmp_path / "program.py"), tmp_path / "flyd.prom"
    target.write_text("1")
    done = [run(program, "withdraw", str(tmp_path / "state"), str(target)) for _ in range(2)]
    assert [(one.returncode, one.stdout, one.stderr) for one in done] == [(0, "removed\n", ""), (0, "", "")]
    assert not target.exists()


def test_an_unreadable_database_is_reported(tmp_path: Path) -> None:
    program, state_dir = packed(tmp_path / "program.py"), tmp_path / "state"
    state_dir.mkdir(mode=0o700)
    (state_dir / "flyd.db").write_bytes(b"no database" * 1000)
    done = run(program, "restore", str(state_dir))
    assert done.returncode == 1
    assert done.stderr.startswith("corrupt_store: ")
    assert "is damaged" in done.stderr.splitlines()[0]


def test_an_internal_error_is_one_line_and_its_traceback_is_in_the_log(tmp_path: Path) -> None:
    program, state_dir = packed(tmp_path / "program.py"), tmp_path / "state"
    store = open_store(str(state_dir / "flyd.db"), writable=True, busy_seconds=1)
    with store.transaction():
        # No path has a zero byte in it, so what looks at this device fails as nothing expects it to.
        store.put(PoolRecord("1", "pool", "/dev/\0", "/dev/m", False, 8192, 1 << 20, 128, 0, True, 10, 1, True))
    store.close()
    done = run(program, "restore", str(state_dir))
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    log = state_dir / "log" / "flyd.jsonl"
    assert line.startswith("internal: while bringing back the pool 'pool': a fault in flyd.lite itself: ValueError: ")
    assert f"; please report it with the last lines of {log}" in line
    events = {one["event"]: one for one in map(json.loads, log.read_text().splitlines())}
    assert "Traceback (most recent call last)" in events["internal_error"]["traceback"]
    assert "require_same_disk" in events["internal_error"]["traceback"]
    assert events["failed"]["error_kind"] == "internal"


def test_every_module_that_is_packed_can_be_imported(tmp_path: Path) -> None:
    program = packed(tmp_path / "program.py")
    load = f"__file__ = {str(program)!r}; text = open(__file__).read(); exec(text[:text.rindex('exec(')])"
    code = (
        f"{load}; import importlib; names = ['module_utils.' + path[:-3].replace('/', '.') for path in SOURCES if path[0] == '_'];"
        " wanted = [name for name in names if name.startswith('module_utils._thin.')"
        " or name.endswith(('.restore', '.metrics', '.recover', '.watch', '.dump_all'))];"
        " [importlib.import_module(name) for name in wanted]; print(len(wanted))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], check=True, capture_output=True, text=True)
    assert int(done.stdout) > 15

"""The program that a host runs by itself: packed the same every time, and complete."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[3]


def packed(path: Path) -> Path:
    pack = ROOT / "roles/prepare/files/pack.py"
    subprocess.run([sys.executable, pack, ROOT / "plugins/module_utils", path], check=True)
    return path


def run(program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-I", program, *arguments], capture_output=True, text=True, check=False)


def test_the_same_sources_make_the_same_bytes(tmp_path: Path) -> None:
    assert packed(tmp_path / "one").read_bytes() == packed(tmp_path / "two").read_bytes()


def test_on_a_host_where_nothing_was_made_nothing_is_done(tmp_path: Path) -> None:
    program, state_dir = packed(tmp_path / "program.pyz"), tmp_path / "state"
    assert run(program, "restore", str(state_dir)).returncode == 0
    assert not state_dir.exists()


def test_numbers_are_written_whole(tmp_path: Path) -> None:
    program, state_dir, target = packed(tmp_path / "program.pyz"), tmp_path / "state", tmp_path / "flyd.prom"
    done = run(program, "metrics", str(state_dir), str(target))
    assert (done.returncode, done.stderr) == (0, "")
    assert 'flyd_snapshots{mapped="true"} 0' in target.read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["flyd.prom", "program.pyz"]


def test_numbers_that_cannot_be_written_leave_nothing_behind(tmp_path: Path) -> None:
    program, state_dir, target = packed(tmp_path / "program.pyz"), tmp_path / "state", tmp_path / "flyd.prom"
    target.mkdir()
    done = run(program, "metrics", str(state_dir), str(target))
    assert (done.returncode, "flyd.prom" in done.stderr) == (1, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["flyd.prom", "program.pyz"]


def test_a_store_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    program, state_dir = packed(tmp_path / "program.pyz"), tmp_path / "state"
    state_dir.mkdir(mode=0o700)
    (state_dir / "flyd.db").write_bytes(b"no database" * 1000)
    done = run(program, "restore", str(state_dir))
    assert done.returncode == 1
    assert "is damaged" in done.stderr


def test_every_module_that_is_packed_can_be_imported(tmp_path: Path) -> None:
    program = packed(tmp_path / "program.pyz")
    names = [
        name[: -len(".py")].replace("/", ".") for name in zipfile.ZipFile(program).namelist() if name.endswith(".py")
    ]
    wanted = [
        name
        for name in names
        if name.startswith("module_utils._thin.") or name.endswith((".restore", ".metrics", ".settle"))
    ]
    code = f"import sys, importlib; sys.path.insert(0, {str(program)!r}); [importlib.import_module(name) for name in {wanted!r}]"
    subprocess.run([sys.executable, "-I", "-c", code], check=True)

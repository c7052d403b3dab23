"""The cache has whole things only, and two commands take turns."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from disks import cache as lab_cache
from disks.cache import Cache, made_whole
from programs import LabError


def test_the_environment_chooses_the_directory() -> None:
    assert Cache.from_environment({"FLYD_LAB_CACHE": "/somewhere"}).root == Path("/somewhere")
    assert Cache.from_environment({}).root == Path.home() / ".cache" / "flyd-lab"


def test_what_is_made_appears_when_it_is_whole(tmp_path: Path) -> None:
    final = tmp_path / "thing"
    with made_whole(final) as part:
        part.write_text("half")
        assert not final.exists()
        part.write_text("whole")
    assert final.read_text() == "whole"
    assert [path.name for path in tmp_path.iterdir()] == ["thing"]


def test_a_failed_build_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileExistsError):
        _make_twice(tmp_path / "thing")
    assert not list(tmp_path.iterdir())


def _make_twice(final: Path) -> None:
    with made_whole(final) as part:
        part.mkdir()
        part.mkdir()


def test_the_rest_of_a_killed_build_is_no_part_of_the_next(tmp_path: Path) -> None:
    (tmp_path / "thing.part").mkdir()
    (tmp_path / "thing.part" / "old").touch()
    with made_whole(tmp_path / "thing") as part:
        part.mkdir()
    assert not list((tmp_path / "thing").iterdir())


def test_a_tree_with_a_mount_in_it_is_refused() -> None:
    # Only the check is called: were it broken, removing a real tree of mounts would take the host along.
    with pytest.raises(LabError, match=r"/proc is a mount .* unmount it"):
        lab_cache.refuse_mounts_below(Path("/"))


def test_a_lock_is_waited_for_and_names_itself_when_it_is_not_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lab_cache, "LOCK_TIMEOUT_SECONDS", 0.2)
    cache = Cache(tmp_path)
    start = time.monotonic()
    with cache.lock("base"), pytest.raises(LabError, match=r"base\.lock"), cache.lock("base"):
        pass
    assert time.monotonic() - start >= 0.2


def test_a_killed_holder_does_not_keep_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab_cache, "LOCK_TIMEOUT_SECONDS", 5)
    cache = Cache(tmp_path)
    hold = "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True); input()"
    with cache.lock("base"):
        pass
    argv = [sys.executable, "-c", hold, str(tmp_path / "locks" / "base.lock")]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"held\n"
        holder.kill()
        with cache.lock("base"):
            pass

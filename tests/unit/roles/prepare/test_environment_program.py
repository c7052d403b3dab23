"""The program that makes a host's environment: whole or as it was, whatever fails and whenever it is killed."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.unit.roles.prepare.test_plan import plan
from tests.unit.roles.prepare.wheelhouse import PYTHON, SOURCES, Wheelhouse, wheel

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[4]
PROGRAM = ROOT / "roles/prepare/files/environment"
STAMP = "flyd-environment.json"
POINTS = int(os.environ.get("FLYD_PREPARE_KILLS", "0"))
at_length = pytest.mark.skipif(not POINTS, reason="each takes some seconds: make test-prepare")
VERSION = "import botocore.session, sys; sys.stdout.write(str(botocore.session.VERSION))"


class Place:
    """A home for environments, and what is sent to it."""

    def __init__(self, root: Path) -> None:
        self.home = root / "flyd"
        self.home.mkdir()
        self.house = Wheelhouse(root)
        self.seconds = 0.0  # what a build takes here

    def newer(self, source: str = "VERSION = 2\n") -> None:
        """Another botocore in the same file name, listed."""
        self.house.add("botocore", wheel("botocore", "botocore/session.py", source))
        self.house.write_lists()

    def plan(self) -> dict[str, Any]:
        found = plan(self.house.lists, self.house.optional, PYTHON, self.house.wheels)
        assert found["errors"] == []
        return found

    def begin(self, verb: str = "build", **differs: Any) -> subprocess.Popen[str]:
        """Start the program as the role does, in a process group of its own."""
        wanted = {**self.plan(), **differs}
        bundle = self.home / "incoming-0"
        if verb == "build":
            bundle.write_bytes(self.house.bundle([one["name"] for one in wanted["wheels"]]))
        sent = {name: (PROGRAM / f"{name}.py").read_text() for name in ("place", "packages", "make")}
        given = self.home.with_name("sent.json")
        given.write_text(json.dumps({**sent, "plan": wanted}))
        argv = [sys.executable, "-c", (PROGRAM / "load.py").read_text(), str(self.home), verb]
        argv += [str(bundle)] if verb == "build" else []
        with open(given) as stdin:
            return subprocess.Popen(
                argv, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
            )

    def run(self, verb: str = "build", **differs: Any) -> dict[str, Any]:
        """What the program answers, or what it says when it fails."""
        process = self.begin(verb, **differs)
        out, err = process.communicate(timeout=120)
        assert "Traceback" not in err, err
        return json.loads(out) if process.returncode == 0 else {"failed": err}

    def version(self) -> str:
        """What a module imports."""
        return subprocess.run(
            [self.home / "venv/bin/python", "-IBc", VERSION], capture_output=True, text=True, check=True
        ).stdout

    def names(self) -> list[str]:
        return sorted(path.name for path in self.home.iterdir())


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A place with an environment, to copy."""
    place = Place(tmp_path_factory.mktemp("made"))
    begun = time.monotonic()
    assert place.run() == {"changed": True, "without": [], "removed": []}
    place.seconds = time.monotonic() - begun
    return place


@pytest.fixture
def prepared(made: Place, place: Place) -> Place:
    """A place with an environment whose version is 1, and newer wheels."""
    shutil.rmtree(place.home)
    shutil.copytree(made.home, place.home, symlinks=True)
    place.newer()
    return place


def looked(place: Place) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, ROOT / "roles/prepare/files/look.py", place.home], capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_an_environment_is_made_with_exactly_what_is_listed(made: Place) -> None:
    [link, directory] = made.names()
    assert (link, os.readlink(made.home / "venv")) == ("venv", directory)
    assert made.version() == "1"
    assert looked(made) == {"python": PYTHON, "id": made.plan()["id"], "left": []}
    left = {path.name for path in (made.home / "venv").iterdir()}
    assert left >= {"bin", "lib", "flyd-environment.json", "flyd-requirements.txt"}
    assert not left & {"wheels", "cache"}


def test_a_directory_of_an_earlier_release_is_exchanged_for_the_link(prepared: Place) -> None:
    real = (prepared.home / "venv").resolve()
    (prepared.home / "venv").unlink()
    real.rename(prepared.home / "venv")
    assert prepared.run()["changed"] is True
    assert (prepared.version(), len(prepared.names())) == ("2", 2)


def test_an_environment_that_is_in_use_is_kept_until_a_later_run(prepared: Place) -> None:
    old = prepared.home / "venv-old.1"
    shutil.copytree(prepared.home / "venv", old, symlinks=True)
    with subprocess.Popen([old / "bin/python", "-c", "input()"], stdin=subprocess.PIPE, text=True) as user:
        time.sleep(0.2)
        assert prepared.run("clean") == {"changed": False, "without": [], "removed": []}
        user.communicate("\n")
    assert prepared.run("clean")["removed"] == [str(old)]
    assert (prepared.version(), len(prepared.names())) == ("1", 2)


def unchanged_by(place: Place, **differs: Any) -> str:
    """Run a build that fails and leaves all as it was; what it says."""
    before = looked(place), place.names()
    said = place.run(**differs)["failed"]
    assert (looked(place), place.names(), place.version()) == (*before, "1")
    return str(said)


def test_what_was_altered_on_its_way_is_refused(prepared: Place) -> None:
    wheels = prepared.plan()["wheels"]
    wheels[1]["sha256"] = "0" * 64
    assert "botocore-1.0-py3-none-any.whl is not what the controller sent" in unchanged_by(prepared, wheels=wheels)


def test_pip_refuses_what_is_not_listed(prepared: Place) -> None:
    """The last of three who look: the controller, the program, pip."""
    listed = prepared.plan()["requirements"]
    prepared.newer("VERSION = 3\n")
    said = unchanged_by(prepared, requirements=listed)
    assert "another file than the listed one" in said
    assert "botocore" in said


@at_length
def test_what_does_not_import_never_takes_its_place(prepared: Place) -> None:
    prepared.newer("import a_module_that_is_missing\n")
    assert "a_module_that_is_missing" in unchanged_by(prepared)


@at_length
def test_a_package_that_is_missing_is_named(prepared: Place) -> None:
    wheels = [one for one in prepared.plan()["wheels"] if not one["name"].startswith("boto3")]
    assert "no wheel of boto3==1.0 for this host" in unchanged_by(prepared, wheels=wheels)


def test_a_directory_that_cannot_be_exchanged_is_reported(prepared: Place) -> None:
    """A mount point can be renamed by no one; a file in its place stands for it here."""
    (prepared.home / "venv").unlink()
    (prepared.home / "venv").mkdir()
    os.chmod(prepared.home / "venv", 0o755)
    code = "import sys; sys.path.insert(0, sys.argv[1]); import place\n"
    code += (
        "try:\n place.exchange_names(sys.argv[2], '/proc/self')\nexcept place.Failed as failed:\n print(failed.args[1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, PROGRAM, prepared.home / "venv"], capture_output=True, text=True, check=True
    )
    assert "remove the directory /proc/self once" in done.stdout


@at_length
def test_an_optional_package_for_another_platform_is_done_without(prepared: Place) -> None:
    (prepared.house.wheels / "isal-1.0-py3-none-any.whl").unlink()
    tag = "cp27-cp27m-win32"
    prepared.house.add("isal", wheel("isal", *SOURCES["isal"], tag=tag), tag=tag)
    prepared.house.write_lists()
    assert prepared.run()["without"] == ["isal"]
    assert (prepared.version(), looked(prepared)["id"]) == ("2", prepared.plan()["id"])


@at_length
def test_a_run_that_is_killed_at_any_time_leaves_the_old_or_the_new(prepared: Place, made: Place) -> None:
    for part in range(POINTS):
        prepared.newer(f"VERSION = {part + 10}\n")
        before = prepared.version()
        with prepared.begin() as process:
            time.sleep(made.seconds * (2 * part + 1) / (2 * POINTS))
            os.killpg(process.pid, signal.SIGKILL)
        assert prepared.version() in (before, str(part + 10))
        if prepared.version() == before:
            assert looked(prepared)["left"], "what a killed run has left is seen"
    assert prepared.run()["changed"] is True
    assert (prepared.version(), len(prepared.names())) == (str(POINTS + 9), 2)


@at_length
def test_a_run_that_is_stopped_removes_what_it_made(prepared: Place) -> None:
    before = prepared.names()
    with prepared.begin() as process:
        wait_for_build(prepared, process)
        process.terminate()
        _, said = process.communicate(timeout=60)
    assert (process.returncode, "stopped by SIGTERM" in said) == (1, True)
    assert (prepared.names(), prepared.version()) == (before, "1")


def wait_for_build(place: Place, process: subprocess.Popen[str]) -> None:
    """Until pip is at work in a new environment."""
    while not any(
        (path / "flyd-requirements.txt").exists() for path in place.home.glob("venv-*") if not (path / STAMP).exists()
    ):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    time.sleep(0.1)


def is_locked(place: Place) -> bool:
    descriptor = os.open(place.home, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


@at_length
def test_what_a_killed_run_has_started_holds_the_place_until_it_ends(prepared: Place) -> None:
    with prepared.begin() as process:
        wait_for_build(prepared, process)
        assert is_locked(prepared)
        process.kill()
        process.wait()
        assert is_locked(prepared), "pip may still write there"
        os.killpg(process.pid, signal.SIGKILL)
    time.sleep(0.2)
    assert not is_locked(prepared)


@pytest.mark.parametrize("broken", ["its interpreter", "its packages", "its note", "half of a JSON"])
def test_an_environment_that_does_not_work_is_seen(prepared: Place, broken: str) -> None:
    venv = (prepared.home / "venv").resolve()
    if broken == "its interpreter":
        (venv / "bin/python").unlink()
    elif broken == "its packages":
        shutil.rmtree(next(venv.glob("lib/*/site-packages/boto3")))
    elif broken == "its note":
        (venv / "flyd-environment.json").unlink()
    else:
        (venv / "flyd-environment.json").write_text('{"id": ')
    assert looked(prepared)["id"] == ""

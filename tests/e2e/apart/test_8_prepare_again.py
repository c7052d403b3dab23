"""The role prepare on a host that is prepared: whatever fails in it and whenever it is killed, the host works, also after a power cut."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.campaigns.harness.target import Step, Target
from tests.e2e.machine import ROOT, Machine, lab
from tests.unit.builders import images, tar

pytestmark = pytest.mark.timeout(7200)

KEY = "images/prepared-again.tar"
EVERY = int(os.environ.get("FLYD_PREPARE_EVERY", "1"))  # every nth task of the role is killed
PLAYBOOK = "playbooks/prepare.yml"
BUILD = "Build, test and exchange the virtual environment"
HOME = "/opt/flyd"
STALE = f"""sed -i 's/"id": "/"id": "old-/' {HOME}/venv/flyd-environment.json; sync"""
WORKS = f"{HOME}/venv/bin/python -IBc 'import boto3, botocore.session, ulid, isal.isal_zlib, zstandard'"
DEVICES = "dmsetup info -c --noheadings -o name,uuid | grep FLYD- | sort"
# What the role puts onto a host, by content: links as links.
INSTALLED = """cd / && find opt/flyd usr/local/lib/flyd-host.py etc/systemd/system etc/modules-load.d -not -name '*.pyc' -not -name __pycache__ \
-printf '%p %m %l\\n' | sort; sha256sum usr/local/lib/flyd-host.py etc/systemd/system/flyd* etc/modules-load.d/*"""
# Every process of the play's side in the VM ends with its connection: the worst a broken network can do.
END_REMOTE = """for pid in $(pgrep -f 'sys.modules|ansible|pip.install' | grep -v "^$$\\$"); do kill -KILL $pid; done 2> /dev/null; true"""
NO_INDEX = "[global]\nindex-url = http://127.0.0.1:9/\nretries = 1\n"


@pytest.fixture(scope="module")
def devices(prepared: Machine, target: Target, upload: Callable[[str, bytes], None]) -> str:
    """An activated image; its devices."""
    upload(KEY, images.docker_archive([tar.tar(tar.file(b"hello", b"still there\n"))]))
    made = target.drive(
        [
            Step("flyd_pool", {"data_size": "64M"}),
            Step("flyd_fetch", {**prepared.s3_options(), "key": KEY}),
            Step("flyd_unpack", {"key": KEY}),
            Step("flyd_snapshot", {"key": KEY}),
        ]
    )
    assert [one["driven"] for one in made] == [0] * 4, made
    return prepared.ssh(DEVICES)


def assert_works(prepared: Machine, target: Target, devices: str) -> None:
    """The environment, the unit, and a module do what they did; nothing has drifted."""
    prepared.ssh(WORKS)
    prepared.ssh("systemctl restart flyd-restore.service")
    assert prepared.ssh(DEVICES) == devices
    [report] = target.drive([Step("flyd_info", {})])
    assert (report["driven"], report["drift"], report.get("warnings", [])) == (0, [], [])


def power_cut(prepared: Machine) -> None:
    """The host boots, and its unit has run."""
    lab("cut", prepared.name)
    prepared.ssh("systemctl start flyd-restore.service")
    assert prepared.ssh("systemctl is-active flyd-restore.service").strip() == "active"


def converges(prepared: Machine, wheels: Path) -> None:
    """The next play makes all of it as it is to be, and the one after it changes nothing."""
    play = prepared.play(PLAYBOOK, prepare_wheels=str(wheels))
    assert play.returncode == 0, play.output
    assert len(prepared.ssh(f"ls -A {HOME}/").split()) == 3, prepared.ssh(f"ls -A {HOME}")
    again = prepared.play(PLAYBOOK, prepare_wheels=str(wheels))
    assert (again.returncode, again.changed) == (0, 0), again.output


def altered(wheels: Path, directory: Path) -> str:
    """A directory of wheels in which one has a byte more; its name."""
    shutil.copytree(wheels, directory)
    [path] = directory.glob("botocore-*.whl")
    with open(path, "ab") as file:
        file.write(b"\0")
    return path.name


def another_version(wheels: Path, directory: Path) -> str:
    shutil.copytree(wheels, directory)
    [path] = directory.glob("urllib3-*.whl")
    return path.rename(path.with_name("urllib3-1.0-py3-none-any.whl")).name


def missing(wheels: Path, directory: Path) -> str:
    shutil.copytree(wheels, directory)
    [path] = directory.glob("boto3-*.whl")
    path.unlink()
    return "no wheel of boto3"


@pytest.mark.parametrize("wrong", [altered, another_version, missing])
def test_wheels_that_are_not_as_listed_are_refused_by_name_before_anything_changes(
    prepared: Machine, wheels: Path, tmp_path: Path, wrong: Callable[[Path, Path], str]
) -> None:
    named = wrong(wheels, tmp_path / "wheels")
    before = prepared.ssh(INSTALLED)
    play = prepared.play(PLAYBOOK, prepare_wheels=str(tmp_path / "wheels"))
    assert (play.returncode, play.changed, play.failed) == (2, 0, 1), play.output
    assert named in play.output
    assert prepared.ssh(INSTALLED) == before


def test_without_an_index_the_old_environment_stays_and_the_host_boots_with_it(
    prepared: Machine, target: Target, devices: str, wheels: Path
) -> None:
    prepared.ssh("cat > /etc/pip.conf", stdin=NO_INDEX.encode())
    before = prepared.ssh(f"readlink {HOME}/venv")
    play = prepared.play(PLAYBOOK)
    assert (play.returncode, play.failed) == (2, 1), play.output
    assert "the package index" in play.output
    assert "prepare_wheels" in play.output
    prepared.ssh("rm /etc/pip.conf")
    assert prepared.ssh(f"readlink {HOME}/venv; ls -A {HOME} | wc -l") == f"{before}3\n"
    power_cut(prepared)
    assert_works(prepared, target, devices)


def killed(prepared: Machine, wheels: Path, task: int | str, after_seconds: float = 0.0) -> str:
    """Run prepare and kill it at that task (its number or its name); the task's name, or nothing when the play has none of that number."""
    environment = {
        "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "tests/e2e/callbacks"),
        "ANSIBLE_CALLBACKS_ENABLED": "killed",
        "FLYD_KILL_TASK": str(task),
        "FLYD_KILL_SECONDS": str(after_seconds),
    }
    with pytest.MonkeyPatch.context() as patched:
        for name, value in environment.items():
            patched.setenv(name, value)
        play = prepared.begin(PLAYBOOK, prepare_wheels=str(wheels))
    said, _ = play.communicate(timeout=1500)
    prepared.ssh(END_REMOTE)
    if play.returncode == 0:
        return ""
    assert play.returncode == -9, said
    return said.rpartition("killed at: ")[2].splitlines()[0]


def test_killed_at_each_task_the_host_works_and_the_next_play_converges(
    prepared: Machine, target: Target, devices: str, wheels: Path
) -> None:
    prepared.ssh(STALE)
    task, names = 1, []
    while name := killed(prepared, wheels, task, after_seconds=0.5):
        names.append(name)
        assert_works(prepared, target, devices)
        task += EVERY
    assert len(names) * EVERY > 10, names
    power_cut(prepared)
    assert_works(prepared, target, devices)
    converges(prepared, wheels)


def test_killed_in_the_middle_of_the_build_then_a_power_cut(
    prepared: Machine, target: Target, devices: str, wheels: Path
) -> None:
    for after_seconds in (3.0, 20.0):
        prepared.ssh(STALE)
        assert BUILD in killed(prepared, wheels, BUILD, after_seconds)
        assert len(prepared.ssh(f"ls -A {HOME}").split()) > 2, "it was in the middle of it"
        power_cut(prepared)
        assert_works(prepared, target, devices)
    converges(prepared, wheels)


def test_a_directory_of_an_earlier_release_is_replaced_whole(
    prepared: Machine, target: Target, devices: str, wheels: Path
) -> None:
    prepared.ssh(f"cd {HOME} && real=$(readlink venv) && rm venv && mv $real venv && rm venv/flyd-environment.json")
    converges(prepared, wheels)
    assert prepared.ssh(f"readlink {HOME}/venv").startswith("venv-")
    assert_works(prepared, target, devices)


def test_an_environment_that_does_not_work_is_reported_by_every_module_and_made_again(
    prepared: Machine, target: Target, devices: str, wheels: Path
) -> None:
    prepared.ssh(f"mv {HOME}/venv/lib {HOME}/venv/away")
    results = target.drive([Step("flyd_pool", {}), Step("flyd_info", {})])
    for result in results:
        assert "flyd.lite.prepare" in str(result["warnings"]), result
    assert "flyd.lite.prepare" in str(results[1]["drift"])
    converges(prepared, wheels)
    assert_works(prepared, target, devices)

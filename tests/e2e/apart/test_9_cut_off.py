"""The controller goes in the middle of a play: the connection drops, Ctrl-C, an async task's time is up. The next play settles it."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.campaigns.harness.target import STATE_DIR, Step, Target
from tests.e2e.machine import Machine
from tests.unit.builders import images, tar

pytestmark = pytest.mark.timeout(1800)

KEY = "cut-off/large.tar"
IMAGE = images.docker_archive([tar.tar(tar.file(b"large", os.urandom(32 << 20)))])  # keeps a machine busy
LOG = f"{STATE_DIR}/log/flyd.jsonl"
UNPACK = Step("flyd_unpack", {"key": KEY})
NOT_FETCHED = Step("flyd_fetch", {"key": KEY, "state": "absent"})
NOT_UNPACKED = Step("flyd_unpack", {"key": KEY, "state": "absent", "force": True})


@pytest.fixture(scope="module")
def uploaded(upload: Callable[[str, bytes], None]) -> None:
    """The image is within reach."""
    upload(KEY, IMAGE)


@pytest.fixture
def socket() -> Iterator[Path]:
    """Where ssh has the socket of a connection that nothing else uses; its path must be short."""
    with tempfile.TemporaryDirectory(prefix="flyd-") as directory:
        yield Path(directory) / "ssh"


def begins(target: Target, transition: str, after: int) -> None:
    """Wait until a transition begins whose line in the log comes after so many others."""
    seen = f"tail -n +{after + 1} {LOG} 2> /dev/null | grep '\"begin\"' | grep -q '\"{transition}\"'"
    target.ssh(f"timeout 600 sh -c {shlex.quote(f'until {seen}; do sleep 0.1; done')}")


def lines_of_log(target: Target) -> int:
    return int(target.ssh(f"cat {LOG} 2> /dev/null | wc -l"))


def cut(play: subprocess.Popen[str], socket: Path, how: str) -> None:
    """Let the controller's side end."""
    if how == "Ctrl-C":
        os.killpg(play.pid, signal.SIGINT)
    else:  # who uses the connection, and who holds it
        subprocess.run(["pkill", "-KILL", "--full", f"^ssh.*{socket}"], check=True)


def the_next_play_makes_it_right(prepared: Machine, target: Target) -> None:
    play = prepared.play("playbooks/activate.yml", key=KEY)
    assert play.returncode == 0, play.output
    assert target.ssh(f"test -b {play.device} && echo there").strip() == "there"
    steps = [Step("flyd_pool", {}), UNPACK, Step("flyd_snapshot", {"key": KEY}), Step("flyd_info", {})]
    results = target.drive(steps)
    assert [(one["driven"], one["changed"]) for one in results] == [(0, False)] * len(steps), results
    assert results[-1]["drift"] == []
    assert target.violations() == []


@pytest.mark.parametrize("transition", ["fetch", "unpack"])
@pytest.mark.parametrize("how", ["Ctrl-C", "the connection drops"])
def test_a_play_that_was_interrupted(
    prepared: Machine, target: Target, uploaded: None, socket: Path, how: str, transition: str
) -> None:
    target.drive([NOT_UNPACKED, NOT_FETCHED], go_on=True)  # there may be no pool yet
    before = lines_of_log(target)
    play = prepared.begin("playbooks/activate.yml", key=KEY, ansible_control_path=str(socket))
    begins(target, transition, before)
    time.sleep(1)
    cut(play, socket, how)
    said, _ = play.communicate(timeout=300)
    assert play.returncode != 0, said
    assert "Image activated" not in said
    the_next_play_makes_it_right(prepared, target)


def test_an_async_task_whose_time_is_up(prepared: Machine, target: Target, uploaded: None) -> None:
    the_next_play_makes_it_right(prepared, target)
    [absent] = target.drive([NOT_UNPACKED])
    assert absent["changed"] is True
    before = lines_of_log(target)
    # However fast the machine: it is in the middle of something when its time is up. And however slow: it has begun by then.
    target.ssh("kill -STOP $(pidof systemd-udevd)")
    try:
        [result] = prepared.tasks([{"flyd.lite.flyd_unpack": {"key": KEY}, "async": 60, "poll": 1}])
    finally:
        target.ssh("kill -CONT $(pidof systemd-udevd)")
    # Who ends it, Ansible's wrapper there or the controller, is a matter of a second.
    assert "Timeout exceeded" in result["msg"] or "did not complete" in result["msg"], result
    begins(target, "unpack", before)
    the_next_play_makes_it_right(prepared, target)

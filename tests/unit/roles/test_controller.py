# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a role makes on the controller is gone when the play has ended, whichever hosts are first, need it, or fail."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

pytest.importorskip("ansible", reason="ansible-core is not installed")
yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")

ROOT = Path(__file__).parents[3]
ROLE = ROOT / "roles/prepare"
PLAYBOOK = str(Path(sys.executable).with_name("ansible-playbook"))


def all_tasks(tasks: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for task in tasks:
        yield task
        for section in ("block", "rescue", "always"):
            yield from all_tasks(task.get(section, []))


def install_program() -> dict[str, Any]:
    [task] = [
        task
        for task in all_tasks(yaml.safe_load((ROLE / "tasks/program.yml").read_text()))
        if task["name"] == "Install the program of the host"
    ]
    return {**task, "when": "inventory_hostname not in without"}


class Controller:
    """Plays for three hosts that are all this machine; ``left`` is what Ansible's directory and that for temporary files still hold."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.own, self.temporary, self.home = (directory / name for name in ("own", "temporary", "home"))
        for path in (self.own, self.temporary, self.home):
            path.mkdir()

    def argv(self, *others: dict[str, Any], without: tuple[str, ...] = (), failing: tuple[str, ...] = ()) -> list[str]:
        """The command that runs the role's task on the hosts that are neither ``without`` it nor ``failing`` before it."""
        fail = {"ansible.builtin.fail": {}, "when": "inventory_hostname in failing"}
        play = {
            "hosts": "all",
            "connection": "local",
            "gather_facts": False,
            "vars_files": [str(ROLE / "vars/main.yml")],
            "vars": {
                "role_path": str(ROLE),
                "ansible_python_interpreter": sys.executable,
                "without": without,
                "failing": failing,
            },
            "tasks": [fail, install_program(), *others],
        }
        book = self.directory / "play.json"
        book.write_text(json.dumps([play]))
        program = f"{self.directory}/{{{{ inventory_hostname }}}}.py"
        return [PLAYBOOK, "-i", "one,two,three,", str(book), "-e", json.dumps({"__prepare_program": program})]

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "ANSIBLE_LOCAL_TEMP": str(self.own),
            "ANSIBLE_REMOTE_TEMP": str(self.home / "remote"),
            "ANSIBLE_HOME": str(self.home),
            "TMPDIR": str(self.temporary),
        }

    def run(self, *others: dict[str, Any], **hosts: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
        argv = self.argv(*others, **hosts)
        return subprocess.run(argv, env=self.environment, capture_output=True, text=True, check=False)

    @property
    def installed(self) -> list[str]:
        """The hosts that have the whole program."""
        return sorted(path.stem for path in self.directory.glob("[ot]*.py") if path.read_bytes().endswith(b"\n"))

    @property
    def left(self) -> list[Path]:
        return [*self.own.iterdir(), *self.temporary.iterdir()]


@pytest.fixture
def controller(tmp_path: Path) -> Controller:
    return Controller(tmp_path)


def test_nothing_is_left_when_the_first_host_fails_before_and_the_last_after(controller: Controller) -> None:
    last = {"ansible.builtin.fail": {}, "when": "inventory_hostname == 'three'"}
    done = controller.run(last, without=("two",), failing=("one",))
    assert (done.returncode, controller.installed, controller.left) == (2, ["three"], []), done.stdout


def interrupted(play: subprocess.Popen[bytes]) -> bool:
    """Press Ctrl-C until the play ends, as a user does: Ansible does not notice one while it starts a worker."""
    try:
        for _ in range(12):
            os.killpg(play.pid, signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                play.wait(5)
                return True
        return False
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(play.pid, signal.SIGKILL)
        play.wait(5)


def test_nothing_is_left_when_the_play_is_interrupted(controller: Controller) -> None:
    hang = {"ansible.builtin.command": {"argv": ["sleep", "600"]}}
    argv = ["env", "--default-signal=INT", *controller.argv(hang, without=("one", "three"))]
    play = subprocess.Popen(
        argv, env=controller.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, process_group=0
    )
    until = time.monotonic() + 60
    while controller.installed != ["two"] and time.monotonic() < until:
        time.sleep(0.1)
    assert interrupted(play)
    assert controller.left == []


def test_no_role_makes_files_on_the_controller_by_tasks() -> None:
    """A task there runs for the first host alone, or for none, and so does the one that is to remove what it made.

    The roles rollout and fleet make none there that are to be removed, and no host leaves their plays.
    """
    of_fleets = {*ROOT.glob("roles/rollout/tasks/*.yml"), *ROOT.glob("roles/fleet/tasks/*.yml")}
    for path in set(ROOT.glob("roles/*/tasks/*.yml")) - of_fleets:
        for task in all_tasks(yaml.safe_load(path.read_text())):
            assert not {"run_once", "delegate_to", "local_action"}.intersection(task), f"{path}: {task['name']}"

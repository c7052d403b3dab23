"""A host that hangs in the middle of a play (its machine is stopped, not dead) is reported, and the play ends for the others."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.machine import ROOT, lab

pytestmark = pytest.mark.timeout(1800)

NAME = "hang1"
MOST_SECONDS = 15 * 4 + 15 + 60  # keepalive, then what Ansible itself takes on a busy machine
PLAY = [
    {
        "hosts": f"{NAME},localhost",
        "gather_facts": False,
        "vars": {
            "ansible_connection": "{{ 'local' if inventory_hostname == 'localhost' else 'ssh' }}",
            "ansible_python_interpreter": "{{ ansible_playbook_python if inventory_hostname == 'localhost' else '/usr/bin/python3' }}",
        },
        "tasks": [
            {"name": "Begin", "ansible.builtin.command": {"argv": ["sleep", "30"]}},
            {"name": "Go on", "ansible.builtin.command": {"argv": ["true"]}},
        ],
    }
]


@pytest.fixture
def inventory(tmp_path: Path) -> Iterator[Path]:
    """A VM of its own, which nothing has prepared."""
    try:
        lab("up", "1", "--name", NAME[:-1])
        lab("inventory", "--output", str(tmp_path / "inventory.yml"))
        yield tmp_path / "inventory.yml"
    finally:
        if not os.environ.get("FLYD_E2E_KEEP"):
            lab("down", NAME)


@pytest.fixture
def socket_directory() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="flyd-") as directory:
        yield directory


def test_a_host_that_hangs_is_unreachable_after_a_minute_and_the_others_go_on(
    inventory: Path, tmp_path: Path, socket_directory: str
) -> None:
    book = tmp_path / "book.json"
    book.write_text(json.dumps(PLAY))
    argv = [
        str(Path(sys.executable).with_name("ansible-playbook")),
        "-i",
        str(inventory),
        "-i",
        "localhost,",
        "-e",
        # Not the lab's connection, which was made without what is tried here. A short path: it is a socket's.
        f"ansible_control_path={socket_directory}/ssh",
        str(book),
    ]
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(ROOT / "playbooks/ansible.cfg"),
        "ANSIBLE_NOCOLOR": "1",
    }
    pid = int((Path(lab("files", NAME).strip()) / "pid").read_text())
    play = subprocess.Popen(
        [*argv, "-c", "smart"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    lab("ssh", NAME, "--", "timeout 120 sh -c 'until pgrep -x sleep; do sleep 0.2; done'")
    os.kill(pid, signal.SIGSTOP)
    start = time.monotonic()
    try:
        said, _ = play.communicate(timeout=600)
    finally:
        os.kill(pid, signal.SIGCONT)
    took = time.monotonic() - start
    assert took < MOST_SECONDS, said
    assert re.search(rf"^{NAME} .* unreachable=1 ", said, re.MULTILINE), said
    assert re.search(r"^localhost .* ok=2 .* unreachable=0 ", said, re.MULTILINE), said
    print(f"unreachable {took:.0f} s after it was stopped")

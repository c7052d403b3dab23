# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role unprepare by Ansible, on a host that is a directory: no VM. Two runs of a role, which take a minute on a busy machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.roles.leaving import ROOT, Host

PLAYBOOK = Path(sys.executable).with_name("ansible-playbook")
pytestmark = pytest.mark.timeout(1200)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def play(host: Host, *arguments: str) -> tuple[int, int, str]:
    """Run the role; returns the exit code, how many tasks have changed something, and what was printed."""
    book = host.root.parent / "play.json"
    roles = {"hosts": "localhost", "gather_facts": False, "connection": "local", "roles": ["flyd.lite.unprepare"]}
    book.write_text(json.dumps([roles]))
    given = {
        "__unprepare_root": str(host.root),
        "unprepare_python": sys.executable,
        "ansible_python_interpreter": sys.executable,
        "unprepare_state": "true",
    }
    collections = str(ROOT / "build/collections")
    environment = {**host.environment, "ANSIBLE_COLLECTIONS_PATH": collections, "ANSIBLE_NOCOLOR": "1"}
    argv = [str(PLAYBOOK), str(book), "--extra-vars", json.dumps(given), *arguments]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    changed = done.stdout.partition("changed=")[2].split()
    return done.returncode, int(changed[0]) if changed else -1, done.stdout + done.stderr


def test_it_leaves_what_there_was_and_check_mode_predicts_it(host: Host) -> None:
    lvm = host.path("etc/lvm/lvmlocal.conf")
    lvm.write_text("# of the administrator, without a newline at the end")
    lvm.chmod(0o640)
    before = host.files()
    host.prepare()
    host.use()
    prepared = host.files()
    looked = play(host, "--check", "--diff")
    assert looked[0] == 0, looked[2]
    assert host.files() == prepared
    code, changed, said = play(host)
    assert (code, changed) == (0, looked[1] + 1), said  # units are not stopped in check mode
    after = host.files()
    after.pop("numbers")  # which stands for a directory that was there
    assert after == before
    calls = host.calls.read_text().splitlines()
    assert [call for call in calls if call.startswith(("stop", "daemon-reload"))] == [
        "stop flyd-metrics.timer",
        "stop flyd-metrics.service",
        "stop flyd-backup.timer",
        "stop flyd-backup.service",
        "stop flyd-grow.service",
        "stop flyd-restore.service",
        "daemon-reload",
    ]

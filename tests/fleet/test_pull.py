# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host that pulls, by the playbook of docs/guides/fleet-at-scale.md and the real ansible-pull: git says which generation, and whose turn it is."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import textwrap
from collections.abc import Iterator

import pytest
import yaml

from tests.fleet.conftest import made_fleet
from tests.fleet.simulation import ANSIBLE, ROOT, Simulation, digest
from tests.unit._lifecycle.instance.machine import NAME
from tests.unit._lifecycle.machine import KEY

pytestmark = [
    pytest.mark.timeout(1800),
    pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed"),
]
GUIDE = ROOT / "docs/guides/fleet-at-scale.md"


class Pulling:
    """A fleet of this one host, which is simulated, and the repository that it pulls from."""

    def __init__(self, fleet: Simulation) -> None:
        self.fleet = fleet
        self.repository = fleet.directory / "repository"
        self.checkout = fleet.directory / "checkout"
        self.repository.mkdir()
        # The host's own connection is for the checkout; its modules run on the simulated host.
        fleet.host_variables = {name: {"ansible_connection": "local"} for name in fleet.names}
        self._git("init", "--quiet", "--initial-branch=main")

    def commit(self, *, percent: int, number: int) -> None:
        """Lock an image, and say how many hosts are to have it."""
        [block] = re.findall(r"^    - name: Bring this host .*\n(?:^ {4}.*\n|^\n)+", GUIDE.read_text(), re.MULTILINE)
        assert "/var/lib/fleet/" in block
        book = yaml.safe_load(textwrap.dedent(block).replace("/var/lib/fleet", str(self.checkout)))
        book[0]["vars"] |= {
            "key": KEY.value,
            "percent": percent,
            "rollout_instances": NAME,
            "ansible_connection": "sim",
        }
        del book[0]["vars"]["rollout_health_port"]  # a simulated guest is asked by a command, below
        mine = {name: value for name, value in self.fleet.variables().items() if name not in book[0]["vars"]}
        (self.repository / "pull.yml").write_text(yaml.safe_dump(book))
        (self.repository / "vars.json").write_text(json.dumps(mine))
        (self.repository / "fleet.lock.yml").write_text(yaml.safe_dump({KEY.value: {"sha256": digest(number)}}))
        self._git("add", ".")
        author = ("-c", "user.name=test", "-c", "user.email=test@example.org")
        self._git(*author, "commit", "--quiet", "--allow-empty", "--message", f"image {number} for {percent} %")

    def pull(self) -> str:
        """What ansible-pull said."""
        argv = [str(ANSIBLE.with_name("ansible-pull")), "-U", str(self.repository), "-C", "main"]
        argv += ["-d", str(self.checkout), "-i", str(self.fleet.inventory())]
        argv += ["-e", f"@{self.repository}/vars.json", "pull.yml"]
        done = subprocess.run(argv, env=self.fleet.environment(), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def _git(self, *arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=self.repository, check=True)


@pytest.fixture
def pulling() -> Iterator[Pulling]:
    """This host, which has image 1 while image 2 is published."""
    with made_fleet([socket.gethostname()]) as fleet:
        yield Pulling(fleet)


def test_a_host_brings_itself_to_what_git_has_locked_when_it_is_its_turn(pulling: Pulling) -> None:
    [host] = pulling.fleet.names
    pulling.commit(percent=0, number=2)
    pulling.pull()
    assert pulling.fleet.host(host).points_at == digest(1)
    pulling.commit(percent=100, number=2)
    pulling.pull()
    assert pulling.fleet.host(host).points_at == digest(2)
    assert " changed=0" in pulling.pull().rpartition("PLAY RECAP")[2]

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""flyd_fetch sends a file of the controller to a host that it logs in to without rights, and becomes root there.

As over ssh with sudo: what the connection does, it does as no one, who can read nothing of the controller's; the module alone is root's, by
a program that asks for it. Neither sshd nor sudo has to be installed for that.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ansible", reason="ansible-core is not installed")
pytest.importorskip("ulid", reason="python-ulid is not installed")

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="becomes another user"),
    pytest.mark.timeout(600),
]
CONTENT = b"an archive of the controller" * 20_000
NOBODY = 65534
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
# Read, not imported: with a module of the controller in this process, ansible's module_utils would behave as on a controller.
_ANSIBLE = importlib.util.find_spec("ansible")
assert _ANSIBLE is not None
_LOCAL = Path(str(_ANSIBLE.origin)).parent / "plugins/connection/local.py"
LOCAL = ast.literal_eval(re.findall(r'^DOCUMENTATION = (""".*?""")', _LOCAL.read_text(), re.MULTILINE | re.DOTALL)[0])
CONNECTION = f'''
DOCUMENTATION = """{LOCAL.replace("name: local", "name: as_nobody")}"""
import shlex, subprocess
from ansible.plugins.connection.local import Connection as Local
AS_NOBODY = {AS_NOBODY!r}
class Connection(Local):
    transport = "as_nobody"
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.default_user = "nobody"
    def exec_command(self, cmd, in_data=None, sudoable=True):
        return super().exec_command(shlex.join([*AS_NOBODY, "/bin/sh", "-c", cmd]), in_data, sudoable)
    def put_file(self, in_path, out_path):
        with open(in_path, "rb") as file:
            subprocess.run([*AS_NOBODY, "/bin/sh", "-c", 'cat > "$1"', "sh", out_path], stdin=file, check=True)
'''
BECOME = '''
DOCUMENTATION = """
name: asking
short_description: asks a helper
options:
  become_user: {{description: who, default: root}}
  become_exe: {{description: helper}}
  become_flags: {{description: none, default: ""}}
  become_pass: {{description: none}}
"""
from ansible.plugins.become import BecomeBase
class BecomeModule(BecomeBase):
    name = "asking"
    def build_become_command(self, cmd, shell):
        super().build_become_command(cmd, shell)
        return "{helper} " + self._build_success_command(cmd, shell)
'''
HELPER = """#!/usr/bin/python3
import json, socket, sys
with socket.socket(socket.AF_UNIX) as asked:
    asked.connect("{socket}")
    socket.send_fds(asked, [json.dumps(sys.argv[1:]).encode()], [0, 1, 2])
    asked.shutdown(socket.SHUT_WR)
    sys.exit(asked.recv(1)[0])
"""


def _serve(listening: socket.socket) -> None:
    """Run as root what the helper is called with, one thing at a time."""
    with contextlib.suppress(OSError):  # closed at the end of the test
        while True:
            with listening.accept()[0] as asked:
                said, fds, _flags, _address = socket.recv_fds(asked, 1 << 20, 3)
                argv = json.loads(said)
                done = subprocess.run(argv, stdin=fds[0], stdout=fds[1], stderr=fds[2], cwd="/", check=False)
                for fd in fds:
                    os.close(fd)
                asked.send(bytes([done.returncode & 255]))


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that no one may go through, with the plugins, the helper and what answers it."""
    directory = Path(tempfile.mkdtemp(prefix="flyd-become-"))
    directory.chmod(0o711)
    helper, path = directory / "helper", directory / "socket"
    helper.write_text(HELPER.format(socket=path))
    helper.chmod(0o755)
    for kind, name, text in (
        ("connection", "as_nobody", CONNECTION),
        ("become", "asking", BECOME.format(helper=helper)),
    ):
        (directory / kind).mkdir()
        (directory / kind / f"{name}.py").write_text(text)
    (directory / "remote").mkdir()
    os.chown(directory / "remote", NOBODY, NOBODY)
    (directory / "files").mkdir(mode=0o700)
    (directory / "files/a.tar").write_bytes(CONTENT)
    (directory / "files/a.tar").chmod(0o600)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        os.chown(path, NOBODY, NOBODY)
        path.chmod(0o600)
        listening.listen()
        thread = threading.Thread(target=_serve, args=(listening,), daemon=True)
        thread.start()
        yield directory
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()
    shutil.rmtree(directory)


def play(place: Path, site: Path, *, pipelining: bool) -> tuple[dict[str, Any], str]:
    """Fetch in check mode, for real, again, and in the background; the results, and what Ansible said."""
    steps: dict[str, dict[str, Any]] = {
        "predicted": {"check_mode": True},
        "first": {},
        "second": {},
        "background": {"async": 120, "poll": 1},
    }
    tasks: list[dict[str, Any]] = []
    for name, more in steps.items():
        options = {
            "key": f"images/{'b' if 'async' in more else 'a'}.tar",
            "src": "a.tar",
            "state_dir": str(place / "state"),
        }
        tasks.append({"flyd.lite.flyd_fetch": options, "register": name, **more})
    kept = {name: "{{ " + name + " }}" for name in steps}
    copy = {"content": "{{ kept | to_json }}", "dest": str(place / "results"), "mode": "0600"}
    tasks.append({"ansible.builtin.copy": copy, "vars": {"kept": kept}, "delegate_to": "localhost", "become": False})
    (place / "play.yml").write_text(json.dumps([{"hosts": "there", "gather_facts": False, "tasks": tasks}]))
    become = "ansible_become=true ansible_become_method=asking"
    python = f"ansible_python_interpreter={sys.executable} ansible_remote_tmp={place}/remote/tmp ansible_async_dir={place}/async"
    (place / "hosts").write_text(
        f"there ansible_connection=as_nobody {become} {python}\nlocalhost ansible_connection=local {python}\n"
    )
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(site),
        "ANSIBLE_CONNECTION_PLUGINS": str(place / "connection"),
        "ANSIBLE_BECOME_PLUGINS": str(place / "become"),
        "ANSIBLE_PIPELINING": str(pipelining),
    }
    argv = [str(Path(sys.executable).parent / "ansible-playbook"), "-vvv", "-i", "hosts", "play.yml"]
    ran = subprocess.run(argv, cwd=place, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr
    return json.loads((place / "results").read_text()), ran.stdout


def left_on_host(place: Path) -> list[Path]:
    """What the tasks have left; the process that watches one in the background looks every five seconds whether it has ended."""
    until = time.monotonic() + 60
    while True:
        left = [path for path in (place / "remote").rglob("*") if path != place / "remote/tmp"]
        if not left or time.monotonic() > until:
            return left
        time.sleep(0.2)


@pytest.mark.parametrize("pipelining", [False, True])
def test_a_file_is_sent_by_a_user_without_rights_and_read_by_root(place: Path, site: Path, pipelining: bool) -> None:
    results, _said = play(place, site, pipelining=pipelining)
    assert [results[name]["changed"] for name in ("predicted", "first", "second", "background")] == [
        True,
        True,
        False,
        True,
    ]
    digest = hashlib.sha256(CONTENT).hexdigest()
    assert {results[name]["sha256"] for name in results} == {digest}
    archive = place / "state/archives" / digest
    assert (archive.stat().st_uid, archive.read_bytes()) == (0, CONTENT)
    assert left_on_host(place) == []

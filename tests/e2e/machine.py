"""A virtual machine of the lab, and Ansible run against it: what the end-to-end tests talk to.

Invariant: nothing here knows what is right; it runs things and returns what came of them.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
LAB = [sys.executable, str(ROOT / "tests/vm/lab.py")]
PLAY_SECONDS = 1500
_RECAP = re.compile(
    r"^\S+ +: ok=(?P<ok>\d+) +changed=(?P<changed>\d+) +unreachable=(?P<unreachable>\d+) +failed=(?P<failed>\d+)", re.M
)


def lab(*args: str, stdin: bytes | None = None) -> str:
    """The output of a verb of the lab; raises ``AssertionError`` with what it said when it fails."""
    done = subprocess.run([*LAB, *args], input=stdin, capture_output=True, timeout=PLAY_SECONDS, check=False)
    assert done.returncode == 0, f"lab.py {' '.join(args)}: {done.stderr.decode()}{done.stdout.decode()}"
    return done.stdout.decode()


@dataclass(frozen=True)
class Play:
    """What a run of ansible-playbook came to."""

    returncode: int
    output: str
    changed: int
    failed: int

    @property
    def device(self) -> str:
        """The device that the play named at its end."""
        found = re.search(r"Image activated at device (/dev/mapper/snap-[0-9A-Z]{26})", self.output)
        assert found, self.output
        return found[1]


@dataclass(frozen=True)
class Machine:
    """The VM ``name``; ``environment`` has the credentials of the S3 server as the VM reaches it."""

    name: str
    inventory: Path
    environment: dict[str, str] = field(repr=False)

    def ssh(self, command: str, *, stdin: bytes | None = None) -> str:
        """The output of a shell command in the VM; it must succeed."""
        return lab("ssh", self.name, "--", command, stdin=stdin)

    def put(self, local: Path, remote: str) -> None:
        """Copy a file into the VM."""
        self.ssh(f"cat > {remote}", stdin=local.read_bytes())

    def play(self, *playbooks: str | Path, check: bool = False, **variables: str | bool) -> Play:
        """Run playbooks of the collection (by path from the root of the checkout)."""
        done = self._ansible(self._playbook_argv(playbooks, variables) + (["--check", "--diff"] if check else []))
        recap = _RECAP.search(done.stdout)
        numbers = (
            {key: int(value) for key, value in recap.groupdict().items()} if recap else {"changed": -1, "failed": -1}
        )
        return Play(done.returncode, done.stdout + done.stderr, numbers["changed"], numbers["failed"])

    def begin(self, *playbooks: str | Path, **variables: str | bool) -> subprocess.Popen[str]:
        """Begin to run playbooks, in a process group of their own that SIGINT ends; what they print goes into one pipe."""
        return subprocess.Popen(
            ["env", "--default-signal=INT", *self._playbook_argv(playbooks, variables)],
            env=self._ansible_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=0,
        )

    def _playbook_argv(self, playbooks: Sequence[str | Path], variables: dict[str, str | bool]) -> list[str]:
        books = [str(ROOT / book) for book in playbooks]
        hosts = ["-i", str(self.inventory), "--limit", self.name]
        return ["ansible-playbook", *hosts, *books, "--extra-vars", json.dumps({"flyd_hosts": self.name, **variables})]

    def module(self, name: str, /, *, check: bool = False, **options: Any) -> dict[str, Any]:
        """The result of one module, whether it succeeded or not; ``key`` and the like are its options."""
        if name == "flyd_fetch":
            options = {**self.s3_options(), **options}
        argv = [
            "ansible",
            "-i",
            str(self.inventory),
            self.name,
            "-b",
            "-m",
            f"flyd.lite.{name}",
        ]
        argv += ["-a", json.dumps(options)] if options else []
        done = self._ansible(argv + (["--check", "--diff"] if check else []))
        _, mark, answer = done.stdout.partition(" => {")
        assert mark, f"{name} gave no result: {done.stdout}{done.stderr}"
        result: dict[str, Any] = json.JSONDecoder().raw_decode("{" + answer)[0]
        return result

    def tasks(self, tasks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The results of tasks (in the form of a playbook), all run in one play, whether they succeed or not."""
        with tempfile.TemporaryDirectory() as directory:
            book, results = Path(directory) / "book.json", Path(directory) / "results.json"
            registered = [f"result_{number}" for number in range(len(tasks))]
            every = [
                {**task, "name": name, "register": name, "ignore_errors": True}
                for task, name in zip(tasks, registered, strict=True)
            ]
            keep = {
                "ansible.builtin.copy": {
                    "content": f"{{{{ [{', '.join(registered)}] | to_json }}}}",
                    "dest": str(results),
                },
                "delegate_to": "localhost",
                "become": False,
                "vars": {"ansible_python_interpreter": sys.executable},
            }
            play = {"hosts": self.name, "become": True, "gather_facts": False, "tasks": [*every, keep]}
            book.write_text(json.dumps([play]))
            done = self._ansible(["ansible-playbook", "-i", str(self.inventory), str(book)])
            assert results.exists(), done.stdout + done.stderr
            found: list[dict[str, Any]] = json.loads(results.read_text())
            return found

    def s3_options(self) -> dict[str, Any]:
        """The options by which flyd_fetch reaches the lab's server."""
        return {"endpoint_url": self.environment["AWS_ENDPOINT_URL"], **self._credentials()}

    def _credentials(self) -> dict[str, str]:
        return {
            "access_key": self.environment["AWS_ACCESS_KEY_ID"],
            "secret_key": self.environment["AWS_SECRET_ACCESS_KEY"],
        }

    def _ansible_environment(self) -> dict[str, str]:
        return {
            **os.environ,
            **self.environment,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "ANSIBLE_CONFIG": str(ROOT / "playbooks/ansible.cfg"),
            "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
            "ANSIBLE_NOCOLOR": "1",
        }

    def _ansible(self, argv: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            argv,
            env=self._ansible_environment(),
            capture_output=True,
            text=True,
            timeout=PLAY_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def traces(self) -> dict[str, str]:
        """All that the collection could leave behind: devices, loops, mounts, files of the state directory, open intents."""
        commands = {
            "devices": "dmsetup ls 2>/dev/null | sort",
            "loops": "losetup --list --noheadings --output BACK-FILE | sort",
            "mounts": "cut -d' ' -f5 /proc/self/mountinfo | sort",
            "files": "find /var/lib/flyd -path /var/lib/flyd/log -prune -o -print 2>/dev/null | sort",
            "thin ids": "dmsetup table 2>/dev/null | awk '$4 == \"thin\" { print $6 }' | sort",
            "intents": "sqlite3 -readonly /var/lib/flyd/flyd.db 'SELECT * FROM operations; SELECT * FROM _busy; SELECT * FROM volumes' 2>/dev/null; true",
        }
        mark = "= next\n"
        found = self.ssh(f"; echo '{mark.strip()}'; ".join(f"({command})" for command in commands.values()))
        return dict(zip(commands, found.split(mark), strict=True))

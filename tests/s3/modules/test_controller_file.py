# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""flyd_fetch in a real play, whose action plugin sends a file of the controller once, and only where its bytes are missing."""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ansible", reason="ansible-core is not installed")
pytest.importorskip("ulid", reason="python-ulid is not installed")

from tests.s3.module import Module

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="modules refuse to run as another user than root"),
    pytest.mark.timeout(600),
]
CONTENT, OTHER = b"an archive of the controller" * 20_000, b"another archive" * 20_000
SHA256, OTHER_SHA256 = hashlib.sha256(CONTENT).hexdigest(), hashlib.sha256(OTHER).hexdigest()


class Play:
    """One play on this machine, task after task; each names the file of the play's directory files/."""

    def __init__(self, site: Path, directory: Path) -> None:
        self.directory, self._site, self.state = directory, site, directory / "state"
        self.tmp = directory / "remote"
        (directory / "files").mkdir()
        self._tasks: list[dict[str, Any]] = []

    def add(self, name: str, *, task: dict[str, Any] | None = None, **options: Any) -> None:
        """A flyd_fetch, that may fail."""
        given = {"key": "images/a.tar", "state_dir": str(self.state), **options}
        self._tasks.append({"flyd.lite.flyd_fetch": given, "register": name, "ignore_errors": True, **(task or {})})

    def write(self, name: str, content: bytes) -> None:
        """Change a file of the controller when the play comes so far."""
        (self.directory / f"{name}.{len(self._tasks)}").write_bytes(content)
        command = f"cp {self.directory}/{name}.{len(self._tasks)} {self.directory}/files/{name}"
        self._tasks.append({"ansible.builtin.command": command, "changed_when": False})

    def run(self) -> tuple[dict[str, Any], str]:
        """The results by name, and all that Ansible said."""
        names = [task["register"] for task in self._tasks if "register" in task]
        kept = {name: "{{ " + name + " }}" for name in names}
        copy = {"content": "{{ kept | to_json }}", "dest": str(self.directory / "results"), "mode": "0600"}
        last = {"ansible.builtin.copy": copy, "vars": {"kept": kept}, "check_mode": False}
        play = {"hosts": "here", "gather_facts": False, "tasks": [*self._tasks, last]}
        (self.directory / "play.yml").write_text(json.dumps([play]))
        python = f"ansible_connection=local ansible_python_interpreter={sys.executable} ansible_remote_tmp={self.tmp}"
        python += f" ansible_async_dir={self.tmp}/async"
        (self.directory / "hosts").write_text(f"here {python}\nthere {python}\n")
        environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(self._site), "ANSIBLE_LOCALHOST_WARNING": "false"}
        argv = [str(Path(sys.executable).parent / "ansible-playbook"), "-vvv", "-i", "hosts", "play.yml"]
        ran = subprocess.run(argv, cwd=self.directory, env=environment, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr
        return json.loads((self.directory / "results").read_text()), ran.stdout


@pytest.fixture(scope="module")
def told(site: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str, Play]:
    """One play for all tests, as starting Ansible takes longest."""
    play = Play(site, tmp_path_factory.mktemp("play"))
    play.write("a.tar", CONTENT)
    play.add("predicted", src="a.tar", task={"check_mode": True})
    play.add("first", src="a.tar", checksum=f"sha256:{SHA256}")
    play.add("second", src="a.tar")
    play.add("second_in_check_mode", src="a.tar", task={"check_mode": True})
    play.add("same_bytes", src="a.tar", key="images/same.tar")
    play.write("a.tar", OTHER)
    play.add("refused", src="a.tar", on_change="refuse")
    play.add("wrong", src="a.tar", checksum=f"sha256:{SHA256}", key="images/wrong.tar")
    play.add("too_large", src="a.tar", max_size="1K")
    play.add("delegated", src="a.tar", task={"delegate_to": "there"})
    play.add(
        "become",
        src="a.tar",
        task={"become": True, "become_user": getpass.getuser(), "become_method": "ansible.builtin.su"},
    )
    play.write("b.tar", CONTENT[::-1])
    play.add("background", src="b.tar", key="images/b.tar", task={"async": 120, "poll": 1})
    play.add("background_again", src="b.tar", key="images/b.tar", task={"async": 120, "poll": 1})
    play.add("background_same_bytes", src="b.tar", key="images/c.tar", task={"async": 120, "poll": 1})
    play.add("background_refused", src="b.tar", key="images/d.tar", max_size="1K", task={"async": 120, "poll": 1})
    play.add("missing", src="nothing.tar")
    play.add("directory", src=str(play.directory))
    play.add("remote", src=str(play.directory / "files/b.tar"), remote_src=True, key="images/remote.tar")
    play.add("relative", src="files/b.tar", remote_src=True, key="images/relative.tar")
    play.add("empty", src="", endpoint_url="http://127.0.0.1:9", anonymous=True, retries=0, key="images/empty.tar")
    play.add("absent", src="nothing.tar", state="absent")
    play.add("absolute", src=str(play.directory / "files/b.tar"))
    return *play.run(), play


def test_a_file_is_sent_once(told: tuple[dict[str, Any], str, Play]) -> None:
    results, said, play = told
    assert (results["predicted"]["changed"], results["predicted"]["sha256"]) == (True, SHA256)
    assert (results["first"]["changed"], results["first"]["sha256"], results["first"]["trust"]) == (
        True,
        SHA256,
        "pinned",
    )
    assert [results[name]["changed"] for name in ("second", "second_in_check_mode")] == [False, False]
    assert (results["same_bytes"]["changed"], results["same_bytes"]["received_bytes"]) == (True, 0)
    sent = re.findall(r"PUT (\S+) TO \S+/archive$", said, re.MULTILINE)
    assert [Path(one).name for one in sent] == ["a.tar", "a.tar", "b.tar", "b.tar"], (
        "first, delegated, background twice, where a change is not looked at further; the others need no bytes"
    )
    assert [path for path in play.tmp.rglob("*") if path.name == "archive"] == [], "nothing stays behind"


def test_other_bytes_follow_the_same_rules(told: tuple[dict[str, Any], str, Play]) -> None:
    results, _said, _play = told
    kinds = {name: results[name].get("error_kind") for name in ("refused", "wrong", "too_large")}
    assert kinds == {"refused": "untrusted", "wrong": "untrusted", "too_large": "bad_input"}
    new = results["delegated"]
    assert (new["changed"], new["sha256"], new["new_generation"]) == (True, OTHER_SHA256, True)


def test_delegation_become_and_the_background_work(told: tuple[dict[str, Any], str, Play]) -> None:
    results, _said, _play = told
    assert (results["become"].get("msg"), results["become"]["changed"]) == (None, False)
    assert (results["background"].get("msg"), results["background"]["changed"]) == (None, True)
    assert (results["background_again"].get("msg"), results["background_again"]["changed"]) == (None, False)
    assert (results["background_same_bytes"].get("msg"), results["background_same_bytes"]["changed"]) == (None, True)
    assert results["background_refused"]["error_kind"] == "bad_input"


def test_a_missing_file_of_the_controller_is_reported(told: tuple[dict[str, Any], str, Play]) -> None:
    results, _said, _play = told
    assert "nothing.tar" in results["missing"]["msg"]
    assert results["directory"]["msg"].startswith("src: ")
    assert results["relative"]["error_kind"] == "bad_input"


def test_what_the_module_does_alone_is_left_to_it(told: tuple[dict[str, Any], str, Play]) -> None:
    results, _said, play = told
    assert (results["remote"]["changed"], results["remote"]["etag"].startswith('"file-')) == (True, True)
    assert results["empty"]["error_kind"] == "transient", "without src it is an object of S3"
    assert (results["absent"].get("msg"), results["absent"]["changed"]) == (None, True)
    assert (results["absolute"]["changed"], play.state.exists()) == (True, True)


def test_a_module_without_the_plugin_says_so(site: Path, tmp_path: Path) -> None:
    told = Module(site, tmp_path / "state", {"key": "images/a.tar", "src": "a.tar"}).run()
    assert (told["error_kind"], "action plugin" in told["hint"]) == ("bad_input", True)

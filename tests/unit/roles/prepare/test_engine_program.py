# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The program that the role installs compiles the collection, and runs from the engine itself."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from module_utils import _engine
from tests.unit.support.engines import CAN_TRY, PACKAGE_FILES, WHY_NOT, Host, make_host, with_other_code

pytestmark = pytest.mark.skipif(not CAN_TRY, reason=WHY_NOT)


@pytest.fixture
def host() -> Iterator[Host]:
    with make_host() as made:
        yield made


@pytest.fixture
def program(host: Host) -> Path:
    pack: list[str | Path] = [sys.executable, PACKAGE_FILES.parents[1] / "roles/prepare/files/pack.py", PACKAGE_FILES]
    text = subprocess.run(pack, check=True, capture_output=True, text=True).stdout
    path = host.home / "program.py"
    path.write_text(text.replace(_engine.PATH, str(host.path)))
    return path


def run(program: Path, *arguments: str | Path) -> str:
    argv: list[str | Path] = [sys.executable, "-I", program, *arguments]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def test_every_file_is_compiled_once(host: Host, program: Path) -> None:
    assert [run(program, "compile", host.path) for _ in range(2)] == ["compiled\n", ""]
    engine = _engine.open_engine(str(host.path))
    paths = [
        path for path in PACKAGE_FILES.rglob("*.py") if path.name != "_engine.py"
    ]  # the fixture has changed that one
    for path in paths:
        data = path.read_bytes()
        assert engine.code(str(path.relative_to(PACKAGE_FILES)), [zlib.crc32(data), len(data)]) is not None, path
    assert len(engine.files) == len(paths) + 2, "it, and the package's own file"


def test_it_runs_from_the_engine_where_that_is_the_same(host: Host, program: Path) -> None:
    ours = "_host/files/publishing.py"
    sources = {str(path.relative_to(PACKAGE_FILES)): path.read_bytes() for path in PACKAGE_FILES.rglob("*.py")}
    data = with_other_code(sources, ours, sources[ours] + b"print('from the engine')\n")
    host.path.write_bytes(data)
    host.path.chmod(0o644)
    arguments = ("metrics", host.home / "state", host.home / "flyd.prom")
    assert run(program, *arguments) == "from the engine\n"
    host.path.chmod(0o666)
    assert run(program, *arguments) == ""
    host.path.chmod(0o644)
    host.path.write_bytes(data[:-1])
    assert run(program, *arguments) == ""
    assert run(program, "compile", host.path) == "compiled\n"
    assert run(program, *arguments) == ""


@pytest.mark.slow
def test_the_tasks_of_the_role_change_a_host_once_and_in_check_mode_not(host: Host) -> None:
    pytest.importorskip("ansible.executor", reason="ansible-core is not installed")
    role, program = PACKAGE_FILES.parents[1] / "roles/prepare", host.home / "program.py"
    tasks = [{"ansible.builtin.include_tasks": str(role / "tasks/program.yml")}]
    given = {"role_path": str(role), "prepare_python": sys.executable, "ansible_python_interpreter": sys.executable}
    play = {"hosts": "all", "connection": "local", "gather_facts": False, "vars_files": [str(role / "vars/main.yml")]}
    book = host.home / "play.json"
    book.write_text(json.dumps([{**play, "vars": given, "tasks": tasks}]))
    paths = {"__prepare_program": str(program), "__prepare_engine": str(host.path)}
    argv = [sys.executable, "-m", "ansible", "playbook", "-i", "localhost,", str(book), "-e", json.dumps(paths)]

    def changed(*more: str) -> int:
        environment = {**os.environ, "ANSIBLE_HOME": str(host.home / "ansible")}
        done = subprocess.run([*argv, *more], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return int(re.findall(r"changed=(\d+)", done.stdout)[0])

    assert (changed("--check"), program.exists(), host.path.exists()) == (1, False, False)
    assert (changed(), program.exists(), len(_engine.open_engine(str(host.path)).files) > 200) == (2, True, True)
    assert changed() == 0
    host.path.write_bytes(b"")
    assert (changed(), host.path.stat().st_size > 1 << 20) == (1, True)

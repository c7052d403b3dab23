# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs of modules without a controller: in order, beside each other, with shell commands between them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ansible.module_utils.testing", reason="ansible-core is not installed")

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="modules refuse to run as another user than root")


@pytest.fixture
def collections(tmp_path: Path) -> Path:
    link = tmp_path / "site/ansible_collections/flyd/lite"
    link.parent.mkdir(parents=True)
    link.symlink_to(ROOT)
    return tmp_path / "site"


def drive(collections: Path, steps: list[dict[str, Any]], *options: str) -> tuple[int, list[dict[str, Any]]]:
    done = subprocess.run(
        [sys.executable, ROOT / "tests/tools/drive.py", "--path", collections, *options],
        input=json.dumps(steps).encode(),
        capture_output=True,
        check=False,
    )
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def info(state_dir: Path) -> dict[str, Any]:
    return {"module": "flyd_info", "options": {"state_dir": str(state_dir), "what": ["images"]}}


def test_steps_run_in_order_and_the_first_that_fails_is_the_last(collections: Path, tmp_path: Path) -> None:
    steps = [info(tmp_path / "a"), {"shell": "echo out; exit 3"}, info(tmp_path / "a")]
    code, results = drive(collections, steps)
    assert code == 1
    assert [result["driven"] for result in results] == [0, 3]
    assert results[0]["images"] == []
    assert results[1]["stdout"] == "out\n"
    assert [result["driven"] for result in drive(collections, steps, "--all")[1]] == [0, 3, 0]


def test_lists_run_side_by_side_and_each_ends_with_its_first_failure(collections: Path, tmp_path: Path) -> None:
    # Each waits for the other's file: one behind the other they would never end.
    meet = [
        {"shell": f"touch {tmp_path}/{mine}; until [ -e {tmp_path}/{other} ]; do sleep 0.05; done"}
        for mine, other in (("a", "b"), ("b", "a"))
    ]
    lists = [[meet[0], info(tmp_path / "x")], [meet[1], {"shell": "exit 2"}, {"shell": "echo never"}]]
    code, [result] = drive(collections, [{"at_once": lists}])
    assert (code, result["driven"]) == (1, 1)
    assert [[step["driven"] for step in steps] for steps in result["at_once"]] == [[0, 0], [0, 2]]


def test_a_server_answers_one_request_after_the_other(collections: Path, tmp_path: Path) -> None:
    requests = [
        {"steps": [info(tmp_path / "a"), {"shell": "exit 3"}, info(tmp_path / "a")], "all": False},
        {"steps": [{"shell": "exit 3"}, {"shell": "echo on"}], "all": True},
    ]
    done = subprocess.run(
        [sys.executable, ROOT / "tests/tools/drive.py", "--path", collections, "--serve"],
        input="".join(f"{json.dumps(request)}\n" for request in requests).encode(),
        capture_output=True,
        check=True,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer.get("driven") for answer in answers] == [None, 0, 3, None, 3, 0, None]
    assert answers[0] == answers[3] == answers[6] == {}


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_a_call_of_the_module_is_made_to_fail_and_counted_from_its_first(collections: Path, tmp_path: Path) -> None:
    pool = {"module": "flyd_pool", "options": {"state_dir": str(tmp_path / "a"), "state": "absent"}}
    traced = {**pool, "inject": ["-e", "trace=mkdir", "-e", "inject=mkdir:error=EIO:when=1"]}
    _code, results = drive(collections, [traced, pool], "--all")
    assert [result["driven"] for result in results] == [1, 0]
    assert "(INJECTED)" in results[0]["traced"]

"""What has tools of its own: the modules by ansible-test, the playbooks by molecule, the collection as it is built and installed.

Invariant: each starts from a machine that is pristine but for the role prepare, and ends it. These are the short ones; ``make integration``
and ``make molecule`` run all.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(1800)

TOOLS = Path(__file__).parents[2] / "tools"
VENV = Path(sys.executable).parents[1]


def run(tool: str, *arguments: str) -> None:
    """A tool must succeed; what it said is told when it does not."""
    done = subprocess.run(
        [TOOLS / tool, VENV, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{tool}: {done.stdout[-20000:]}{done.stderr[-5000:]}"


def test_the_modules_do_what_they_say_under_ansible_test() -> None:
    run("integration.sh", "flyd_pool", "flyd_snapshot")


def test_check_mode_predicts_an_activation_under_molecule() -> None:
    run("molecule.sh", "virgin")


def test_the_collection_is_built_checked_and_runs_from_where_it_was_installed() -> None:
    run("package.sh")
    run("installed.sh")

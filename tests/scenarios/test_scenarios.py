"""What has tools of its own: the modules by ansible-test, the playbooks by molecule, the collection as it is built and checked.

Invariant: each starts from a machine that is pristine but for the role prepare, and ends it. These are samples, the shortest there are:
``make integration``, ``make molecule`` and ``make package`` run all, which takes many minutes.
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
    """A tool must succeed; what it said is reported when it does not."""
    done = subprocess.run(
        [TOOLS / tool, VENV, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{tool}: {done.stdout[-20000:]}{done.stderr[-5000:]}"


def test_a_module_does_what_it_says_under_ansible_test() -> None:
    run("integration.sh", "flyd_info")


def test_check_mode_predicts_an_activation_under_molecule() -> None:
    run("molecule.sh", "virgin")


def test_the_collection_is_built_and_checked_as_galaxy_does() -> None:
    run("package.sh")

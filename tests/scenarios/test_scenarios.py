"""The collection as it is built, checked and installed.

What needs a machine of its own for many minutes has commands of its own: ``make integration``, ``make molecule`` and ``make package``.
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


def test_the_collection_is_built_and_checked_as_galaxy_does() -> None:
    run("package.sh")

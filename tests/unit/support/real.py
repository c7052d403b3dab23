"""What of the real machine a test may use: asked once, so that a test can skip with the reason."""

from __future__ import annotations

import functools
import os
import subprocess
import tempfile

import pytest


@functools.cache
def _loop_problem() -> str:
    if os.geteuid() != 0:
        return "needs root for loop devices and mounts"
    with tempfile.NamedTemporaryFile() as file:
        file.truncate(1 << 20)
        attached = subprocess.run(["losetup", "--find", "--show", file.name], capture_output=True, text=True)
        if attached.returncode:
            return f"needs loop devices: {attached.stderr.strip()}"
        subprocess.run(["losetup", "--detach", attached.stdout.strip()], check=True)
    return ""


needs_loops = pytest.mark.skipif(bool(_loop_problem()), reason=_loop_problem() or "never")

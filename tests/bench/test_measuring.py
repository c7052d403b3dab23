"""What is measured is what the commands take, not what runs beside them."""

from __future__ import annotations

import subprocess
import sys

from bench.harness.measuring import MIB, environment, peak_bytes

HOLD = "import sys, time; held = bytearray({mib} << 20); print(flush=True); time.sleep({seconds})"


def test_the_peak_is_that_of_the_commands_alone() -> None:
    beside = subprocess.Popen([sys.executable, "-c", HOLD.format(mib=300, seconds=600)], stdout=subprocess.PIPE)
    held = bytearray(300 * MIB)  # of this process, which a child has until it has begun its program
    try:
        assert beside.stdout is not None
        beside.stdout.readline()
        found = peak_bytes([[sys.executable, "-c", HOLD.format(mib=50, seconds=0.5)]], environment())
    finally:
        beside.kill()
        beside.communicate()
    assert 50 * MIB < found < 150 * MIB
    assert len(held) == 300 * MIB

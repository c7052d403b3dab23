"""What a run costs that finds nothing to do: activate.yml beside a play of four ``ping`` tasks, on the same machine of the lab.

    python -m bench.second_run [--rounds N] [--vm PREFIX] [--pinned]

Invariant: both plays are run in turn, so that whatever else the machine does meets both; a play that changes something ends the benchmark.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from bench.harness.measuring import BenchError
from tests.e2e.machine import LAB, Machine, lab
from tests.unit.builders import images, tar

KEY, STATE_DIR = "bench/second-run.tar", "/var/lib/flyd-bench"
PING = {"hosts": "all", "become": True, "gather_facts": False, "tasks": [{"ansible.builtin.ping": {}}] * 4}


def machine(prefix: str, directory: Path) -> Machine:
    """The first VM of that prefix, brought up when it is not, with the server's credentials."""
    lab("s3", "up")
    lab("up", "1", "--name", prefix)
    inventory = directory / "inventory.yml"
    lab("inventory", "--output", str(inventory))
    environment = dict(line.split("=", 1) for line in lab("s3", "env").splitlines())
    environment["AWS_ENDPOINT_URL"] = environment["FLYD_S3_ENDPOINT_FROM_VM"]
    return Machine(f"{prefix}1", inventory, environment)


def prepare(vm: Machine, directory: Path, archive: bytes) -> None:
    """The host prepared and the image activated."""
    (directory / "archive").write_bytes(archive)
    lab("s3", "put", str(directory / "archive"), KEY)
    wheels = Path(LAB[1]).parents[2] / "build/wheels"
    play = vm.play("playbooks/prepare.yml", prepare_wheels=str(wheels))
    if play.returncode:
        raise BenchError(f"prepare.yml failed: {play.output}")
    activate(vm, {}, changes=True)


def activate(vm: Machine, more: dict[str, str], *, changes: bool = False) -> float:
    """Seconds that activate.yml took."""
    names = {"activate_state_dir": STATE_DIR, "activate_pool": "bench", "activate_pool_data_size": "64M", **more}
    begun = time.monotonic()
    play = vm.play("playbooks/activate.yml", check=False, key=KEY, **names)
    took = time.monotonic() - begun
    if play.returncode or (play.changed and not changes):
        raise BenchError(f"activate.yml changed {play.changed} tasks: {play.output}")
    return took


def ping(vm: Machine, book: Path) -> float:
    """Seconds that four pings took."""
    begun = time.monotonic()
    play = vm.play(book)
    if play.returncode:
        raise BenchError(f"ping failed: {play.output}")
    return time.monotonic() - begun


def main() -> int:
    """Measure and print; the ratio is that of the medians."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--vm", default="bench", help="the machine PREFIX1 of the lab, brought up when it is not", metavar="PREFIX"
    )
    parser.add_argument("--pinned", action="store_true", help="with the digest in the playbook: S3 is not asked at all")
    given = parser.parse_args()
    archive = images.docker_archive([tar.tar(tar.file(b"hello", b"hello\n"))])
    more = {"activate_checksum": f"sha256:{hashlib.sha256(archive).hexdigest()}"} if given.pinned else {}
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "ping.json").write_text(json.dumps([PING]))
        try:
            vm = machine(given.vm, directory)
            prepare(vm, directory, archive)
            activate(vm, more)
            rounds = [(activate(vm, more), ping(vm, directory / "ping.json")) for _ in range(given.rounds)]
        except (BenchError, AssertionError) as error:
            print(error, file=sys.stderr)
            return 1
    ours, theirs = (statistics.median(column) for column in zip(*rounds, strict=True))
    print(f"load {os.getloadavg()[0]:.1f}, {given.rounds} rounds, {'pinned' if given.pinned else 'one HEAD'}")
    print(f"activate.yml {ours:.1f} s, four pings {theirs:.1f} s (medians), ratio {ours / theirs:.2f}")
    print("each: " + ", ".join(f"{one:.1f}/{other:.1f}" for one, other in rounds))
    return 0


if __name__ == "__main__":
    sys.exit(main())

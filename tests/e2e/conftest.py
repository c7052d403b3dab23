"""One virtual machine, one S3 server and one redis image for all end-to-end tests.

The tests run in the order of their files' names: the machine has only been prepared at first, and each file finds it as the one before
left it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.campaigns.harness.target import Target
from tests.e2e.machine import LAB, ROOT, Machine, Play, lab

PREFIX = os.environ.get("FLYD_E2E_VM", "e2e")
REUSE = bool(os.environ.get("FLYD_E2E_REUSE"))  # for who writes a test: the machine as the last run has left it
REDIS_KEY = "images/redis_latest.tar"
VENV = Path(sys.executable).parents[1]


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A VM after the role prepare, else pristine, with the redis image within reach; stopped at the end, unless FLYD_E2E_KEEP is set."""
    s3_was_up = subprocess.run([*LAB, "s3", "url"], capture_output=True, check=False).returncode == 0
    lab("s3", "up")
    name = f"{PREFIX}1"
    try:
        if REUSE:
            lab("up", "1", "--name", PREFIX)
        else:
            subprocess.run([ROOT / "tools/lab/prepared_vm.sh", VENV, PREFIX], stdout=subprocess.DEVNULL, check=True)
        inventory = tmp_path_factory.mktemp("lab") / "inventory.yml"
        lab("inventory", "--output", str(inventory))
        environment = dict(line.split("=", 1) for line in lab("s3", "env").splitlines())
        environment["AWS_ENDPOINT_URL"] = environment["FLYD_S3_ENDPOINT_FROM_VM"]
        lab("s3", "put", lab("image", "redis").strip(), REDIS_KEY)
        yield Machine(name, inventory, environment)
    finally:
        if not REUSE and not os.environ.get("FLYD_E2E_KEEP"):
            lab("down", name)
            if not s3_was_up:
                lab("s3", "down")


@pytest.fixture(scope="session")
def wheels() -> Path:
    """A directory of wheels for the VM, which has no package index within reach."""
    directory = ROOT / "build/wheels"
    subprocess.run([ROOT / "tools/lab/wheels.sh", VENV, directory], check=True)
    return directory


@pytest.fixture(scope="session")
def target(prepared: Machine) -> Target:
    """The same VM, for runs of modules without a controller: many in the time of one play."""
    target = Target(prepared.name)
    target.install()
    return target


@pytest.fixture(scope="session")
def upload(prepared: Machine, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, bytes], None]:
    """Puts bytes into the bucket under a key."""
    directory = tmp_path_factory.mktemp("objects")

    def put(key: str, data: bytes) -> None:
        path = directory / "data"
        path.write_bytes(data)
        lab("s3", "put", str(path), key)

    return put


@pytest.fixture(scope="session")
def activation(prepared: Machine) -> Play:
    """The first run of activate.yml for the redis image."""
    play = prepared.play("playbooks/activate.yml", "tools/lab/prove_redis.yml", key=REDIS_KEY)
    assert play.returncode == 0, play.output
    return play

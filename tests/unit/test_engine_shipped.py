# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules that Ansible itself ships to this machine take the engine where it is the same: flyd_info, and a module that starts over.

The collection is a copy whose engine lies in a directory of the test. In that engine one file has been compiled from another text than its
CRC-32 says, which no other way shows in a result where code came from.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from module_utils import _engine
from tests.unit.support.engines import CAN_TRY, ROOT_ALONE, WHY_NOT, with_other_code

pytest.importorskip("ansible.executor", reason="ansible-core is not installed")

ROOT = Path(__file__).parents[2]
VERSION = "_lifecycle/version.py"
AGAIN = """#!/usr/bin/python
import sys
import ansible_collections.flyd.lite.plugins.module_utils._engine
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.respawn import has_respawned, respawn_module
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.version import COLLECTION_VERSION

module = AnsibleModule(argument_spec={}, supports_check_mode=True)
if not has_respawned():
    respawn_module(sys.executable)
module.exit_json(host={"collection_version": COLLECTION_VERSION}, respawned=has_respawned())
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CAN_TRY, reason=WHY_NOT),
]


class Shipping:
    """A controller that is its own host."""

    def __init__(self, home: Path) -> None:
        self.home, self.engine = home, home / "engine"
        self.collection = home / "collections/ansible_collections/flyd/lite"
        shutil.copytree(ROOT / "plugins", self.collection / "plugins", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(ROOT / "meta", self.collection / "meta")
        gate = self.package / "_engine.py"
        gate.write_text(gate.read_text().replace(f'"{_engine.PATH}"', repr(str(self.engine))))
        (self.collection / "plugins/modules/again.py").write_text(AGAIN)

    @property
    def package(self) -> Path:
        return self.collection / "plugins/module_utils"

    def install(self) -> None:
        """An engine in which one file, for its right CRC-32 and size, says that it is the engine's."""
        sources = {str(path.relative_to(self.package)): path.read_bytes() for path in self.package.rglob("*.py")}
        other = sources[VERSION].replace(b'COLLECTION_VERSION = "', b'COLLECTION_VERSION = "engine ')
        self.engine.write_bytes(with_other_code(sources, VERSION, other))
        self.engine.chmod(0o644)

    def run(self, module: str, *options: str, check: bool = False) -> dict[str, Any]:
        argv = [sys.executable, "-m", "ansible", "adhoc", "localhost", "-i", "localhost,", "-c", "local"]
        argv += [
            "-e",
            f"ansible_python_interpreter={sys.executable}",
            "-m",
            f"flyd.lite.{module}",
            "-a",
            " ".join(options),
        ]
        environment = {
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(self.home / "collections"),
            "ANSIBLE_HOME": str(self.home / "ansible"),
            "ANSIBLE_STDOUT_CALLBACK": "minimal",
        }
        done = subprocess.run(
            [*argv, *(["--check"] if check else [])], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        found: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])
        return found

    def version(self, module: str = "flyd_info", **how: bool) -> str:
        options = [f"state_dir={self.home}/state", "what=host"] if module == "flyd_info" else []
        return str(self.run(module, *options, **how)["host"]["collection_version"])


@pytest.fixture(scope="module")
def shipping() -> Iterator[Shipping]:
    with tempfile.TemporaryDirectory(prefix="flyd-test-", dir=ROOT_ALONE) as directory:
        yield Shipping(Path(directory))


def test_a_module_of_ansible_runs_from_the_engine_or_from_what_was_shipped(shipping: Shipping) -> None:
    shipped = shipping.version()
    shipping.install()
    assert shipping.version() == f"engine {shipped}"
    assert shipping.version(check=True) == f"engine {shipped}"
    shipping.engine.chmod(0o666)
    assert shipping.version() == shipped
    shipping.install()
    source = shipping.package / VERSION
    source.write_text(source.read_text() + "\n")
    assert shipping.version() == shipped


def test_a_module_that_starts_over_runs_from_the_engine_again(shipping: Shipping) -> None:
    shipping.install()
    found = shipping.run("again")
    assert found["respawned"] is True
    assert found["host"]["collection_version"].startswith("engine ")

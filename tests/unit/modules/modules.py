# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the real modules, from their options to the JSON that they print, on the simulated host.

Invariant: nothing of a module is replaced but the host that it opens. Each run has a store, a runner and a device-mapper of its own, as
in a process of its own.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import signal
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible.module_utils.common.warnings import _global_warnings
from ansible.module_utils.testing import patch_module_args

from module_utils._host.processes.command import Runner
from module_utils._lifecycle import run as host_module
from tests.unit._lifecycle.machine import Machine

REPOSITORY = Path(__file__).parents[3]
MODULES = ("flyd_pool", "flyd_fetch", "flyd_unpack", "flyd_snapshot", "flyd_instance", "flyd_prune", "flyd_info")
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_SHIPPED = "ansible_collections.flyd.lite.plugins.module_utils"


@functools.cache
def source(name: str) -> types.ModuleType:
    """The module ``name``, with the module_utils that the tests import."""
    path = REPOSITORY / f"plugins/modules/{name}.py"
    module = types.ModuleType(name)
    exec(compile(path.read_text().replace(_SHIPPED, "module_utils"), str(path), "exec"), module.__dict__)  # noqa: S102
    return module


@contextlib.contextmanager
def _without_earlier_warnings() -> Iterator[None]:
    """AnsibleModule keeps warnings for its process: each run is to have its own, and leave none to other tests."""
    _global_warnings.clear()
    try:
        yield
    finally:
        _global_warnings.clear()


class Result(dict[str, Any]):
    """What a module printed."""

    @property
    def warned(self) -> list[str]:
        """The texts of its warnings."""
        return [one["event"]["msg"] if isinstance(one, dict) else str(one) for one in self.get("warnings", [])]


class Modules:
    """The modules of the collection on the host of ``machine``."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def run(self, name: str, options: dict[str, Any], *, check: bool = False, diff: bool = False) -> Result:
        """What the module ``name`` prints, called with ``options``; state_dir is the machine's unless it is given."""
        given = {"state_dir": str(self.machine.state), **options}
        flags = {"_ansible_check_mode": check, "_ansible_diff": diff}
        printed = io.StringIO()
        with contextlib.ExitStack() as stack:
            stack.enter_context(patch_module_args({**given, **flags}))
            stack.enter_context(contextlib.redirect_stdout(printed))
            stack.enter_context(self._on_this_host())
            stack.enter_context(_without_earlier_warnings())
            stack.enter_context(contextlib.suppress(SystemExit))
            source(name).main()
        return Result(json.loads(printed.getvalue()))

    @contextlib.contextmanager
    def _on_this_host(self) -> Iterator[None]:
        """The programs and the device-mapper of the simulated host, and the signals given back that a module takes."""
        search = self.machine.fake.runner.search
        handlers = {number: signal.getsignal(number) for number in _SIGNALS}
        names = vars(host_module)
        real = {name: names[name] for name in ("Runner", "DeviceMapper")}
        names.update(
            Runner=lambda *, timeout_seconds: Runner(timeout_seconds=timeout_seconds, search=search),
            DeviceMapper=self.machine.fake.device_mapper,
        )
        try:
            yield
        finally:
            names.update(real)
            for number, handler in handlers.items():
                signal.signal(number, handler)

#!/usr/bin/env python3
# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the collection's own modules on this machine, one after the other, without a controller.

    drive.py < STEPS        STEPS is a JSON list of {"module": NAME, "options": {…}, "check": false, "crash_at": LABEL, "inject": […]},
                            of {"shell": COMMAND}, and of {"at_once": [STEPS, …]}, lists that run side by side
    drive.py --serve        each line of standard input is an object {"steps": STEPS, "all": false}; an empty object ends its answer
    drive.py --listen PORT  the same for the one that connects to that port of the loopback, each in a fork, with everything imported once

Prints a line of JSON for each step: what the module printed, with ``driven`` added: its exit code, or the negative number of the signal
that ended it, and ``took``, its seconds without the start of Python. The first step that fails is the last one, unless ``--all`` is
given. Exit code 0 when every step succeeded.

``inject`` are arguments for strace, which is attached to the module before its first step: its calls are counted from there. What strace
wrote is in the result as ``traced``.

A play costs an emulated machine many seconds, most of them Ansible's; here Python starts once, and each module is a fork of it:
what a fork does is what the module would do, as a process of its own.

Invariant: a module runs as it would from Ansible (its own main, options checked by its own specification), in a session of its own.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any, NoReturn

PLUGINS = "ansible_collections.flyd.lite.plugins"
MODULES = f"{PLUGINS}.modules"
CRASH_POINT = "FLYD_CRASH_POINT"
_NOT_A_RESULT = 70
_TRACER_SECONDS = 60.0
_LONGEST_TRACE = 4 << 20


def run_step(step: dict[str, Any]) -> dict[str, Any]:
    """What the step printed, as JSON; ``driven`` is how its process ended."""
    if "shell" in step:
        done = subprocess.run(step["shell"], shell=True, capture_output=True, text=True, check=False)  # noqa: S602 - a step is a shell command of a campaign
        return {"stdout": done.stdout, "stderr": done.stderr, "driven": done.returncode}
    return _run_at_once(step["at_once"]) if "at_once" in step else _run_module(step)


def _run_at_once(lists: list[list[dict[str, Any]]]) -> dict[str, Any]:
    """What the steps of each list printed; each list ends with its first step that fails."""
    with tempfile.TemporaryDirectory(prefix="drive-") as directory:
        pids = [_beside(steps, os.path.join(directory, str(number))) for number, steps in enumerate(lists)]
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        results = [json.loads(Path(directory, str(number)).read_text()) for number in range(len(lists))]
    return {"at_once": results, "driven": max(codes)}


def _beside(steps: list[dict[str, Any]], output: str) -> int:
    """The pid of a fork that runs ``steps`` and writes what they printed to the file ``output``."""
    pid = os.fork()
    if pid == 0:
        code = _NOT_A_RESULT
        try:
            results: list[dict[str, Any]] = []
            while len(results) < len(steps) and not (results and results[-1]["driven"]):
                results.append(run_step(steps[len(results)]))
            Path(output).write_text(json.dumps(results))
            code = min(1, abs(results[-1]["driven"]))
        finally:
            os._exit(code)
    return pid


def _run_module(step: dict[str, Any]) -> dict[str, Any]:
    begun = time.monotonic()
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read_end)
        _become_module(step, write_end)
    os.close(write_end)
    with tempfile.TemporaryDirectory(prefix="drive-") as directory:
        trace = Path(directory, "trace")
        tracer = _attached(pid, step["inject"], trace) if step.get("inject") else None
        with os.fdopen(read_end, "rb") as pipe:
            printed = pipe.read()
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        ended = {"driven": code, "took": time.monotonic() - begun}
        if tracer is None:
            return {**_result(printed), **ended}
        tracer.wait(timeout=_TRACER_SECONDS)
        return {**_result(printed), **ended, "traced": trace.read_text(errors="replace")[-_LONGEST_TRACE:]}


def _attached(pid: int, injected: list[str], trace: Path) -> subprocess.Popen[bytes]:
    """strace at the process, which has stopped itself and goes on now."""
    os.waitpid(pid, os.WUNTRACED)
    tracer = subprocess.Popen(["strace", "-f", "-qq", "-o", trace, "-p", str(pid), *injected])
    until = time.monotonic() + _TRACER_SECONDS
    while "TracerPid:\t0\n" in Path(f"/proc/{pid}/status").read_text():
        if tracer.poll() is not None or time.monotonic() > until:
            os.kill(pid, signal.SIGKILL)
            raise RuntimeError("strace could not be attached")
        time.sleep(0.01)
    os.kill(pid, signal.SIGCONT)
    return tracer


def _become_module(step: dict[str, Any], output: int) -> NoReturn:
    try:
        os.setsid()
        os.dup2(output, 1)
        os.close(output)  # as from Ansible, a module's output is its descriptor 1 alone
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        if step.get("inject"):
            os.kill(os.getpid(), signal.SIGSTOP)
        if step.get("crash_at"):
            os.environ[CRASH_POINT] = str(step["crash_at"])
        _run(str(step["module"]), {**step.get("options", {}), "_ansible_check_mode": bool(step.get("check"))})
    except SystemExit as ended:
        sys.stdout.flush()
        os._exit(ended.code if isinstance(ended.code, int) else 1)
    except BaseException:  # noqa: BLE001 - a fork must never return into its parent's code
        traceback.print_exc()
    os._exit(_NOT_A_RESULT)


def _run(name: str, options: dict[str, Any]) -> None:
    from ansible.module_utils.testing import patch_module_args

    module = importlib.import_module(f"{MODULES}.{name}")
    with patch_module_args({**options, "_ansible_diff": True}):
        module.main()


def _result(printed: bytes) -> dict[str, Any]:
    lines = [line for line in printed.decode("utf-8", "replace").splitlines() if line.startswith("{")]
    result: dict[str, Any] = json.loads(lines[-1]) if lines else {}
    return result


def _import_once(steps: list[dict[str, Any]]) -> None:
    """What the steps need is imported before the first fork, so that none of them pays for it again."""
    for step in steps:
        for beside in step.get("at_once", []):
            _import_once(beside)
        if "module" in step:
            importlib.import_module(f"{MODULES}.{step['module']}")
    importlib.import_module("ansible.module_utils.testing")


def _import_all() -> None:
    """Every module, and all that any of them imports when it needs it."""
    for package in (f"{PLUGINS}.module_utils", MODULES):
        found = importlib.import_module(package)
        for module in pkgutil.walk_packages(found.__path__, f"{package}."):
            importlib.import_module(module.name)
    for name in ("ansible.module_utils.testing", "boto3", "ulid", "sqlite3"):
        importlib.import_module(name)


def run_all(steps: list[dict[str, Any]], *, go_on: bool) -> bool:
    """Run the steps, print their results; whether all succeeded."""
    ok = True
    for step in steps:
        result = run_step(step)
        print(json.dumps(result), flush=True)
        ok = ok and result["driven"] == 0
        if not ok and not go_on:
            break
    return ok


def listen(port: int) -> int:
    """Serve the one that connects, in forks that have imported everything."""
    _import_all()
    with socket.create_server(("127.0.0.1", port)) as server:
        while True:
            connection, _address = server.accept()
            with connection:
                if os.fork() == 0:
                    os.dup2(connection.fileno(), 0)
                    os.dup2(connection.fileno(), 1)
                    server.close()
                    connection.close()
                    return serve()
            while _is_gone():
                pass


def _is_gone() -> bool:
    """Whether a fork has ended that was not known to have."""
    try:
        return os.waitpid(-1, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return False


def serve() -> int:
    """Answer requests until the input ends."""
    _import_all()
    print("{}", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        run_all(request["steps"], go_on=request["all"])
        print("{}", flush=True)
    return 0


def main() -> int:
    """Run the steps of standard input; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--all", action="store_true", help="go on behind a step that failed")
    parser.add_argument("--serve", action="store_true", help="read requests until the input ends")
    parser.add_argument("--listen", type=int, default=0, metavar="PORT", help="serve whoever connects to that port")
    parser.add_argument("--path", action="append", default=[], help="a directory to import from")
    given = parser.parse_args()
    sys.path[:0] = [str(Path(path).resolve()) for path in given.path]
    if given.listen:
        return listen(given.listen)
    if given.serve:
        return serve()
    steps: list[dict[str, Any]] = json.load(sys.stdin)
    _import_once(steps)
    return 0 if run_all(steps, go_on=given.all) else 1


if __name__ == "__main__":
    sys.exit(main())

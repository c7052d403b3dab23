"""What starting a module costs: CPU time of each module with nothing to do, beside ping, without and with what prepare has compiled.

    python -m bench.start [--rounds N]

Ansible ships each module to this machine once and leaves it there; then it is run as Ansible runs it. The collection is a copy whose engine lies
in a directory of the benchmark. Root only.

Invariant: the runs are taken in turn, so that whatever else the machine does meets all of them; a run that fails ends the benchmark.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.harness.measuring import BenchError, environment
from module_utils import _engine
from module_utils._host import compiling

PLUGINS = Path(_engine.__file__).parents[1]
ROOT_ALONE = "/var/lib"
ABSENT = {
    "flyd_pool": "name=bench state=absent",
    "flyd_fetch": "key=bench bucket=bench state=absent",
    "flyd_unpack": "key=bench state=absent",
    "flyd_snapshot": "key=bench state=absent",
    "flyd_info": "",
}


class Shipped:
    """The modules as Ansible ships them, below ``home``."""

    def __init__(self, home: Path) -> None:
        self.home, self.engine = home, home / "engine"
        collection = home / "collections/ansible_collections/flyd/lite"
        shutil.copytree(PLUGINS, collection / "plugins", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(PLUGINS.parent / "meta", collection / "meta")
        self.package = collection / "plugins/module_utils"
        gate = self.package / "_engine.py"
        gate.write_text(gate.read_text().replace(f'"{_engine.PATH}"', repr(str(self.engine))))
        self.programs = {"ping": self._ship("ansible.builtin.ping", "")}
        for name, options in ABSENT.items():
            self.programs[name] = self._ship(f"flyd.lite.{name}", f"state_dir={home}/state {options}")

    def _ship(self, name: str, options: str) -> Path:
        argv = [sys.executable, "-m", "ansible", "adhoc", "localhost", "-i", "localhost,", "-c", "local", "--check"]
        argv += ["-e", f"ansible_python_interpreter={sys.executable}", "-m", name, "-a", options]
        kept = self.home / "kept" / name
        environment = {
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(self.home / "collections"),
            "ANSIBLE_HOME": str(self.home / "ansible"),
            "ANSIBLE_KEEP_REMOTE_FILES": "1",
            "ANSIBLE_REMOTE_TMP": str(kept),
        }
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
        found = list(kept.rglob("AnsiballZ_*.py"))
        if done.returncode or len(found) != 1:
            raise BenchError(f"{name} failed: {done.stdout}{done.stderr}")
        return found[0]

    def install(self) -> None:
        """The engine of all that is shipped."""
        sources = {str(path.relative_to(self.package)): path.read_text() for path in self.package.rglob("*.py")}
        if not compiling.install(str(self.engine), sources):
            raise BenchError(f"{_engine.unsafe_parent(str(self.engine))} is not root's alone")


def cpu_seconds(program: Path) -> float:
    """User and system time of one run."""
    quiet = os.open(os.devnull, os.O_WRONLY)
    try:
        actions = [(os.POSIX_SPAWN_DUP2, quiet, 1)]
        pid = os.posix_spawn(sys.executable, [sys.executable, str(program)], environment(), file_actions=actions)
    finally:
        os.close(quiet)
    _, status, used = os.wait4(pid, 0)
    if status:
        raise BenchError(f"{program} ended with {status}")
    return used.ru_utime + used.ru_stime


def measure(shipped: Shipped, rounds: int) -> dict[tuple[str, bool], float]:
    """The median of each module, without and with the engine."""
    shipped.install()
    hidden = shipped.engine.with_name("hidden")
    taken: dict[tuple[str, bool], list[float]] = {}
    for _ in range(rounds):
        for name, program in shipped.programs.items():
            taken.setdefault((name, True), []).append(cpu_seconds(program))
            shipped.engine.rename(hidden)
            taken.setdefault((name, False), []).append(cpu_seconds(program))
            hidden.rename(shipped.engine)
    return {key: statistics.median(one) for key, one in taken.items()}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    given = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="flyd-bench-", dir=ROOT_ALONE) as directory:
        try:
            shipped = Shipped(Path(directory))
            found = measure(shipped, given.rounds)
        except (BenchError, OSError) as error:
            print(error, file=sys.stderr)
            return 1
        sizes = {name: program.stat().st_size for name, program in shipped.programs.items()}
    ping = min(found["ping", True], found["ping", False])
    print(f"load {load:.1f}, {given.rounds} rounds, medians of CPU time, Python {sys.version.split()[0]}")
    print(f"{'ping':14} {1000 * ping:4.0f} ms, {sizes['ping'] // 1000} kB shipped")
    for name in ABSENT:
        before, after = found[name, False], found[name, True]
        saved = 100 * (before - after) / (before - ping)
        print(
            f"{name:14} {1000 * before:4.0f} ms as shipped, {1000 * after:4.0f} ms compiled: {saved:.0f} % less beyond ping;"
            f" {sizes[name] // 1000} kB shipped"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())

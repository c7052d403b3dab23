"""A containerd for the benchmark alone, with its state below a directory of the benchmark.

Invariant: the host's containerd, if there is one, is neither asked nor touched; ours is ended by its pid.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from bench.harness.measuring import Argv, BenchError, environment, run

_PATIENCE_SECONDS = 30.0
_SNAPSHOTTER = "overlayfs"


class Daemon:
    """containerd with its socket and state in ``work``; its content and snapshots are where ``running`` puts them."""

    def __init__(self, work: Path) -> None:
        self._work = work
        self._socket = work / "containerd.sock"

    @contextlib.contextmanager
    def running(self, root: Path, work: Path) -> Iterator[None]:
        """Have the daemon running with its data in ``root``."""
        config = work / "containerd.toml"
        config.write_text('version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n')
        argv: Argv = ["containerd", "--config", config, "--root", root / "containerd", "--state", work / "state"]
        log = work / "containerd.log"
        with log.open("wb") as out:
            daemon = subprocess.Popen([*argv, "--address", self._socket], stdout=out, stderr=out, env=environment())
        try:
            self._wait(daemon, log)
            yield
        finally:
            daemon.terminate()
            daemon.wait()

    def _wait(self, daemon: subprocess.Popen[bytes], log: Path) -> None:
        until = time.monotonic() + _PATIENCE_SECONDS
        while subprocess.run(self.ctr("version"), capture_output=True, check=False).returncode != 0:
            if daemon.poll() is not None or time.monotonic() > until:
                raise BenchError(f"containerd does not answer: {log.read_text()[-600:]}")
            time.sleep(0.1)

    def ctr(self, *arguments: str | Path) -> list[str | Path]:
        """A command of the client to this daemon."""
        return ["ctr", "--address", self._socket, *arguments]

    def import_argv(self, archive: Path) -> Argv:
        """The command that imports a docker archive and unpacks it."""
        return self.ctr("images", "import", "--snapshotter", _SNAPSHOTTER, archive)

    @contextlib.contextmanager
    def mounted(self, _root: Path) -> Iterator[Path]:
        """The merged tree of the only image, mounted for reading."""
        target = self._work / "mounted"
        target.mkdir(exist_ok=True)
        name = run(self.ctr("images", "list", "--quiet"), environment()).split()[0]
        run(self.ctr("images", "mount", "--snapshotter", _SNAPSHOTTER, name, target), environment())
        try:
            yield target
        finally:
            run(["umount", target], environment())

"""The golden disk: a machine that has booted and was saved, memory and all.

Invariant: a golden disk is only ever copied. It is valid for one base image, one QEMU and one
accelerator, all of which are in its name, because a saved state loads into nothing else.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from disks.base_image import BaseImage
from disks.cache import Cache, discard, made_whole
from disks.packages import ensure_programs
from processes import Daemon
from programs import LabError, run
from qemu import PROGRAM, Accelerator, Machine
from ssh import Endpoint, private_key

SNAPSHOT = "ready"
COLD_BOOT_TIMEOUT_SECONDS = 600.0
"""Emulated on an idle host it takes 25 s; on a busy one it has taken two minutes."""

# What the first Ansible task of every scenario would otherwise read from disk, and systemd's last jobs.
_SETTLE = "systemctl is-system-running --wait >/dev/null; python3 -c 'import json, sqlite3, ssl, subprocess'; sync"
_SETTLE_TIMEOUT_SECONDS = 300.0


def golden_disk(cache: Cache, base: BaseImage, accelerator: Accelerator, port: int) -> Path:
    """The golden disk of that base, made by a cold boot when missing; ``port`` is free for that boot's sshd."""
    ensure_programs(PROGRAM, "qemu-img", log=cache.directory("logs") / "packages.log")
    with cache.lock("golden"):
        golden = cache.root / f"golden-{_fingerprint(base, accelerator)}.qcow2"
        if not golden.exists():
            directory = cache.directory("run/golden")
            machine = Machine("flyd-lab", directory, base.kernel, base.initrd, port, accelerator)
            _boot_and_save(machine, base, Endpoint(machine.name, port, private_key(cache), directory / "ssh.sock"))
            with made_whole(golden) as part:
                machine.disk.rename(part)
            discard(directory)
        return golden


def _fingerprint(base: BaseImage, accelerator: Accelerator) -> str:
    # The path of the base's disk counts, because it is written into the overlay.
    version = run([PROGRAM, "--version"], timeout_seconds=30)
    recipe = Machine("", Path(), base.kernel, base.initrd, 0, accelerator).argv(snapshot=None)
    return hashlib.sha256(repr((version, str(base.disk), recipe, _SETTLE)).encode()).hexdigest()[:12]


def _boot_and_save(machine: Machine, base: BaseImage, endpoint: Endpoint) -> None:
    daemon = Daemon(machine.pid_file, mark=str(machine.pid_file))
    daemon.kill()  # of a build that was interrupted
    endpoint.drop_connection()
    discard(machine.disk)
    discard(machine.console)
    run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", base.disk, machine.disk], timeout_seconds=30)
    try:
        machine.start()
        endpoint.wait_until_it_answers("true", timeout_seconds=COLD_BOOT_TIMEOUT_SECONDS, alive=daemon.is_running)
        endpoint.run(_SETTLE, timeout_seconds=_SETTLE_TIMEOUT_SECONDS)
        endpoint.drop_connection()
        machine.save(SNAPSHOT)
        machine.quit()
        if not daemon.await_end():
            raise LabError(f"QEMU does not end after saving {machine.name}")
    except LabError as error:
        advice = "; FLYD_LAB_ACCEL=tcg does without KVM" if machine.accelerator is Accelerator.KVM else ""
        raise LabError(f"{error}; its console is in {machine.console}{advice}") from None
    finally:
        daemon.kill()

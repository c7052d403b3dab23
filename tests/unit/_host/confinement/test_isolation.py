"""What keeps a process apart."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from module_utils._errors import Unsupported
from module_utils._host.confinement.isolation import MS_NODEV, mount, no_new_privileges, own_mount_namespace, unmount
from module_utils._host.processes.child import in_child
from tests.unit.support.real import needs_loops


def test_a_child_cannot_gain_privileges() -> None:
    status = in_child(lambda: Path("/proc/self/status").read_text(), what="looking")
    assert "NoNewPrivs:\t1" in status


def test_privileges_are_given_up_for_good() -> None:
    assert in_child(no_new_privileges, what="giving up") is None


@needs_loops
def test_real_a_mount_of_the_child_is_seen_by_no_other_process(tmp_path: Path) -> None:
    def work() -> bool:
        own_mount_namespace()
        mount("tmpfs", str(tmp_path), "tmpfs", MS_NODEV)
        (tmp_path / "inside").touch()
        return os.path.ismount(tmp_path)

    assert in_child(work, what="mounting") is True
    assert list(tmp_path.iterdir()) == []


@needs_loops
def test_real_unmounting_never_forces(tmp_path: Path) -> None:
    def work() -> None:
        own_mount_namespace()
        mount("tmpfs", str(tmp_path), "tmpfs", MS_NODEV)
        with open(tmp_path / "held", "w"):
            unmount(str(tmp_path))

    with pytest.raises(Unsupported, match="Device or resource busy"):
        in_child(work, what="unmounting")

"""What is laid over Debian is root's, and lets in one key only."""

from __future__ import annotations

import tarfile
from pathlib import Path

from disks.guest_files import MASKED, guest_files, write_tar


def test_the_key_is_the_only_way_in() -> None:
    files = {file.path: file for file in guest_files("ssh-ed25519 AAAA lab")}
    assert files["root/.ssh/authorized_keys"].text == "ssh-ed25519 AAAA lab\n"
    assert files["root/.ssh/authorized_keys"].mode == 0o600
    assert "PasswordAuthentication no" in files["etc/ssh/sshd_config.d/lab.conf"].text


def test_timers_are_masked() -> None:
    links = {file.path.rpartition("/")[2]: file.link for file in guest_files("key") if file.link}
    assert {links[unit] for unit in MASKED} == {"/dev/null"}


def test_all_files_belong_to_root(tmp_path: Path) -> None:
    write_tar(guest_files("key"), tmp_path / "files.tar")
    with tarfile.open(tmp_path / "files.tar") as tar:
        assert {(member.uid, member.gid) for member in tar} == {(0, 0)}

"""What the lab lays over Debian's own files in a virtual machine.

Invariant: the machine stays a stock Debian. It gets an address, lets root in by the lab's key alone,
and runs nothing by timer that would make two runs of a test differ.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_UNITS = "etc/systemd/system"

MASKED = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "serial-getty@ttyS0.service",  # the console is a file: no user can log in there
)

# One connection carries all sessions of ssh and Ansible to a machine: the default of 10 is soon reached.
# PAM has nothing to say about root with a key, and costs an emulated machine a quarter of a second.
_SSHD_CONFIG = """\
PasswordAuthentication no
PermitRootLogin prohibit-password
MaxSessions 100
UseDNS no
UsePAM no
"""

# 10.0.2.3 is the name server of QEMU's user network.
_TEXTS = {
    "etc/fstab": "/dev/vda / ext4 defaults 0 1\n",
    "etc/hostname": "flyd-lab\n",
    "etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "etc/resolv.conf": "nameserver 10.0.2.3\n",
    "etc/systemd/network/20-lab.network": "[Match]\nName=en* eth*\n[Network]\nDHCP=ipv4\n",
    "etc/ssh/sshd_config.d/lab.conf": _SSHD_CONFIG,
    # Not executing itself again for each connection, which takes half a second when emulated.
    "etc/default/ssh": "SSHD_OPTS=-r\n",
}


@dataclass(frozen=True)
class GuestFile:
    """A regular file, or a symbolic link when ``link`` says where to."""

    path: str
    text: str = ""
    link: str = ""
    mode: int = 0o644


def guest_files(public_key: str) -> list[GuestFile]:
    """All files to lay over the tree; ``public_key`` is one line of authorized_keys."""
    return [
        *(GuestFile(path, text=text) for path, text in _TEXTS.items()),
        GuestFile("root/.ssh/authorized_keys", text=f"{public_key.strip()}\n", mode=0o600),
        GuestFile(
            f"{_UNITS}/multi-user.target.wants/systemd-networkd.service",
            link="/lib/systemd/system/systemd-networkd.service",
        ),
        *(GuestFile(f"{_UNITS}/{unit}", link="/dev/null") for unit in MASKED),
    ]


def write_tar(files: Iterable[GuestFile], tar: Path) -> None:
    """A tar of these files, all owned by root, for any user that runs the lab."""
    with tarfile.open(tar, "w") as archive:
        for file in files:
            data = file.text.encode()
            member = tarfile.TarInfo(file.path)
            member.mode = file.mode
            if file.link:
                member.type, member.linkname = tarfile.SYMTYPE, file.link
            else:
                member.size = len(data)
            archive.addfile(member, io.BytesIO(data))

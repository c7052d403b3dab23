"""A machine of the lab with LVM, md, multipath, bcache and btrfs as Debian installs them, and a second disk on which the host has things.

The first run installs the packages and makes what guests write, which takes long on an emulated machine; the machine is kept in the lab for
the next ones. FLYD_GUESTS_WITHOUT (rule, flags, lvm, mdadm) takes one wall away, to see what fails then; FLYD_GUESTS_KEEP leaves the
machine running, and FLYD_GUESTS_REUSE takes it as the last run has left it: for who writes a test.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.campaigns.harness.campaign import Campaign
from tests.e2e.machine import LAB, lab
from tests.guests.host import WALLS, Host

PREFIX = os.environ.get("FLYD_GUESTS_VM", "guests")
REUSE = bool(os.environ.get("FLYD_GUESTS_REUSE"))
WITHOUT = os.environ.get("FLYD_GUESTS_WITHOUT", "")
PACKAGES = ("lvm2", "mdadm", "multipath-tools", "btrfs-progs", "bcache-tools", "gdisk", "cryptsetup-bin")
HERE = Path(__file__).parent
# The initramfs of the lab is made for it, and is not asked for these.
INSTALL = f"""
export DEBIAN_FRONTEND=noninteractive
ln -sf /bin/true /usr/local/sbin/update-initramfs
apt-get -qq update && PATH=/usr/local/sbin:$PATH apt-get -qq install --yes --no-install-recommends {" ".join(PACKAGES)} > /root/install.log 2>&1 ||
    {{ cat /root/install.log >&2; exit 1; }}
"""


class ReadingHost(Campaign):
    """The machine, which starts as it was kept."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        made_of = (HERE / "make_attacks.sh").read_bytes() + " ".join(PACKAGES).encode()
        self._state = f"guests-{hashlib.sha256(made_of).hexdigest()[:12]}"

    def reset(self) -> None:
        """The machine as it was kept, with the modules."""
        self.session.close()
        if REUSE:
            return
        name = self.target.name
        if subprocess.run([*LAB, "saved", self._state], capture_output=True, check=False).returncode:
            lab("reset", name)
            self.target.ssh(INSTALL)
            self.target.ssh("bash -s", stdin=(HERE / "make_attacks.sh").read_bytes())
            lab("save", name, self._state)
        lab("reset", name, "--from", self._state)
        self.target.install()


@pytest.fixture(scope="session")
def host() -> Iterator[Host]:
    """The host with its own disk, and all walls but the one that is left out."""
    assert WITHOUT in ("", *WALLS), f"FLYD_GUESTS_WITHOUT is one of {', '.join(WALLS)}"
    campaign = ReadingHost(f"{PREFIX}1")
    try:
        campaign.start()
        made = Host(campaign)
        if not REUSE:
            lab("attach", campaign.target.name, "--new")
            made.prepare(without=WITHOUT)
        yield made
    finally:
        campaign.session.close()
        if not (REUSE or os.environ.get("FLYD_GUESTS_KEEP")):
            campaign.close()

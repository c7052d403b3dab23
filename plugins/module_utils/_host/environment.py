# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check the virtual environment that the role prepare creates.

Invariant: nothing of it is imported or run. The check of every module costs a dozen stat calls; ``damage`` is for reports, and checks
every file.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator

HOME = "/opt/flyd"
VENV = f"{HOME}/venv"
RESTORE_UNIT = "/etc/systemd/system/flyd-restore.service"
HINT = "run the role flyd.lite.prepare on this host: it makes the environment again"
# What the modules cannot do without, as it lies in site-packages.
_NEEDED = (
    "boto3/__init__.py",
    "botocore/session.py",
    "s3transfer/__init__.py",
    "jmespath/__init__.py",
    "urllib3/__init__.py",
    "dateutil/__init__.py",
    "six.py",
    "ulid/__init__.py",
)
_VERSION = re.compile(r"python(3\.\d+)$")
_FEW = 3


def interpreter(home: str = HOME) -> str:
    """The environment's Python, by the path that does not change while this process runs."""
    return os.path.join(os.path.realpath(os.path.join(home, "venv")), "bin", "python")


def complaint(home: str = HOME, restore_unit: str = RESTORE_UNIT) -> str:
    """Why the modules cannot use the environment, in one sentence; empty when they can, and on a host that was never prepared."""
    venv = os.path.join(home, "venv")
    if not os.path.exists(venv):
        needed = os.path.lexists(venv) or os.path.exists(restore_unit)
        return (
            f"the environment {venv} is missing, so this host cannot restore its pools when it boots" if needed else ""
        )
    python = os.path.realpath(interpreter(home))
    if not os.access(python, os.X_OK):
        return f"the environment {venv} has no interpreter: {python} cannot be run"
    site = _site(venv, python)
    if not os.path.isdir(site):
        return f"the environment {venv} was made for another version of Python than {python}"
    missing = [name for name in _NEEDED if not os.path.exists(os.path.join(site, name))]
    return f"the environment {venv} does not work: {os.path.join(site, missing[0])} is missing" if missing else ""


def warnings() -> list[str]:
    """What every module warns of."""
    found = complaint()
    return [f"{found}: {HINT}"] if found else []


def damage(home: str = HOME) -> str:
    """Which installed files are missing or have another size than when they were installed, in one sentence; empty for none."""
    venv = os.path.join(home, "venv")
    site = _site(venv, os.path.realpath(interpreter(home)))
    found = sorted(_changed(site)) if os.path.isdir(site) else []
    few = ", ".join(found[:_FEW]) + (f" and {len(found) - _FEW} more" if len(found) > _FEW else "")
    return f"the environment {venv} is damaged: missing or of another size are {few}" if found else ""


def _site(venv: str, python: str) -> str:
    """Where the packages lie. An interpreter whose name has no version is taken to be the one that the environment was made with."""
    library = os.path.join(venv, "lib")
    named = _VERSION.search(python)
    if named:
        return os.path.join(library, f"python{named[1]}", "site-packages")
    made_for = sorted(os.listdir(library)) if os.path.isdir(library) else []
    return os.path.join(library, made_for[-1] if made_for else "python3", "site-packages")


def _changed(site: str) -> Iterator[str]:
    """Paths below ``site``, by the RECORD of each package (PEP 627)."""
    for package in sorted(os.listdir(site)):
        if package.endswith(".dist-info"):
            try:
                with open(os.path.join(site, package, "RECORD"), encoding="utf-8", newline="") as file:
                    rows = list(csv.reader(file))
            except OSError:
                yield f"{package}/RECORD"
                continue
            yield from (row[0] for row in rows if len(row) == 3 and row[2] and _size(site, row[0]) != int(row[2]))


def _size(site: str, name: str) -> int:
    """In bytes; -1 for a file that is missing."""
    try:
        return os.stat(os.path.join(site, name)).st_size
    except OSError:
        return -1

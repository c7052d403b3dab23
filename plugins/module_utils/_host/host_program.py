# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The program that the role prepare installs for flyd-restore.service and the metrics: whether it can open the database.

Invariant: nothing of it is run. Its first lines name the schema that it supports; a program without such a line is of an older release.
"""

from __future__ import annotations

import os
import re

PATH = "usr/local/lib/flyd-host.py"
GROW_UNIT = "etc/systemd/system/flyd-grow.service"
HINT = "run the role flyd.lite.prepare on this host: it installs the program of this release"
_HEAD_BYTES = 512
_SCHEMA = re.compile(rb"^# Schema of the database: (\d+)$", re.MULTILINE)


def complaint(schema_version: int, *, root: str = "/") -> str:
    """Why the installed program cannot open a database of ``schema_version``, in one sentence; empty when it can, or when there is none.

    ``root`` is where the host's files begin.
    """
    path = os.path.join(root, PATH)
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD_BYTES)
    except FileNotFoundError:  # a host that was not prepared, or without units
        return ""
    except OSError as error:
        return f"{path}, which activates pools at boot, cannot be read: {error.strerror}"
    found = _SCHEMA.search(head)
    known = int(found[1]) if found else 0
    if known >= schema_version:
        return ""
    what = (
        f"knows schema {known} of the database" if known else "is of a release that does not say which schema it knows"
    )
    return f"{path}, which activates pools at boot, {what}, and the database has schema {schema_version}"


def schema_of_installed(*, root: str = "/") -> int | None:
    """The schema of the database that the installed program knows; None when there is none, or it does not say."""
    try:
        with open(os.path.join(root, PATH), "rb") as file:
            found = _SCHEMA.search(file.read(_HEAD_BYTES))
    except OSError:
        return None
    return int(found[1]) if found else None


def lack_of_growth(pool_name: str, *, root: str = "/") -> list[str]:
    """What flyd_pool warns of for a pool with a max_size, on a host that was prepared without the service that lets it grow."""
    if not os.path.exists(os.path.join(root, PATH)) or os.path.exists(os.path.join(root, GROW_UNIT)):
        return []
    text = f"the pool '{pool_name}' has a max_size, and this host has no flyd-grow.service: it grows only when a module makes something in it"
    return [f"{text}; run the role flyd.lite.prepare on this host, with prepare_grow: true"]


def warnings(schema_version: int, *, root: str = "/") -> list[str]:
    """What flyd_pool warns of."""
    found = complaint(schema_version, root=root)
    return [f"{found}: at the next boot pools and snapshots stay inactive until a play runs; {HINT}"] if found else []

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parts of downloads in state_dir/spool whose intent is gone: no run would resume them, and none would remove them.

Invariant: a part is made after its intent was committed and removed before that is dropped, so one without an intent is in no use.
It is left where a database was put back that is older than the download.
"""

from __future__ import annotations

import os
import re

from ..._host.files.durable import file_errors, remove_file
from ..run import Run
from ..store.records import Operation

_OF_AN_INTENT = re.compile(r"([0-9A-HJKMNP-TV-Z]{26})\..+")


def ownerless_parts(host: Run) -> list[str]:
    """Their paths. What has another kind of name is another program's; a spool that cannot be read has none."""
    try:
        names = sorted(os.listdir(host.settings.path("spool")))
    except OSError:
        return []
    found = [(name, intent[1]) for name in names if (intent := _OF_AN_INTENT.fullmatch(name))]
    if not found:
        return []
    owned = {operation.ulid for operation in host.store.all(Operation)}
    paths = [host.settings.path("spool", name) for name, ulid in found if ulid not in owned]
    # One that its run has removed since it was listed was no leftover.
    return [path for path in paths if os.path.lexists(path)]


def remove_ownerless_parts(host: Run) -> list[str]:
    """Remove them; the paths of what is gone. Raises ``FlydError`` when the disk does not let go of one."""
    with host.store.transaction(), file_errors("removing parts of downloads that no run owns"):
        return [path for path in ownerless_parts(host) if remove_file(path)]

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring back the pools and the activated snapshots of a host after its start, without a controller.

    python flyd-restore.pyz STATE_DIR

The main program of an archive that holds the collection's module_utils beside it; see pack.py. It does what the next play would do first,
and says on standard output what it did. Exit code 0 when all is back, 1 with the reason on standard error.
"""

from __future__ import annotations

import os
import sys

from module_utils._errors import FlydError
from module_utils._host.files import from_os_error
from module_utils._lifecycle.host import Settings, open_host
from module_utils._lifecycle.restore import restore
from module_utils._names import ShortName

LOCK_SECONDS = 300.0
PROGRAM_SECONDS = 120.0


def main() -> int:
    """Entry point; the argument is the state directory."""
    settings = Settings(
        state_dir=sys.argv[1],
        pool=ShortName("pool"),
        lock_timeout_seconds=LOCK_SECONDS,
        command_timeout_seconds=PROGRAM_SECONDS,
        retries=0,
        retry_delay_seconds=0.5,
    )
    if not os.path.exists(settings.path("flyd.db")):
        return 0  # nothing was ever made here
    try:
        with open_host(settings, dry_run=False) as host:
            outcome = restore(host)
    except (FlydError, OSError) as caught:
        error = caught if isinstance(caught, FlydError) else from_os_error(caught, "working on this host")
        sys.stderr.write(f"{error}\n{error.hint}\n")
        return 1
    done = [*outcome.settled, *(f"brought back {device}" for device in outcome.facts["restored"])]
    sys.stdout.write("".join(f"{line}\n" for line in done))
    return 0


if __name__ == "__main__":
    sys.exit(main())

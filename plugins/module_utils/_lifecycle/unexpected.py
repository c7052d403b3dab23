# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Convert any exception that ended a run to a ``FlydError``.

Invariant: the traceback of an internal error goes to the log only, and in a dry run, which writes nothing, nowhere.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterable

from .._errors import FlydError, Internal
from .._host.files.durable import from_os_error
from .._names import printable
from .run import Run


def as_flyd_error(error: BaseException, opened: Iterable[Run]) -> FlydError:
    """``error`` itself, or what it means; of a fault of flyd.lite the traceback is then in the log of the run ``opened``, if there is one."""
    if isinstance(error, FlydError):
        return error
    if isinstance(error, OSError):
        return from_os_error(error, "working on this host")
    where = "the log"
    for host in opened:
        if not host.dry_run:
            lines = traceback.format_exception(type(error), error, error.__traceback__)
            host.log.write("internal_error", traceback="".join(lines))
            where = host.settings.path("log", "flyd.jsonl")
    return Internal(
        f"a fault in flyd.lite itself: {type(error).__name__}: {printable(str(error))}",
        hint=f"please report it with the last lines of {where}; running again is safe: open work is settled first",
    )

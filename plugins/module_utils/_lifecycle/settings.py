# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options that all modules share."""

from __future__ import annotations

import os
from typing import NamedTuple

from .._host.retry import Retry
from .._names import ShortName


class Settings(NamedTuple):
    """The options that all modules share; times in seconds.

    ``starts_over``: a ``MissingLibrary`` makes the module start over in an interpreter that may have the package, so it is not to be
    done without. ``names_pool``: the pool was named, and is not the default.
    """

    state_dir: str
    pool: ShortName
    lock_timeout_seconds: float
    command_timeout_seconds: float
    retries: int
    retry_delay_seconds: float
    starts_over: bool = False
    names_pool: bool = False

    def path(self, *parts: str) -> str:
        """A path below the state directory."""
        return os.path.join(os.path.normpath(self.state_dir), *parts)

    def retry(self) -> Retry:
        """The retry policy of a run."""
        return Retry(attempts=self.retries + 1, base_seconds=self.retry_delay_seconds)

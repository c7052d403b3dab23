# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a prediction came true.

Invariant: a prediction may leave open only what cannot be known before: the ULIDs of what is made, and what only the bytes can tell.
"""

from __future__ import annotations

import json
import re
from typing import Any

# As _lifecycle/diff.py writes them. An ETag has quotes of its own.
_OPEN = {"<new ULID>": "[0-9A-HJKMNP-TV-Z]{26}", "<known after the download>": r"""(?:[^"/\\]|\\")+"""}


def came_true(predicted: Any, real: Any) -> bool:
    """Whether ``real`` is what ``predicted`` says; both are values of JSON."""
    pattern = re.escape(json.dumps(predicted, sort_keys=True))
    for mark, form in _OPEN.items():
        pattern = pattern.replace(re.escape(mark), form)
    return re.fullmatch(pattern, json.dumps(real, sort_keys=True)) is not None

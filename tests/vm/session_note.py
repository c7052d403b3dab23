"""Which session has started a machine or the S3 server: a note beside it.

Invariant: what no session has started has no note, so no session ends it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

VARIABLE = "FLYD_LAB_SESSION"


def note_session(path: Path, environment: Mapping[str, str] = os.environ) -> None:
    """Write the session that starts something to ``path``; without a session nothing is written and an old note goes."""
    session = environment.get(VARIABLE, "")
    if session:
        path.write_text(f"{session}\n")
    else:
        path.unlink(missing_ok=True)


def has_session(path: Path, session: str) -> bool:
    """Whether ``path`` notes ``session``."""
    try:
        return path.read_text().strip() == session
    except FileNotFoundError:
        return False

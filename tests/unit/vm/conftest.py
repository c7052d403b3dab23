"""The lab's modules are imported as the lab itself imports them: by their own names."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "vm"))

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line that all campaigns share."""

from __future__ import annotations

import argparse
import random


def parser(doc: str | None, *, vm: str) -> argparse.ArgumentParser:
    """A parser with --seed, --vm (``vm`` when it is not given) and --minutes; ``doc`` is the campaign's docstring."""
    made = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    made.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    made.add_argument("--vm", default=vm, help="a machine of the lab, brought up when it is not")
    made.add_argument("--minutes", type=float, default=1e6, help="begin nothing more after so many minutes")
    return made

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run make.py on the host without a file of it there: its sources and the plan come as JSON by standard input.

Invariant: nothing is written; a run that is killed has left no program behind.
"""

from __future__ import annotations

import json
import sys
import types

sent = json.load(sys.stdin)
for name in ("place", "packages", "make"):  # each imports those before it
    sys.modules[name] = types.ModuleType(name)
    exec(compile(sent[name], f"{name}.py", "exec"), sys.modules[name].__dict__)  # noqa: S102 - that is what it is for
sys.exit(sys.modules["make"].main(*sys.argv[1:], plan=sent["plan"]))

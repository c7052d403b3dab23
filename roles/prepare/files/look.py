# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look at a host's environment, and change nothing: look.py HOME

Prints an object of JSON: the version of this interpreter, what the environment was made from ("" when it does not work or there is none),
and what stopped runs have left behind.
"""

from __future__ import annotations

import glob
import json
import os
import subprocess
import sys

home = sys.argv[1]
current = os.path.join(home, "venv")
made_from = ""
try:
    with open(os.path.join(current, "flyd-environment.json"), encoding="utf-8") as file:
        stamp = json.load(file)
    tried = [os.path.join(current, "bin/python"), "-IBc", "import " + ", ".join(stamp["imports"])]
    done = subprocess.run(tried, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)  # noqa: S603 - argv only
    if done.returncode == 0:
        made_from = stamp["id"]
except (OSError, ValueError, KeyError, TypeError):
    pass
others = glob.glob(os.path.join(home, "venv-*")) + glob.glob(os.path.join(home, "incoming-*"))
left = sorted(path for path in others if path != os.path.realpath(current))
python = "{}.{}".format(*sys.version_info)
sys.stdout.write(json.dumps({"python": python, "id": made_from, "left": left}))

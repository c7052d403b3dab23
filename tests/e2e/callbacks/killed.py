# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kill the play, with every process in its group, FLYD_KILL_SECONDS after its task FLYD_KILL_TASK, a number or a name, has begun."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: killed
type: notification
short_description: Kill the play at one of its tasks
description: For tests of the role prepare.
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """Ansible's name for it."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "killed"

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        wanted = os.environ.get("FLYD_KILL_TASK", "0")
        self.left, self.name = (int(wanted), "") if wanted.isdecimal() else (0, wanted)

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """Count it, or look at its name."""
        self.left -= 1
        if self.left == 0 or (self.name and self.name in task.get_name()):
            print(f"killed at: {task.get_name()}", flush=True)
            threading.Timer(
                float(os.environ.get("FLYD_KILL_SECONDS", "0")), os.killpg, (os.getpgid(0), signal.SIGKILL)
            ).start()

#!/usr/bin/python
# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""flyd_info: what is on this host, and whether it is as recorded."""

from __future__ import annotations

DOCUMENTATION = r"""
module: flyd_info
short_description: Report images, snapshots, pools and drift
version_added: 0.1.0
description:
  - Reports what the database says, beside what the kernel has. Changes nothing.
options:
  what:
    description:
      - What to report.
    type: list
    elements: str
    choices: [images, snapshots, pools, transitions, drift]
    default: [images, snapshots, pools, transitions, drift]
  pool:
    description:
      - Accepted so that all modules can share their defaults. All pools are reported.
    type: str
    default: pool
extends_documentation_fragment:
  - flyd.lite.common
  - flyd.lite.attributes.info
seealso:
  - module: flyd.lite.flyd_snapshot
"""

EXAMPLES = r"""
- name: See what there is
  flyd.lite.flyd_info:
  register: flyd

- name: Stop when the host and its database disagree
  ansible.builtin.assert:
    that: flyd.drift | length == 0
    fail_msg: "{{ flyd.drift | join('; ') }}"
"""

RETURN = r"""
images:
  description: The current generation of every key, as recorded.
  returned: when asked for
  type: list
  elements: dict
snapshots:
  description: Every snapshot, and whether it is C(mapped).
  returned: when asked for
  type: list
  elements: dict
pools:
  description: Every pool with its sizes, use and mode.
  returned: when asked for
  type: list
  elements: dict
transitions:
  description: Every intent that is open, and whether it is C(abandoned). The next run settles those.
  returned: when asked for
  type: list
  elements: dict
drift:
  description: Each contradiction between the database and the kernel, one sentence each.
  returned: when asked for
  type: list
  elements: str
settled:
  description: What was finished or undone of earlier runs that were cut off, one sentence each.
  returned: always
  type: list
  elements: str
actions:
  description: The programs that were run, in order.
  returned: always
  type: list
  elements: str
error_kind:
  description:
    - Whose fault a failure is.
    - One of V(bad_input), V(untrusted), V(out_of_order), V(busy), V(no_space), V(transient), V(command_failed),
      V(corrupt_store) and V(unsupported).
  returned: failure
  type: str
retryable:
  description: Whether running the same again can help.
  returned: failure
  type: bool
hint:
  description: What to do about a failure.
  returned: failure
  type: str
doing:
  description: What was being done when it failed, the outermost first.
  returned: failure
  type: list
  elements: str
details:
  description: Small facts about a failure for programs. Which ones there are depends on the failure.
  returned: failure
  type: dict
"""

from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.host import Host
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.info import Subject, inform
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.outcome import Outcome
from ansible_collections.flyd.lite.plugins.module_utils._module import Given, run

SUBJECTS = [subject.value for subject in Subject]
ARGUMENTS = {
    "what": {"type": "list", "elements": "str", "choices": SUBJECTS, "default": SUBJECTS},
    "pool": {"type": "str", "default": "pool"},
}


def work(host: Host, given: Given) -> Outcome:
    """The options in the terms of the machine."""
    return inform(host, frozenset(Subject(word) for word in given.words("what")))


def main() -> None:
    """Entry point."""
    run(work, ARGUMENTS, read_only=True)


if __name__ == "__main__":
    main()

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fleet_drift: a fleet beside its lock file."""

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet_drift
short_description: Compare the instances of a fleet with a lock file
version_added: 0.1.0
description:
  - Reads what the task of the role P(flyd.lite.fleet#role) has registered of all hosts. Changes nothing.
author: The flyd.lite authors (!UNKNOWN)
positional: hosts, lock
options:
  _input:
    description: The variables of all hosts, C(hostvars).
    type: dict
    required: true
  hosts:
    description: The hosts of the fleet, in their order.
    type: list
    elements: str
    required: true
  lock:
    description: The content of the lock file, by key a dictionary with C(sha256) and C(rolled_out_at).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show which hosts are behind
  ansible.builtin.debug:
    msg: "{{ (hostvars | flyd.lite.fleet_drift(ansible_play_hosts_all, {})).behind }}"
"""

RETURN = r"""
_value:
  description:
    - The names of the hosts in each state, under the name of the state. V(as_locked); V(behind) and V(ahead), another generation, bound before or after
      the lock was written; V(unconfirmed); V(trouble), what flyd_info reports as drift; V(not_locked); V(empty), without an instance; V(absent).
    - C(wrong), all that are neither V(as_locked) nor V(empty); C(rows), of each host C(host), C(state), C(text), C(instances) and C(is_low); C(lines), texts
      for people.
  type: dict
"""

from typing import Any, Callable

from ansible_collections.flyd.lite.plugins.plugin_utils._rollout.drift import fleet_drift


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filter."""
        return {"fleet_drift": fleet_drift}

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""rollout_state: how far each host of a rollout has come, and the two budgets."""

from __future__ import annotations

DOCUMENTATION = r"""
name: rollout_state
short_description: Count the hosts of a rollout
version_added: 0.1.0
description:
  - Reads the results that the tasks of the role P(flyd.lite.rollout#role) have registered, of all hosts and all batches, with the hosts that did not
    answer. Changes nothing.
author: The flyd.lite authors (!UNKNOWN)
positional: hosts
options:
  _input:
    description: The variables of all hosts, C(hostvars).
    type: dict
    required: true
  hosts:
    description: The hosts of the rollout, in their order.
    type: list
    elements: str
    required: true
  pin:
    description: The SHA-256 of the generation that is rolled out.
    type: str
    default: ''
  since:
    description:
      - A time in UTC, such as V(2026-01-31T23:59:59Z). A host that was found at O(pin) and was bound to it since then counts as flipped by this rollout.
    type: str
    default: ''
  short:
    description: The hosts that are left out for want of room, each with what it lacks.
    type: dict
    default: {}
  max_absent:
    description: How many hosts may be absent, a number or a share such as V(5%), which is rounded down.
    type: str
    default: 5%
  max_lost:
    description: How many hosts may be lost, as O(max_absent).
    type: str
    default: 2%
  batch:
    description: The hosts of the wave that the line of the wave is about.
    type: list
    elements: str
    default: []
  flipping:
    description: The hosts of all waves, in their order.
    type: list
    elements: str
    default: []
  waves:
    description: The sizes of the waves, as the keyword C(serial) takes them. When all hosts of the first one are lost, that is too many.
    type: list
    elements: str
    default: []
  check:
    description: Whether the results are predictions.
    type: bool
    default: false
  instances:
    description: The names of the instances, of which a host may have its own.
    type: list
    elements: str
    default: []
  leave_out:
    description: Whether a host is left out where all O(instances) have O(pin) already.
    type: bool
    default: false
  key:
    description: The key of the image, for C(to_prune).
    type: str
    default: ''
  keep:
    description: How many generations M(flyd.lite.flyd_prune) is to leave beside those that instances name.
    type: int
    default: 0
"""

EXAMPLES = r"""
- name: Show which hosts are lost
  ansible.builtin.debug:
    msg: "{{ (hostvars | flyd.lite.rollout_state(ansible_play_hosts_all)).all_lost }}"
"""

RETURN = r"""
_value:
  description:
    - The names of the hosts in each state, under the name of the state. V(not_asked), V(absent), V(ready), V(staged), V(confirmed), V(unconfirmed),
      V(went_back), V(refused), V(lost), V(returned), V(stuck). Every host is in one of them.
    - C(all_lost), the hosts that failed or went away from their flip on, also when they were taken back since; C(too_many_absent) and C(too_many_lost);
      C(allowed_absent) and C(allowed_lost), the budgets in hosts.
    - C(to_return), the hosts to take back; C(refused_to_return), those of them that the gate refused; C(cannot_return), those that have no earlier
      generation; C(earlier), of each host and instance the SHA-256 to go back to.
    - C(left_out), the confirmed hosts that had the generation already; C(to_flip), all others that are not absent, in their order; C(to_prune), the
      confirmed hosts on which M(flyd.lite.flyd_prune) may find something to remove; C(settled_at), the digest with which all hosts in V(ready) are
      done, empty when there is none.
    - C(wrong), the hosts that are not as wanted, and C(why), a sentence for each; C(problems), the same in groups.
    - C(lines), texts for people.
  type: dict
"""

from typing import Any, Callable

from ansible.errors import AnsibleFilterError

from ansible_collections.flyd.lite.plugins.plugin_utils._rollout.filters import rollout_state


def checked(*given: Any, **options: Any) -> dict[str, Any]:
    """The filter; a value that it cannot use is an error of the playbook."""
    try:
        return rollout_state(*given, **options)
    except ValueError as error:
        raise AnsibleFilterError(f"rollout_state: {error}") from error


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filter."""
        return {"rollout_state": checked}

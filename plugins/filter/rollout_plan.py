# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""rollout_plan: what a rollout needs of its hosts, and which of them have no room for it."""

from __future__ import annotations

DOCUMENTATION = r"""
name: rollout_plan
short_description: Compare what a rollout needs with the room of its hosts
version_added: 0.1.0
description:
  - Reads what the first host of a rollout has taken, and what the other hosts have, from the results that the tasks of the role
    P(flyd.lite.rollout#role) have registered. Changes nothing.
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
  first:
    description: The host that has the image already.
    type: str
    required: true
  pin:
    description: The SHA-256 of the generation that is rolled out.
    type: str
    default: ''
  instances:
    description: The names of the instances.
    type: list
    elements: str
    default: []
  pool:
    description: The name of the pool, for hosts that have no O(flyd.lite.activate#role:main:activate_pool) of their own.
    type: str
    default: pool
  key:
    description: The key of the image, for the name of the rollout.
    type: str
    default: ''
"""

EXAMPLES = r"""
- name: Show which hosts have no room for what the first one has staged
  ansible.builtin.debug:
    msg: "{{ (hostvars | flyd.lite.rollout_plan(ansible_play_hosts_all, first=ansible_play_hosts_all[0])).short }}"
"""

RETURN = r"""
_value:
  description:
    - C(need), the bytes of the archive (C(archive_bytes)), of the pool's data (C(data_bytes)) and of its metadata (C(metadata_bytes)) that a host
      needs which has nothing of the generation, and whether the first host has measured them (C(is_measured)).
    - C(name), the name of the rollout; C(sha256), C(trust) and C(size) of the image.
    - C(short), the hosts without room, each with what it lacks; C(ready), the hosts that answered; C(already), those whose instances point at the
      generation.
    - C(lines), texts for people.
  type: dict
"""

from typing import Any, Callable

from ansible_collections.flyd.lite.plugins.plugin_utils._rollout.filters import rollout_plan


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filter."""
        return {"rollout_plan": rollout_plan}

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""rollout_options: the options of a module that a rollout passes on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
name: rollout_options
short_description: The options of a module in a rollout
version_added: 0.1.0
description:
  - Reads the variables of the roles P(flyd.lite.activate#role) and P(flyd.lite.rollout#role) that are defined on a host, and returns them as options of a
    module. In one expression, as each template of a task costs the controller time for each host.
author: The flyd.lite authors (!UNKNOWN)
options:
  _terms:
    description: The modules, V(flyd_pool), V(flyd_fetch), V(flyd_unpack) or V(flyd_instance).
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Make the pool that the role activate would make
  flyd.lite.flyd_pool:
    key: "{{ activate_key }}"
  module_defaults:
    flyd.lite.flyd_pool: "{{ lookup('flyd.lite.rollout_options', 'flyd_pool') }}"
"""

RETURN = r"""
_raw:
  description: The options of each module.
  type: list
  elements: dict
"""

import os
from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

from ansible_collections.flyd.lite.plugins.plugin_utils._rollout.options import VARIABLES, options_of


class LookupModule(LookupBase):  # type: ignore[misc]  # ansible-core comes without types
    """Renders those variables only that are options of the module."""

    def run(self, terms: list[str], variables: Any = None, **kwargs: Any) -> list[dict[str, Any]]:
        """The options of each module."""
        unknown = [str(term) for term in terms if term not in VARIABLES]
        if unknown:
            raise AnsibleLookupError(f"rollout_options: no module of a rollout: {', '.join(unknown)}")
        return [options_of(str(term), variables or {}, self._templar.template, os.environ) for term in terms]

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host with an instance."""

from __future__ import annotations

import pytest

from tests.unit._lifecycle.instance.machine import Bound
from tests.unit._lifecycle.machine import Machine


@pytest.fixture
def bound(activated: Machine) -> Bound:
    """A host whose image is unpacked, and which has no instance yet."""
    return Bound(activated)

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of a rollout: one file without a network, made of page.html and the document.

Invariant: nothing of the document can end the element that holds it, whatever hosts and modules said.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

_TEMPLATE = os.path.join(os.path.dirname(__file__), "page.html")
_PLACE = "/*DOCUMENT*/null"


def page(document: Mapping[str, Any]) -> str:
    """The page, as HTML."""
    with open(_TEMPLATE, encoding="utf-8") as file:
        template = file.read()
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    before, after = template.split(_PLACE)
    return before + text + after

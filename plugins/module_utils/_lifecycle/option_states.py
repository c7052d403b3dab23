# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options that apply to some values of O(state) only, given with another value.

Invariant: none of them is ignored silently. An option that requests something that the module would not do is refused; a warning names the
rest. Options that define how a bucket is reached have no entry here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from .._errors import BadInput


class Counts(NamedTuple):
    """The values of O(state) for which an option counts; ``is_refused`` with another one, instead of a warning.

    ``instead`` is the option that says the same there.
    """

    states: tuple[str, ...]
    is_refused: bool = False
    instead: str = ""


def present_only(*options: str) -> dict[str, Counts]:
    """The entries of options that count for ``present`` alone."""
    return dict.fromkeys(options, Counts(("present",)))


def without_effect(
    params: Mapping[str, Any], arguments: Mapping[str, Any], counts: Mapping[str, Counts], state: str
) -> list[str]:
    """A warning that names the options that are given and have no effect; raises ``BadInput`` for those that are refused.

    An option is given when its value is not the default that ``arguments``, the specification of the module, has for it.
    """
    given = [
        name
        for name, one in counts.items()
        if state not in one.states and params.get(name) not in (None, arguments[name].get("default"))
    ]
    for name in given:
        if counts[name].is_refused:
            raise BadInput(
                f"{name} is {str(params[name]).lower()}, which has no meaning with state: {state}",
                hint=f"{_instead(name, counts[name])}; it counts with state: {' or '.join(counts[name].states)}",
            )
    return [f"with state: {state} these options have no effect: {', '.join(given)}"] if given else []


def _instead(name: str, counts: Counts) -> str:
    return f"give {counts.instead} instead of {name}" if counts.instead else f"leave {name} out"

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host has already, by what flyd_info said of it: whether a rollout has anything to do there, and flyd_prune after it.

Invariant: a host is left out only when nothing is open on it and all of its instances are in place. What is not known counts as work.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Seen = Mapping[str, Any]


def has_generation(seen: Seen, names: Sequence[str], digest: str) -> bool:
    """Whether all these instances of a host point at that digest, confirmed."""
    there = {one.get("name"): one for one in seen.get("instances") or ()}
    found = [there.get(name) or {} for name in names]
    return bool(found and digest) and all(one.get("current") == digest and one.get("confirmed") for one in found)


def is_done(seen: Seen, names: Sequence[str], digest: str) -> bool:
    """Whether a rollout of that digest has nothing to do: the instances have it, their links and devices are there, and no run was interrupted."""
    mine = [one for one in seen.get("instances") or () if one.get("name") in names]
    is_quiet = seen.get("operations") == [] and all(one.get("in_place") for one in mine)
    return is_quiet and has_generation(seen, names, digest)


def settled_at(hosts: Iterable[tuple[Seen, Sequence[str]]]) -> str:
    """The one digest with which all these hosts are done; empty when there is none. Each has the names of its instances."""
    found = ""
    for seen, names in hosts:
        digests = {str(one.get("current")) for one in seen.get("instances") or () if one.get("name") in names}
        found = found or next(iter(digests), "")
        if not is_done(seen, names, found):
            return ""
    return found


def may_prune(seen: Seen, names: Sequence[str], digest: str, key: str, keep: int) -> bool:
    """Whether flyd_prune may find something to remove once the instances point at ``digest``.

    It removes no generation that an instance names, and keeps so many of the others, if they were confirmed once.
    """
    if "generations" not in seen:
        return True
    named = {digest}
    for one in seen.get("instances") or ():
        is_to_flip = one.get("name") in names and one.get("current") != digest
        named.update(str(one.get(word)) for word in (("current",) if is_to_flip else ("current", "previous")))
    others = [one for one in seen["generations"] if one.get("key") == key and one.get("sha256") not in named]
    return len(others) > keep or not all(one.get("confirmed_at") for one in others)

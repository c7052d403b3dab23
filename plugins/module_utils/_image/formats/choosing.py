# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Select one of the images that an archive lists.

Invariant: exactly one is chosen, for the platform that is wanted, whatever the kind of archive; or the error lists what there is by
names that the options platform and image_name take.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..._errors import BadInput, FlydError, Unsupported
from ..image import Selector, several_images
from ..platforms import Platform, PlatformPolicy, listed


class Candidate(NamedTuple):
    """An image that may be meant.

    ``key`` reports it from others; ``platform`` is None where the archive does not say; ``name`` is what image_name selects it by;
    ``is_saved`` says whether the archive holds more of it than its entry in a list.
    """

    key: str
    platform: Platform | None
    name: str
    is_saved: bool = True


class NoneSuits(Exception):
    """No candidate is for the platform; ``reason`` is the error where nothing else can be used."""

    def __init__(self, reason: FlydError) -> None:
        super().__init__(reason.msg)
        self.reason = reason


def choose_for_platform(candidates: Sequence[Candidate], wanted: Selector) -> Candidate:
    """The candidate for the platform that is wanted; raises ``NoneSuits``, ``BadInput`` or, when several are left, ``Untrusted``."""
    platform = wanted.platform or Platform.of_this_machine()
    ranked = [(_rank(one, platform), one) for one in _each_once(candidates)]
    suiting = [(rank, one) for rank, one in ranked if rank is not None]
    if not suiting:
        # Of what an index lists, only this platform's blobs may have been saved: the others are no candidates.
        saved = _each_once([one for one in candidates if one.is_saved])
        if wanted.platform is None and wanted.policy is PlatformPolicy.SOLE and len(saved) == 1:
            return saved[0]
        raise NoneSuits(_no_such_platform(candidates, wanted.platform))
    best = min(rank for rank, _one in suiting)
    chosen = [one for rank, one in suiting if rank == best]
    if len(chosen) > 1:
        raise _several(chosen, platform)
    return chosen[0]


def _rank(candidate: Candidate, wanted: Platform) -> int | None:
    return 0 if candidate.platform is None else candidate.platform.rank(wanted)


def _each_once(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates without those that were listed before."""
    found: dict[str, Candidate] = {}
    for candidate in candidates:
        found.setdefault(candidate.key, candidate)
    return list(found.values())


def _several(chosen: Sequence[Candidate], wanted: Platform) -> FlydError:
    platforms = [one.platform for one in chosen if one.platform]
    if len(set(platforms)) == len(chosen):
        return BadInput(
            f"the archive has no image for every {wanted}, only for: {listed(platforms)}",
            hint="set platform to one of these",
        )
    return several_images([one.name for one in chosen])


def _no_such_platform(candidates: Sequence[Candidate], platform: Platform | None) -> FlydError:
    kind = Unsupported if platform is None else BadInput
    there_are = listed([candidate.platform for candidate in candidates if candidate.platform])
    return kind(
        f"the archive has no image for {platform or Platform.of_this_machine()}, only for: {there_are}",
        hint="set platform to one of these, or save the image for this machine",
    )

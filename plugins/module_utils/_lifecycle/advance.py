# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one function that moves an image along an arrow.

Order, idempotence, check mode, locking, settling and logging of all arrows are here; an arrow holds only its own work.
"""

from __future__ import annotations

from typing import Protocol

from .._errors import OutOfOrder, doing
from .._names import ObjectKey
from .host import Host
from .outcome import Facts, Outcome
from .records import Image, State
from .settle import is_tidy, settle
from .views import image_view


class Arrow(Protocol):
    """One transition: where it starts, where it ends, and its own work."""

    name: str
    start: State
    end: State

    def holds(self, host: Host, image: Image) -> Facts | None:
        """The facts to return when what the arrow makes is there already, else None. Writes nothing."""

    def view(self, host: Host, image: Image) -> Facts:
        """What a diff shows of ``image``."""
        return image_view(host, image)

    def predict(self, host: Host, image: Image) -> tuple[Facts, Facts]:
        """What ``perform`` would change of ``view``, and the facts to return. Writes nothing; ``image`` may be before ``start``."""

    def perform(self, host: Host, image: Image, log: Facts) -> tuple[Image, Facts]:
        """Make it so, intents before effects; the image as it was committed. ``log`` takes facts for the log."""


def advance(host: Host, key: ObjectKey, arrow: Arrow) -> Outcome:
    """Move the image of ``key`` along ``arrow``, or find that it has already been moved.

    Raises ``OutOfOrder`` when an earlier arrow has not been taken; not in a dry run, where that one was only simulated too.
    """
    with doing(f"{arrow.name} of {key}"):
        found = _at_rest(host, key, arrow)
        if found is not None:
            return found
        with host.lock(f"image {key}"):
            settle(host)
            return _move(host, key, arrow)


def _at_rest(host: Host, key: ObjectKey, arrow: Arrow) -> Outcome | None:
    """The unchanged outcome, found without a lock, so that a run with nothing to do writes nothing at all."""
    if not is_tidy(host):
        return None
    facts = _held_facts(host, arrow, host.store.image_or_new(str(key)))
    return None if facts is None else Outcome({}, {}, False, facts)


def _move(host: Host, key: ObjectKey, arrow: Arrow) -> Outcome:
    image = host.store.image_or_new(str(key))
    facts = _held_facts(host, arrow, image)
    if facts is not None:
        return Outcome({}, {}, False, facts, tuple(host.settled))
    before = arrow.view(host, image)
    if host.dry_run:
        changes, facts = arrow.predict(host, image)
        return Outcome(before, {**before, **changes}, True, facts, tuple(host.settled))
    if image.state.rank < arrow.start.rank:
        raise OutOfOrder(
            f"{key} is {image.state.value}, not yet {arrow.start.value}",
            hint=f"run {_MAKER[arrow.start]} for this key first; the role flyd.lite.activate runs all four in order",
            state=image.state.value,
        )
    with host.log.transition(arrow.name, key=str(key), image=image.id, to=arrow.end.value) as log:
        after, facts = arrow.perform(host, image, log)
        log["image"] = after.id
    return Outcome(before, arrow.view(host, after), True, facts, tuple(host.settled))


def _held_facts(host: Host, arrow: Arrow, image: Image) -> Facts | None:
    return arrow.holds(host, image) if image.state.rank >= arrow.end.rank else None


_MAKER = {State.FETCHED: "flyd_fetch", State.UNPACKED: "flyd_unpack"}

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one function that moves an image along an arrow.

Order, idempotence, check mode, locking, recovery and logging of all arrows are here, and retries begin here (attempts.py); an arrow holds only its own work.
"""

from __future__ import annotations

import copy
from typing import Protocol

from ..._errors import OutOfOrder, doing
from ..._names import ObjectKey
from ..attempts import attempted
from ..diff import assumed_generation, image_view
from ..outcome import Facts, Outcome
from ..run import Run
from ..store.lock_names import image_lock
from ..store.records import Image, State
from ..volumes.recover import nothing_to_recover, recover
from .placement import stay_in_pool


class Arrow(Protocol):
    """One transition: where it starts, where it ends, and its own work."""

    name: str
    start: State
    end: State
    assumes_generation: bool = False  # in a dry run, that an earlier one would have made a new generation
    makes_volume: bool = False  # in the pool of the run
    named_sha256: str = ""  # of the generation that is meant; empty for the current one

    def admit(self, host: Run, image: Image) -> None:
        """Raise what is refused whatever the state of ``image``. Writes nothing."""
        return

    def holds(self, host: Run, image: Image) -> Facts | None:
        """The facts to return when what the arrow makes is there already, else None. Writes nothing."""

    def note(self, host: Run, image: Image) -> None:
        """Record what ``holds`` has learned of an image that stays as it is. Not called in a dry run; no change of the image."""
        return

    def view(self, host: Run, image: Image) -> Facts:
        """What a diff shows of ``image``."""
        return image_view(host, image)

    def predict(self, host: Run, image: Image) -> tuple[Facts, Facts]:
        """What ``perform`` would change of ``view``, and the facts to return. Writes nothing; ``image`` may be before ``start``."""

    def perform(self, host: Run, image: Image, log: Facts) -> tuple[Image, Facts]:
        """Make it so, intents before effects; the image as it was committed. ``log`` takes facts for the log."""


def advance(host: Run, key: ObjectKey, arrow: Arrow) -> Outcome:
    """Move the image of ``key`` along ``arrow``, or find that it has already been moved.

    Raises ``OutOfOrder`` when an earlier arrow has not been taken; not in a dry run, where that one was only simulated too.
    """
    with doing(f"{arrow.name} of {key}"):
        return attempted(host, lambda: _attempt(host, key, copy.copy(arrow)), transition=arrow.name, key=str(key))


def _attempt(host: Run, key: ObjectKey, arrow: Arrow) -> Outcome:
    """One attempt, with an arrow that remembers nothing of the one before."""
    stay_in_pool(host, str(key), arrow.named_sha256)
    found = _at_rest(host, key, arrow)
    if found is not None:
        return found
    if not arrow.makes_volume:
        return _moved(host, key, arrow)
    from ..growth.automatic import grow_for, grow_if_needed  # late: a run with nothing to do needs nothing of it
    from ..volumes.room import PoolTooSmall

    grow_if_needed(host, host.settings.pool.value)
    try:
        return _moved(host, key, copy.copy(arrow))
    except PoolTooSmall as error:  # no lock is held here: the one of a pool's setup comes before that of an image
        grow_for(host, error)
    return _moved(host, key, arrow)


def _moved(host: Run, key: ObjectKey, arrow: Arrow) -> Outcome:
    with host.lock(image_lock(str(key))):
        recover(host)
        return _move(host, key, arrow)


def _at_rest(host: Run, key: ObjectKey, arrow: Arrow) -> Outcome | None:
    """The unchanged outcome, found without a lock, so that a run with nothing to do, and nothing to note, writes nothing at all."""
    if not nothing_to_recover(host):
        return None
    facts = _held_facts(host, arrow, _current(host, key, arrow))
    return None if facts is None else Outcome({}, {}, False, facts)


def _move(host: Run, key: ObjectKey, arrow: Arrow) -> Outcome:
    image = _current(host, key, arrow)
    facts = _held_facts(host, arrow, image)
    if facts is not None:
        return Outcome({}, {}, False, facts, tuple(host.settled))
    before = arrow.view(host, image)
    if host.dry_run:
        changes, facts = arrow.predict(host, image)
        return Outcome(before, {**before, **changes}, True, facts, tuple(host.settled))
    if image.state.rank < arrow.start.rank:
        which, same = (f" with sha256:{arrow.named_sha256}", " and sha256") if arrow.named_sha256 else ("", "")
        raise OutOfOrder(
            f"{key}{which} is {image.state.value}, not yet {arrow.start.value}",
            hint=f"run {_MAKER[arrow.start]} for this key{same} first; the role flyd.lite.activate runs all four in order",
            state=image.state.value,
        )
    with host.log.transition(arrow.name, key=str(key), image=image.id, to=arrow.end.value) as log:
        after, facts = arrow.perform(host, image, log)
        log["image"] = after.id
    return Outcome(before, arrow.view(host, after), True, facts, tuple(host.settled))


def _current(host: Run, key: ObjectKey, arrow: Arrow) -> Image:
    """The named generation or the current one, or in a dry run the one that an earlier, simulated step would have put in its place."""
    if arrow.named_sha256:
        from .named import named_generation  # late: most runs name none

        return named_generation(host, str(key), arrow.named_sha256, is_assumed=arrow.assumes_generation)
    image = host.store.image_or_new(str(key))
    return assumed_generation(str(key)) if host.dry_run and arrow.assumes_generation and image.id else image


def _held_facts(host: Run, arrow: Arrow, image: Image) -> Facts | None:
    arrow.admit(host, image)
    if image.state.rank < arrow.end.rank:
        return None
    facts = arrow.holds(host, image)
    if facts is not None and not host.dry_run:
        arrow.note(host, image)
    return facts


_MAKER = {State.FETCHED: "flyd_fetch", State.UNPACKED: "flyd_unpack"}

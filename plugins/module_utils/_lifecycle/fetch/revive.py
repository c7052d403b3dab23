# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the generation with a pinned digest the current one of its key again, when it is still on this host.

Invariant: no request is made and no bytes are moved. One transaction retires the current generation and puts the other one in its row, after it
has verified that its base or its archives are there.
"""

from __future__ import annotations

from typing import NamedTuple

from ..._names import Digest
from ..._source.digests.trust import Trust, voucher
from ..diff import image_view, revived
from ..image.archives import require_there
from ..image.seals import Condition, Seals, remove_archive
from ..outcome import Facts
from ..run import Run
from ..store.generations import generation_of, make_current
from ..store.records import Image, State
from ..store.store import utc_now
from .fetched import fetched_facts, warnings_of_present
from .options import FetchOptions
from .vouching import columns_of, strongest


def is_here(image: Image, conditions: dict[str, Condition]) -> bool:
    """Whether the bytes of ``image`` are: all of them in sound archives, or in a base and in no archive that is damaged."""
    bad = (Condition.DAMAGED,) if image.base_ulid else (Condition.DAMAGED, Condition.MISSING)
    return bool(image.digests) and not any(one in bad for one in conditions.values())


def worst(conditions: dict[str, Condition]) -> str | None:
    """The worst condition of an image's archives; None when there are none to look for."""
    return max(conditions.values(), key=list(Condition).index).value if conditions else None


def find_revival(host: Run, options: FetchOptions, pinned: Digest | None, key: str, seals: Seals) -> Revival | None:
    """Rollback to the generation of ``key`` with the digest ``pinned``, when its base or its sound archives are here."""
    found = None if pinned is None else generation_of(host.store, key, pinned.hex)
    if found is None:
        return None
    conditions = {digest: seals.condition(host, digest) for digest in found.digests}
    # A base needs no archive, so one that is damaged only has to go.
    return Revival(options, found, conditions, seals) if found.base_ulid or is_here(found, conditions) else None


class Revival(NamedTuple):
    """What is to become current: ``generation``, retired or the current one itself, whose archives have ``conditions``."""

    options: FetchOptions
    generation: Image
    conditions: dict[str, Condition]
    seals: Seals

    def predict(self, host: Run, image: Image) -> tuple[Facts, Facts]:
        """What ``perform`` changes of the view of ``image``, which is current now, and what it returns."""
        sound = [one for one, it in self.conditions.items() if it not in (Condition.DAMAGED, Condition.MISSING)]
        archives = [host.archive_path(one) for one in sound]
        after = self._after()
        changes = revived(host, image_view(host, image), after, archives, etag=after.etag, trust=after.trust)
        facts = self._facts(host, image, after)
        return changes, facts if after.sha256 in sound else {**facts, "path": None}

    def perform(self, host: Run, image: Image, log: Facts) -> tuple[Image, Facts]:
        """Retire ``image`` and make the other one current. What an interrupted download has left is of no use to it."""
        from .download import forget_parts  # late: a run with nothing to do needs nothing of it

        after = self._after()
        forget_parts(host, image.object_key)
        with host.store.transaction():
            require_there(host, after)
            make_current(host.store, after, instead_of=image)
            for digest, condition in self.conditions.items():
                if condition is Condition.DAMAGED and self.seals.condition(host, digest) is condition:
                    remove_archive(host, digest)
            self.seals.record(host, [one for one, it in self.conditions.items() if it is Condition.VERIFIED])
        facts = self._facts(host, image, after)
        log.update(revived=facts["revived"], trust=after.trust)
        return after, facts

    def _after(self) -> Image:
        now = voucher(Trust.PINNED, self.options.checksum, "", f"sha256:{self.generation.sha256}")
        return Image(*self.generation)._replace(
            state=max(self.generation.state, State.FETCHED, key=lambda state: state.rank),
            **columns_of(strongest(self.generation, now)),
            updated_at=utc_now(),
        )

    def _facts(self, host: Run, image: Image, after: Image) -> Facts:
        is_other = after.id != image.id
        replaced = {
            "old_sha256": image.sha256,
            "new_sha256": after.sha256,
            "old_etag": image.etag,
            "new_etag": after.etag,
        }
        return {
            **fetched_facts(host, after),
            "archive": worst(self.conditions),
            "revived": is_other,
            "replaced": replaced if is_other and image.sha256 else None,
            "warnings": warnings_of_present(self.options, after, was_asked=False),
        }

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits on the resources that an archive may use.

Invariant: every quantity that an archive's maker chooses is compared with one of these before it costs memory, disk or time. An
error names the limit and the value found, so that the owner of a large legitimate image knows what to raise.
"""

from __future__ import annotations

import time
from typing import NamedTuple, NoReturn

from .._errors import BadInput
from .._names import parse_bytes, printable
from .refusal import Name, malformed

GIB = 1 << 30


class Limits(NamedTuple):
    """Each field bounds one archive, all of its layers taken together unless it says otherwise.

    ``entries`` counts tar members; ``content_bytes`` the logical size of all members and ``file_bytes`` of one (holes count);
    ``decompressed_bytes`` what decompression may put out, and ``ratio`` how many times its input, once 1 GiB is out;
    ``depth`` directories above a path; ``implied_directories`` those that members need and no member is;
    ``path_bytes`` one path; ``header_bytes`` one PAX or GNU header or sparse map;
    ``metadata_bytes`` names, link targets, xattrs and sparse maps; ``document_bytes`` one JSON document;
    ``hard_links`` names of one inode (ext4 allows 65000); ``seconds`` reading, and again writing;
    ``decoder_memory_bytes`` what all decoders of compressed layers together take of memory.
    """

    entries: int = 1_500_000
    content_bytes: int = 64 * GIB
    file_bytes: int = 32 * GIB
    decompressed_bytes: int = 64 * GIB
    ratio: int = 200
    depth: int = 512
    implied_directories: int = 100_000
    path_bytes: int = 16384
    header_bytes: int = 1 << 20
    metadata_bytes: int = 128 << 20
    document_bytes: int = 4 << 20
    hard_links: int = 65000
    layers: int = 512
    seconds: int = 3600
    decoder_memory_bytes: int = 256 << 20

    @classmethod
    def parse(cls, text: str) -> Limits:
        """Limits from ``entries=1000,depth=20``; what is not named keeps its default. Raises ``BadInput``."""
        return cls.of(dict(_split(pair) for pair in text.split(",") if pair.strip()))

    @classmethod
    def of(cls, given: dict[str, str | int | None]) -> Limits:
        """Limits from a mapping of names to whole numbers above zero, sizes with units; None is left out. Raises ``BadInput``."""
        known = cls._fields
        unknown = [name for name in given if name not in known]
        if unknown:
            raise BadInput(
                f"there is no limit named {printable(unknown[0])!r}", hint=f"the limits are {', '.join(known)}"
            )
        return cls(**{name: _number(name, str(value).strip()) for name, value in given.items() if value is not None})

    def exceeded(self, name: str, met: int, member: Name = "") -> NoReturn:
        """Raise the error that says that ``met``, which was counted so far, is more than the limit ``name`` allows."""
        allowed = getattr(self, name)
        problem = f"the limit {name} is {allowed}, and the archive needs {met} or more"
        hint = f"no honest image should; if this one does, set the limit {name} above {met - 1} at least: counting ended there"
        error = malformed(problem, member, hint=hint)
        error.details.update(limit=name, allowed=allowed, met=met)
        raise error

    def raised_for(self, needed: dict[str, int]) -> str:
        """A hint that names all limits of which the whole archive needs more, with values that suffice."""
        above = [(name, value) for name, value in needed.items() if value > getattr(self, name)]
        values = " and ".join(
            f"the limit {name} above {value - 1} (the whole archive needs {value})" for name, value in above
        )
        return f"no honest image should; if this one does, set {values}"


def _number(name: str, text: str) -> int:
    if name.endswith("_bytes"):
        return parse_bytes(text, what=f"the limit {name}")
    if not (text.isascii() and text.isdigit() and len(text) <= 18 and int(text) > 0):
        raise BadInput(f"the limit {name} is {printable(text)!r}", hint=f"give limits.{name} a whole number above zero")
    return int(text)


def _split(pair: str) -> tuple[str, str]:
    name, _equals, value = pair.partition("=")
    return name.strip(), value


class Deadline:
    """The time by which a piece of work must be done, on the monotonic clock.

    Every loop over what an archive holds asks it: ``check`` where one turn takes microseconds or more, ``spend`` where it takes less.
    """

    _STEPS_BETWEEN_CHECKS = 4096  # of a microsecond at most

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._until = time.monotonic() + limits.seconds
        self._steps = 0

    @property
    def left_seconds(self) -> float:
        """The time that is left; negative when it is up."""
        return self._until - time.monotonic()

    def spend(self, steps: int = 1) -> None:
        """Count ``steps`` of work, and ``check`` when many have come together."""
        self._steps += steps
        if self._steps >= self._STEPS_BETWEEN_CHECKS:
            self._steps = 0
            self.check()

    def check(self) -> None:
        """Raise ``Untrusted`` when the time is up."""
        late = time.monotonic() - self._until
        if late > 0:
            self._limits.exceeded("seconds", self._limits.seconds + int(late) + 1)

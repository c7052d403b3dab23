# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A size that an operator gives as bytes, or as a share of something: of a device, of a file system, of a pool."""

from __future__ import annotations

from typing import NamedTuple

from ..._errors import BadInput
from ..._names import option_size, parse_bytes, printable


class DataSize(NamedTuple):
    """``amount`` bytes, or ``amount`` percent of what the option says."""

    amount: int
    is_percent: bool = False

    @classmethod
    def parse(cls, text: str, *, what: str = "data_size") -> DataSize:
        """From ``20G`` or ``80%``; raises ``BadInput`` that names the option."""
        number, sign, rest = text.strip().partition("%")
        if not sign:
            return cls(parse_bytes(text, what=what))
        if rest or not number.strip().isdecimal() or not 1 <= int(number) <= 100:
            raise BadInput(
                f"{what} is {printable(text)!r}, which is not a percentage from 1% to 100%",
                hint="write for example 80%, or a size such as 512M",
            )
        return cls(int(number), is_percent=True)

    @classmethod
    def parse_optional(cls, text: str, *, what: str = "data_size") -> DataSize | None:
        """The same, ``None`` for an option that was left out."""
        return cls.parse(text, what=what) if text else None

    def of(self, whole_bytes: int) -> int:
        """The size in bytes, where the percentage is one of ``whole_bytes``."""
        return whole_bytes * self.amount // 100 if self.is_percent else self.amount

    def text(self) -> str:
        """As an option takes it."""
        return f"{self.amount}%" if self.is_percent else option_size(self.amount)

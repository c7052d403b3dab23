# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of a module, one at a time, in the type that is wanted.

Invariant: a value that cannot be read in that type raises ``BadInput`` that names the option.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from .._errors import BadInput
from .._names import ShortName, parse_bytes, printable
from .settings import Settings

DEFAULT_POOL = "pool"
_SHA256 = re.compile(r"[0-9a-f]{64}")
SHORTEST_SECONDS = 0.001  # of a time-out that is to be waited for


class ModuleParams:
    """The options of a module, as it was called; each method gives one option in the type that is wanted."""

    def __init__(self, params: dict[str, Any]) -> None:
        self._params = params

    def text(self, name: str) -> str:
        """The option as a string; empty when it was not given."""
        value = self._params.get(name)
        return "" if value is None else str(value)

    def flag(self, name: str) -> bool:
        """A boolean option, false when it was not given."""
        return bool(self._params.get(name))

    def optional_flag(self, name: str) -> bool | None:
        """A boolean option, or None when it was not given."""
        return None if self._params.get(name) is None else self.flag(name)

    def raw(self, name: str) -> object:
        """The option as it came; None when it was not given."""
        return self._params.get(name)

    def number(self, name: str, *, least: float = 0) -> float:
        """An option that has a finite number, at least ``least``; raises ``BadInput`` that names the option."""
        value = float(self._params[name])
        if not least <= value < float("inf"):
            raise BadInput(
                f"{name} is {value:g}, which is not a number of at least {least:g}",
                hint=f"leave {name} out for its default, or give a larger number",
            )
        return value

    def optional_int(self, name: str) -> int | None:
        """A whole number that is not negative, or None."""
        return None if self._params.get(name) is None else int(self.number(name))

    def optional_number(self, name: str) -> float | None:
        """A finite number that is not negative, or None."""
        return None if self._params.get(name) is None else self.number(name)

    def mapping(self, name: str) -> dict[str, Any]:
        """A dictionary, empty when it was not given."""
        return dict(self._params.get(name) or {})

    def mappings(self, name: str) -> list[dict[str, Any]]:
        """A list of dictionaries, empty when it was not given."""
        return [dict(one) for one in self._params.get(name) or []]

    def words(self, name: str) -> list[str]:
        """A list of strings."""
        return [str(word) for word in self._params.get(name) or []]

    def size_bytes(self, name: str) -> int:
        """A size such as 2G in bytes, 0 when it was not given; raises ``BadInput`` that names the option."""
        text = self.text(name)
        return parse_bytes(text, what=name) if text else 0

    def limit_bytes(self, name: str) -> int:
        """The same of a limit that 0 switches off."""
        return 0 if self.text(name).strip() == "0" else self.size_bytes(name)

    def sha256(self, name: str) -> str:
        """A SHA-256 as 64 hex digits, given so or as sha256:HEX; empty when it was not given. Raises ``BadInput`` that names the option."""
        text = self.text(name).strip()
        if not text:
            return ""
        value = text.lower().removeprefix("sha256:")
        if not _SHA256.fullmatch(value):
            raise BadInput(
                f"{name} is {printable(text)!r}, which is not a SHA-256",
                hint=f"give {name} as 64 hex digits or sha256:HEX, as flyd_info lists it under images",
            )
        return value

    def settings(self, *, starts_over: bool, pool_options: Sequence[str] = ("pool",)) -> Settings:
        """The options that all modules share; ``starts_over`` is the host's, not an option. The first of ``pool_options`` that is given counts."""
        pool = next(filter(None, map(self.text, pool_options)), "")
        return Settings(
            state_dir=self.text("state_dir"),
            pool=ShortName(pool or DEFAULT_POOL),
            lock_timeout_seconds=self.number("lock_timeout"),
            command_timeout_seconds=self.number("command_timeout", least=SHORTEST_SECONDS),
            retries=int(self.number("retries")),
            retry_delay_seconds=self.number("retry_delay"),
            starts_over=starts_over,
            names_pool=bool(pool),
        )

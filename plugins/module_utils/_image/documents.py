# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parse and validate JSON documents of an archive.

Invariant: a document is small in bytes and in values, its keys are unique, its numbers are finite, its strings are Unicode, and access
to a field returns the requested type or raises ``Untrusted``, which names the document and the field. A field has one value whatever the case
in which a reader compares its name: Go's encoding/json ignores it and takes the last one, others take the exact one.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

from .._names import printable
from .extent import Extent
from .limits import Limits
from .refusal import malformed

_MAX_WHOLE_DIGITS = 20  # more than 64 bits; a longer one would cost time without end (CVE-2020-10735)
_MAX_NUMBER_BYTES = 64  # a double takes 25 at most when it is written out in full
_MAX_VALUES = 500_000  # a value of two bytes takes a hundred in memory
_BEFORE_VALUES = (b",", b"[", b"{")
_HALF_PAIR = re.compile(r"\\u[dD][89a-fA-F]")
_ZERO = re.compile(r"-?0(?:\.0*)?(?:[eE].*)?")


def read_document(extent: Extent, what: str, limits: Limits) -> bytes:
    """The bytes of a JSON document; refused when it is larger than any real one."""
    if extent.size > limits.document_bytes:
        limits.exceeded("document_bytes", extent.size, what)
    return extent.read(0, extent.size)


def parse(data: bytes, what: str) -> Any:
    """The value that ``data`` holds; raises ``Untrusted`` that names ``what``."""
    if sum(map(data.count, _BEFORE_VALUES)) > _MAX_VALUES:
        raise malformed(f"it holds more than {_MAX_VALUES} values", what)
    try:
        text = data.decode("utf-8")
        value = json.loads(
            text,
            object_pairs_hook=lambda pairs: _unique(pairs, what),
            parse_constant=lambda text: _not_a_number(text, what),
            parse_int=lambda text: _whole_number(text, what),
            parse_float=lambda text: _finite_number(text, what),
        )
        if _HALF_PAIR.search(text):
            _check_is_unicode(value, what)
        return value
    except (ValueError, RecursionError) as error:
        raise malformed(f"{what} is no JSON that can be read: {printable(str(error))}", what) from None


def _unique(pairs: list[tuple[str, Any]], what: str) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise malformed("it names a key twice", what)
    return found


def _not_a_number(text: str, what: str) -> NoReturn:
    raise malformed(f"it holds {text}, which is no number of JSON", what)


def _whole_number(text: str, what: str) -> int:
    if len(text) > _MAX_WHOLE_DIGITS:
        raise malformed("it holds a number that is too long", what)
    return int(text)


def _finite_number(text: str, what: str) -> float:
    """A double; refused when none comes near to what is written: 1e400 would become infinity, 1e-400 zero."""
    if len(text) > _MAX_NUMBER_BYTES:
        raise malformed("it holds a number that is too long", what)
    value = float(text)
    if not math.isfinite(value) or (value == 0 and not _ZERO.fullmatch(text)):
        raise malformed(f"it holds the number {text}, which is out of range", what)
    return value


def _check_is_unicode(value: Any, what: str) -> None:
    """Refuse half of a surrogate pair: each reader makes another character of it, and no program can be given it."""
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise malformed("it holds half of a surrogate pair, which is no character", what) from None


class Fields:
    """An object of JSON with typed access; ``what`` says where it stands. Null counts as absent, as it does for Go's programs."""

    def __init__(self, value: Any, what: str) -> None:
        if not isinstance(value, dict):
            raise malformed(f"{what} is no JSON object", what)
        self._values: dict[str, Any] = value
        self._what = what
        self._is_map = False
        self._by_folded: dict[str, list[str]] = {}

    @classmethod
    def any_case(cls, value: Any, what: str) -> Fields:
        """Fields whose keys are compared in lower case: Jib writes ``config`` where others write ``Config``."""
        fields = cls(value, what)
        fields._values = _unique([(key.casefold(), item) for key, item in fields._values.items()], what)
        return fields

    @classmethod
    def of_names(cls, value: Any, what: str) -> Fields:
        """Fields of a map, in which all readers compare names exactly, and of the maps in it."""
        fields = cls(value, what)
        fields._is_map = True
        return fields

    def _value(self, key: str) -> Any:
        """The field's value, or None; refused where readers that ignore case would see another one."""
        if not self._is_map and self._variants(key) not in ([], [key]):
            raise malformed(f"its field {key} is written in another case, which readers take differently", self._what)
        return self._values.get(key)

    def _variants(self, key: str) -> list[str]:
        if not self._by_folded:
            for name in self._values:
                self._by_folded.setdefault(name.casefold(), []).append(name)
        return self._by_folded.get(key.casefold(), [])

    def _typed(self, key: str, kind: type) -> Any:
        value = self._value(key)
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            raise malformed(f"its field {key} is a {type(value).__name__} and not a {kind.__name__}", self._what)
        return value

    def text(self, key: str) -> str:
        """A string, empty when absent."""
        return self._typed(key, str) or ""

    def needed_text(self, key: str) -> str:
        """A string that must be there."""
        found = self.text(key)
        if not found:
            raise malformed(f"its field {key} is missing or empty", self._what)
        return found

    def number(self, key: str) -> int | None:
        """A whole number, or None when absent."""
        value: int | None = self._typed(key, int)
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of strings, empty when absent."""
        items = self.items(key)
        if not all(isinstance(item, str) for item in items):
            raise malformed(f"its field {key} is no list of strings", self._what)
        return tuple(items)

    def items(self, key: str) -> list[Any]:
        """A list of anything, empty when absent."""
        return self._typed(key, list) or []

    def keys(self) -> list[str]:
        """The names of all fields."""
        return list(self._values)

    def has(self, key: str) -> bool:
        """Whether the field is there and not null."""
        return self._value(key) is not None

    def inner(self, key: str) -> Fields:
        """An object, empty when absent."""
        found = Fields(self._typed(key, dict) or {}, f"{self._what}: {key}")
        found._is_map = self._is_map
        return found

    def inner_items(self, key: str) -> list[Fields]:
        """A list of objects, empty when absent."""
        return [Fields(item, f"{self._what}: {key}[{at}]") for at, item in enumerate(self.items(key))]

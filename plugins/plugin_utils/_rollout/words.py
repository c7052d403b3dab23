# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers, sizes and lists of hosts as an operator reads them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

SHOWN_HOSTS = 5
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")


def size(count_bytes: float) -> str:
    """A size with its unit, such as 237 MiB."""
    value, unit = float(count_bytes), 0
    while abs(value) >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    digits = 0 if unit == 0 or value >= 100 else 1
    return f"{value:.{digits}f} {_UNITS[unit]}"


def hosts(names: Sequence[str], most: int = SHOWN_HOSTS) -> str:
    """The first names, and how many more there are."""
    rest = len(names) - most
    return " ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def on_terminal(text: str) -> str:
    """``text`` of a host without characters that a terminal would act on: the message of a module may hold what a guest said."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def count(number: int, noun: str) -> str:
    """A number with its noun in the right form."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def line(head: str, parts: Iterable[str]) -> str:
    """A line of the summary: its head in a column of its own, the parts that are not empty behind it."""
    return f"{head:<10} " + " · ".join(part for part in parts if part)


def allowed(budget: object, total: int) -> int:
    """How many hosts a budget allows: a number, or a share such as 2% of ``total``, rounded down."""
    text = str(budget).strip()
    share = text.endswith("%")
    try:
        value = float(text[:-1]) if share else int(text)
    except ValueError:
        raise ValueError(f"{text!r} is neither a number of hosts nor a share such as 2%") from None
    if value < 0 or (share and value > 100):
        raise ValueError(f"{text!r} is no share of a fleet: from 0% to 100%, or a number from 0 on")
    return int(total * value / 100 + 1e-9) if share else int(value)


def waves(spec: object, hosts: Sequence[str]) -> list[list[str]]:
    """The hosts of each wave, as Ansible's ``serial`` divides them: a share is rounded down to at least one host, the last size repeats."""
    sizes = list(spec) if isinstance(spec, (list, tuple)) else [spec]
    rest, found = list(hosts), []
    while rest and sizes:
        text = str(sizes[0]).strip()
        size_ = int(float(text[:-1]) / 100 * len(hosts)) or 1 if text.endswith("%") else int(text)
        size_ = size_ if size_ > 0 else len(rest)
        found.append(rest[:size_])
        rest = rest[size_:]
        sizes = sizes[1:] or sizes
    return found

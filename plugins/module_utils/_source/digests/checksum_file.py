# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checksum files: what ``sha256sum`` and its relatives write beside an archive.

Invariant: a digest is taken from a checksum file only when it is the file's only possible meaning for this archive; everything
else is refused, because a wrong guess would be trusted.

Formats: ``HEX  name`` and ``HEX *name`` with the backslash escapes of GNU coreutils, ``SHA256 (name) = HEX`` (BSD, ``--tag``), the
digest alone, and ``sha256:HEX``.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass

from ..._errors import Untrusted
from ..._names import Digest, printable

MAX_SIDECAR_BYTES = 1 << 20
_GNU = re.compile(r"(\\?)([0-9A-Fa-f]{64}|[0-9A-Fa-f]{128})(?: [ *](.+))?")
_BSD = re.compile(r"(\\?)SHA(256|512) \((.+)\) = ([0-9A-Fa-f]+)")
_PREFIXED = re.compile(r"(sha256|sha512):([0-9A-Fa-f]+)(?:\s+[ *]?(.+))?", re.IGNORECASE)
_ALGORITHM = {64: "sha256", 128: "sha512"}
_ESCAPES = {"\\\\": "\\", "\\n": "\n", "\\r": "\r"}
_SHOWN_NAMES = 5


@dataclass(frozen=True)
class Entry:
    """One line of a checksum file; ``name`` is empty when it names no file."""

    digest: Digest
    name: str


def find_digest(content: bytes, key: str, *, where: str) -> Digest:
    """The digest that the checksum file ``content`` gives for the object ``key``; raises ``Untrusted`` when it gives none or several.

    A line counts when it names the key, the key's last component (also behind ``./`` or a path), or, alone in its file, no name.
    """
    entries = parse(content, where=where)
    # A line that names the key whole cannot mean another object; one that has its last component can.
    matching = [one for one in entries if one.name in (key, "./" + key)] or [
        one for one in entries if is_name_of(one.name, key)
    ]
    if not matching and len(entries) == 1 and not entries[0].name:
        matching = entries
    digests = {str(one.digest): one.digest for one in matching}
    by_algorithm = {one.algorithm: one for one in digests.values()}
    if len(by_algorithm) != len(digests):
        raise Untrusted(
            f"{where} gives several digests for {printable(key)}",
            hint="publish a checksum file with one line for each archive",
        )
    if not by_algorithm:
        named = ", ".join(printable(one.name, 60) for one in entries[:_SHOWN_NAMES] if one.name) or "nothing"
        raise Untrusted(
            f"{where} gives no digest for {printable(key)}: it names {named}",
            hint="check that the checksum file belongs to this archive; its lines must name it as it is called in the bucket",
        )
    return by_algorithm.get("sha256") or next(iter(by_algorithm.values()))


def parse(content: bytes, *, where: str) -> list[Entry]:
    """Every line of a checksum file; empty lines and ``#`` comments aside, a line of no known form is ``Untrusted``."""
    entries: list[Entry] = []
    for number, line in enumerate(content.decode("utf-8", "surrogateescape").lstrip("\ufeff").splitlines(), 1):
        text = line.strip("\r\n")
        if not text.strip() or text.startswith("#"):
            continue
        entry = _entry(text.strip(" \t"))
        if entry is None:
            raise Untrusted(
                f"line {number} of {where} is no checksum: {printable(text, 80)!r}",
                hint="check that it is the output of `sha256sum` or `sha512sum` and not, for example, an error page",
            )
        entries.append(entry)
    return entries


def _entry(text: str) -> Entry | None:
    gnu, bsd, prefixed = _GNU.fullmatch(text), _BSD.fullmatch(text), _PREFIXED.fullmatch(text)
    if gnu:
        return _made(_ALGORITHM[len(gnu[2])], gnu[2], _unescaped(gnu[3] or "", escaped=bool(gnu[1])))
    if bsd:
        return _made("sha" + bsd[2], bsd[4], _unescaped(bsd[3], escaped=bool(bsd[1])))
    if prefixed:
        return _made(prefixed[1].lower(), prefixed[2], prefixed[3] or "")
    return None


def _made(algorithm: str, value: str, name: str) -> Entry | None:
    return Entry(Digest(algorithm, value.lower()), name) if _ALGORITHM.get(len(value)) == algorithm else None


def _unescaped(name: str, *, escaped: bool) -> str:
    return re.sub(r"\\[\\nr]", lambda match: _ESCAPES[match[0]], name) if escaped else name


def is_name_of(name: str, key: str) -> bool:
    """Whether a line for ``name`` is about the object ``key``."""
    if not name:
        return False
    return name in (key, "./" + key) or posixpath.basename(name) == posixpath.basename(key)

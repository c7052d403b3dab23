# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A family: several objects that are the layers of one image. Its digest, and what each of its objects must hash to.

The digest of a family is the SHA-256 of the text that ``sha256sum`` prints for its objects, in natural order, each named by its key
behind the family's: where the layers lie as files, ``sha256sum $(ls -v) | sha256sum`` gives it. So it changes with each layer's
bytes, with their order, and when one is added, taken away or renamed; neither the bucket nor the family's own key is in it.

Invariant: a family whose digest is pinned, or whose checksum file names its objects, is exactly the objects that were meant: no more
and no fewer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Callable

from ..._errors import BadInput, Untrusted
from ..._names import Digest, ObjectKey, printable
from ..objects import ObjectInfo
from ..source import Source
from .checksum import (
    ChecksumPolicy,
    Expected,
    Trust,
    expect,
    is_pinned,
    no_digest,
    read_sidecar,
    refuse_contradiction,
    refuse_recorded,
)
from .checksum_file import find_digest, is_name_of, parse

_WEAKEST_FIRST = (Trust.FIRST_USE, Trust.OBJECT, Trust.SIDECAR, Trust.PINNED)


class OtherFamily(Untrusted):
    """The objects are, together, not the family that was asked for."""


@dataclass(frozen=True)
class FamilyExpected:
    """What is expected of the family as a whole (``None``: nothing), and of each object in order."""

    whole: Digest | None
    objects: tuple[Expected, ...]


def family_sha256(key: ObjectKey, objects: Iterable[tuple[str, str]]) -> str:
    """The digest of the family ``key`` in hex; ``objects`` are key and SHA-256 of each, in natural order."""
    lines = "".join(_line(name[len(key.value) :], sha256) for name, sha256 in objects)
    return hashlib.sha256(lines.encode()).hexdigest()


def _line(name: str, sha256: str) -> str:
    # As GNU coreutils write it: a name with a backslash is escaped, and its line begins with one. A key has no line breaks.
    return f"\\{sha256}  " + name.replace("\\", "\\\\") + "\n" if "\\" in name else f"{sha256}  {name}\n"


def weakest(trusts: Iterable[Trust]) -> Trust:
    """The trust level of a family: that of its least trusted object."""
    return min(trusts, key=_WEAKEST_FIRST.index)


def resolve_family(
    bucket: Source,
    key: ObjectKey,
    infos: Sequence[ObjectInfo],
    checksum_option: str,
    policy: ChecksumPolicy,
    recorded: Callable[[ObjectInfo], str],
) -> FamilyExpected:
    """What the family's objects must hash to; as ``checksum.resolve`` with these differences.

    A digest in ``checksum_option``, or the only line without a name of a checksum file, is the family's own. Any other checksum file
    must name each object and nothing else. ``recorded`` gives the digest (hex, or empty) of an earlier download of that very object.
    """
    option = checksum_option.strip()
    if is_pinned(option):
        return _whole(key, Digest.parse(option, what="checksum"), Trust.PINNED, infos, recorded)
    if not option:
        return FamilyExpected(None, tuple(_of_itself(info, policy, recorded(info)) for info in infos))
    content, where = read_sidecar(bucket, option)
    entries = parse(content, where=where)
    if len(entries) == 1 and not entries[0].name:
        return _whole(key, entries[0].digest, Trust.SIDECAR, infos, recorded)
    for entry in entries:
        if not any(is_name_of(entry.name, info.key) for info in infos):
            raise Untrusted(
                f"{where} names {printable(entry.name, 60) or 'nothing'}, which is no object under {printable(key.value)}",
                hint="a checksum file of a family names its objects and nothing else: an object may have been removed",
            )
    return FamilyExpected(None, tuple(_named(content, info, where, recorded(info)) for info in infos))


def refuse_other_family(key: ObjectKey, expected: Digest | None, objects: Sequence[tuple[str, str]]) -> None:
    """Raise ``OtherFamily`` unless the family of ``objects`` (key and SHA-256) is the one that was asked for."""
    found = family_sha256(key, objects)
    if expected is not None and found != expected.hex:
        raise OtherFamily(
            f"the family {printable(key.value)} of {len(objects)} objects has sha256:{found}, but must have {expected}",
            hint="an object was replaced, added or removed since the checksum was made: see its objects' digests with `sha256sum`",
            expected=str(expected),
            found=f"sha256:{found}",
        )


def _whole(
    key: ObjectKey, digest: Digest, trust: Trust, infos: Sequence[ObjectInfo], recorded: Callable[[ObjectInfo], str]
) -> FamilyExpected:
    if digest.algorithm != "sha256":
        raise BadInput(
            f"the checksum of the family {key} is a {digest.algorithm} digest",
            hint="give checksum: sha256:…, as a family is known by its SHA-256",
        )
    # What each object says of itself is only a help here: the digest of the whole decides.
    return FamilyExpected(digest, tuple(Expected(expect(info.sha256 or recorded(info)), trust) for info in infos))


def _of_itself(info: ObjectInfo, policy: ChecksumPolicy, recorded_sha256: str) -> Expected:
    if info.sha256:
        return Expected(expect(info.sha256), Trust.OBJECT)
    if policy is ChecksumPolicy.REQUIRE:
        raise no_digest(info.key)
    return Expected(expect(recorded_sha256), Trust.FIRST_USE)


def _named(content: bytes, info: ObjectInfo, where: str, recorded_sha256: str) -> Expected:
    digest = find_digest(content, info.key, where=where)
    refuse_contradiction(info, digest, Trust.SIDECAR)
    refuse_recorded(info, digest, recorded_sha256)
    return Expected(digest, Trust.SIDECAR)

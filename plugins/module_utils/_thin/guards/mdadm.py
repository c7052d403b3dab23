# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether mdadm assembles arrays that its configuration does not name, and which arrays of this host it does not name.

`mdadm --assemble --scan` reads every block device, and starts each array that it finds. Only `AUTO -all` limits it to the arrays that ARRAY
lines name. That holds for the host's arrays too, so it must not be set where one of them runs without such a line: the host would miss it
at its next boot.

Invariant: only reads files. The role prepare gives this file to the host's Python as it is: nothing but the standard library is imported.
Source: mdadm.conf(5); config.c of mdadm 4.2 (match_keyword, conf_line, autoline).
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

DROP_IN = "flyd.conf"
_PLACES = ("etc/mdadm/mdadm.conf", "etc/mdadm.conf")  # as Debian reads them; other distributions have the second first
_IGNORED = "<ignore>"
_MORE = frozenset(("devices", "super-minor"))  # what may be another at the next boot
_UUID = re.compile(r"[0-9a-f]{32}")
_MIN_KEYWORD_CHARS = 3


@dataclass(frozen=True)
class Mdadm:
    """What decides about the arrays of this host.

    ``drop_in`` is the path of the file of flyd.lite (which may not be there), ``auto_file`` the one whose AUTO line counts ("" for none) and
    ``is_off`` whether that line is ``AUTO -all``. ``unlisted`` has each array that runs and that no ARRAY line names, ``of_guests`` each
    that consists of devices of guests alone.
    """

    drop_in: str
    auto_file: str
    is_off: bool
    unlisted: tuple[str, ...]
    of_guests: tuple[str, ...]

    @property
    def is_wanted(self) -> bool:
        """Whether the drop-in does no harm here: no other file has an AUTO line, and every array that runs is listed."""
        return self.auto_file in ("", self.drop_in) and not self.unlisted


def look(root: str = "/") -> Mdadm:
    """Read mdadm's configuration and the arrays below ``root``, where the host's files begin; a file that cannot be read counts as empty."""
    main = _main_file(root)
    lines = [(path, words) for path in _files(main) for words in _lines(text_of(path))]
    autos = [(path, words) for path, words in lines if _is(words[0], "auto")]
    listed = [_identity(words) for _path, words in lines if _is(words[0], "array")]
    arrays = list(_arrays(root, [identity for identity in listed if identity is not None]))
    return Mdadm(
        drop_in=os.path.join(f"{main}.d", DROP_IN),
        auto_file=autos[0][0] if autos else "",
        is_off=bool(autos) and [word.lower() for word in autos[0][1][1:2]] == ["-all"],
        unlisted=tuple(name for name, is_guests in arrays if not is_guests),
        of_guests=tuple(name for name, is_guests in arrays if is_guests),
    )


def _main_file(root: str) -> str:
    """The file that mdadm reads first: the one that exists, else the distribution's."""
    is_debian = os.path.exists(os.path.join(root, "etc/debian_version"))
    places = [os.path.join(root, place) for place in (_PLACES if is_debian else reversed(_PLACES))]
    return next((place for place in places if os.path.exists(place)), places[0])


def _files(main: str) -> Iterator[str]:
    """The main file and those of its directory, in the order in which mdadm reads them: of two AUTO lines, it takes the first."""
    yield main
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(f"{main}.d")):
            if name.endswith(".conf") and not name.startswith("."):
                yield os.path.join(f"{main}.d", name)


def _lines(text: str) -> Iterator[list[str]]:
    """The words of each line; one that begins with a blank belongs to the line before."""
    words: list[str] = []
    for line in text.splitlines():
        found = re.sub(r"(^|\s)#.*", "", line).replace('"', "").replace("'", "").split()
        if line[:1] not in (" ", "\t"):
            if words:
                yield words
            words = []
        words += found
    if words:
        yield words


def _is(word: str, keyword: str) -> bool:
    return len(word) >= _MIN_KEYWORD_CHARS and keyword.startswith(word.lower())


def _identity(words: list[str]) -> tuple[str, str] | None:
    """The UUID and the name ("" for any) that an ARRAY line asks for; ``None`` where it asks for more, or for no UUID, or is to be ignored."""
    asked = {key.lower(): value for key, _equals, value in (word.partition("=") for word in words[1:])}
    uuid = _plain_uuid(asked.get("uuid", ""))
    if not uuid or _IGNORED in asked or _MORE.intersection(asked):
        return None
    return uuid, asked.get("name", "").lower()


def _arrays(root: str, listed: list[tuple[str, str]]) -> Iterator[tuple[str, bool]]:
    """The name of each array that the kernel has and that is not ``listed``, and whether all of its members are of guests."""
    blocks = os.path.join(root, "sys/block")
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(blocks)):
            state = text_of(os.path.join(blocks, name, "md/array_state")).strip()
            if state in ("", "clear"):  # no array, or what is left of one that was stopped
                continue
            number = text_of(os.path.join(blocks, name, "dev")).strip()
            record = text_of(os.path.join(root, "run/udev/data", f"b{number}"))
            uuid = _plain_uuid(_property(record, "MD_UUID"))
            if not uuid or not {(uuid, ""), (uuid, _property(record, "MD_NAME").lower())}.intersection(listed):
                yield name, _is_of_guests(os.path.join(blocks, name, "slaves"))


def _property(record: str, key: str) -> str:
    """Of a device, in udev's database."""
    found = re.search(rf"^E:{key}=(.*)$", record, re.MULTILINE)
    return found[1] if found else ""


def _is_of_guests(members: str) -> bool:
    try:
        names = os.listdir(members)
    except OSError:
        return False
    return bool(names) and all(text_of(os.path.join(members, name, "dm/uuid")).startswith("FLYD-") for name in names)


def _plain_uuid(text: str) -> str:
    """A UUID without the separators, of which mdadm takes several; "" for what is none."""
    plain = re.sub(r"[:. -]", "", text).lower()
    return plain if _UUID.fullmatch(plain) else ""


def text_of(path: str) -> str:
    """Return what a file holds; "" for one that cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""

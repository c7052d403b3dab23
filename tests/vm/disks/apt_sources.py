"""Which Debian mirrors this host uses, read from its own apt sources.

Invariant: only entries that are signed with Debian's archive key, for this host's own release and its
updates, get through. A third party's repository never ends up in a machine or an image of the lab.
Formats: sources.list(5), one line per entry, and deb822.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from programs import LabError

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
SUITE = "bookworm"
"""The Debian release of the images, and of the machines unless FLYD_LAB_SUITE names another."""
SUITES = ("bullseye", "bookworm", "trixie")
"""The releases that a machine can have."""

_LINE = re.compile(r"deb\s+(?:\[(?P<options>[^]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s+(?P<components>.+)")


@dataclass(frozen=True)
class Source:
    """One repository, suite by suite; ``signed_by`` is empty when the entry names no key."""

    uri: str
    suite: str
    components: tuple[str, ...]
    signed_by: str = ""

    def as_line(self) -> str:
        return f"deb [signed-by={KEYRING}] {self.uri} {self.suite} main"


def parse_one_line(text: str) -> Iterator[Source]:
    """The ``deb`` entries of a .list file."""
    for line in text.splitlines():
        match = _LINE.match(line.partition("#")[0].strip())
        if match:
            options = dict(pair.partition("=")[::2] for pair in (match["options"] or "").split())
            components = tuple(match["components"].split())
            yield Source(match["uri"], match["suite"], components, options.get("signed-by", ""))


def parse_deb822(text: str) -> Iterator[Source]:
    """The enabled ``deb`` entries of a .sources file, one for each URI and suite."""
    kept = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for stanza in re.split(r"\n\s*\n", kept):
        fields = _fields(stanza)
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() == "no":
            continue
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                components = tuple(fields.get("components", "").split())
                yield Source(uri, suite, components, fields.get("signed-by", ""))


def _fields(stanza: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    name = ""
    for line in stanza.splitlines():
        if line[:1].isspace():
            fields[name] = f"{fields.get(name, '')} {line.strip()}"
        else:
            name, _, value = line.partition(":")
            name = name.lower()
            fields[name] = value.strip()
    return fields


def machine_suite(environment: Mapping[str, str]) -> str:
    """The Debian release of the machines."""
    suite = environment.get("FLYD_LAB_SUITE") or SUITE
    if suite not in SUITES:
        raise LabError(f"FLYD_LAB_SUITE is {suite}: give one of {', '.join(SUITES)}")
    return suite


def debian_lines(sources: Iterable[Source], codename: str, wanted: str = SUITE) -> list[str]:
    """One-line entries for the release ``wanted`` made of the Debian entries of a host that runs ``codename``."""
    lines = []
    for source in sources:
        release, _, pocket = source.suite.partition("-")
        debians = source.signed_by in ("", str(KEYRING)) and "main" in source.components
        if debians and release == codename and pocket in ("", "updates", "security"):
            suite = f"{wanted}-{pocket}" if pocket else wanted
            lines.append(Source(source.uri, suite, ("main",)).as_line())
    return list(dict.fromkeys(lines))


def mirror_lines(environment: Mapping[str, str], etc: Path = Path("/etc"), *, wanted: str = SUITE) -> list[str]:
    """The entries to build from: FLYD_LAB_MIRROR when set, else this host's own Debian mirrors."""
    if environment.get("FLYD_LAB_MIRROR"):
        return [Source(environment["FLYD_LAB_MIRROR"], wanted, ("main",)).as_line()]
    lines = debian_lines(_host_sources(etc / "apt"), _codename(etc / "os-release"), wanted)
    if not any(f" {wanted} " in line for line in lines):
        raise LabError(f"no Debian mirror in {etc}/apt: set FLYD_LAB_MIRROR to the URL of one")
    return lines


def _host_sources(apt: Path) -> Iterator[Source]:
    parts = apt / "sources.list.d"
    for path in [apt / "sources.list", *sorted(parts.glob("*.list"))]:
        if path.is_file():
            yield from parse_one_line(path.read_text())
    for path in sorted(parts.glob("*.sources")):
        yield from parse_deb822(path.read_text())


def _codename(os_release: Path) -> str:
    match = re.search(r'^VERSION_CODENAME="?([a-z]+)"?$', os_release.read_text(), re.MULTILINE)
    return match[1] if match else ""

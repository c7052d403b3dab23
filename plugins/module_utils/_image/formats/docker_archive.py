# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Archives of ``docker save``, and of the many tools that write the same: manifest.json, configurations, layers.

Invariant: one image is chosen, or the archive is refused with the list of those it has. Source: Docker Image Specification v1.2,
"Combined Image JSON + Filesystem Changeset Format".
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from typing import NamedTuple

from ..._errors import Unsupported
from ..._names import Digest, printable
from .. import documents
from ..digests import check_bytes
from ..documents import Fields
from ..image import Image, Selector, StoredLayer, count_layers, no_such_image
from ..platforms import Platform
from ..refusal import malformed
from .archive import Archive
from .choosing import Candidate, NoneSuits, choose_for_platform
from .config import ParsedConfig, configured_platform, parse_config

MANIFEST = "manifest.json"

_MAX_CANDIDATES = 1024
_BLOB = re.compile(r"blobs/(sha256|sha512)/([0-9a-f]{64,128})")
_NAMED_BY_DIGEST = re.compile(r"(?:sha256:)?([0-9a-f]{64})(?:\.json)?")


def find_image(archive: Archive, wanted: Selector) -> Image:
    """The image that manifest.json lists for the name and platform wanted; raises ``Untrusted``, ``BadInput`` or ``Unsupported``."""
    try:
        return _image(archive, _choose(archive, wanted))
    except NoneSuits as error:
        raise error.reason from None


def _image(archive: Archive, entry: Fields) -> Image:
    config_name, names = entry.needed_text("config"), entry.texts("layers")
    data = documents.read_document(archive.file(config_name), config_name, archive.limits)
    check_bytes(_blob_digest(config_name), data, f"the configuration {config_name}")
    parsed = parse_config(data, config_name)
    return Image(
        "docker", parsed.config, layers_of(archive, parsed, names), data, warnings=_misnamed(config_name, data)
    )


def layers_of(archive: Archive, parsed: ParsedConfig, names: tuple[str, ...]) -> tuple[StoredLayer, ...]:
    """The layers ``names`` of the image with the configuration ``parsed``; raises ``Untrusted`` when they are too few or too many."""
    count_layers(parsed, names, MANIFEST)
    pairs = zip(names, parsed.diff_ids)
    return tuple(StoredLayer(name, archive.file(name), diff_id, _blob_digest(name)) for name, diff_id in pairs)


class Listed(NamedTuple):
    """One entry of manifest.json: its position, its tags, its configuration as it stands in the archive, the names of its layers."""

    position: int
    tags: tuple[str, ...]
    document: bytes
    layers: tuple[str, ...]

    def is_named(self, image_name: str) -> bool:
        """Whether ``image_name`` selects it; an empty one selects all."""
        by_tag = full_name(image_name) in map(full_name, self.tags)
        return not image_name or image_name == str(self.position) or by_tag


def listed(archive: Archive) -> list[Listed]:
    """The entries of manifest.json whose configuration is in the archive, whether their layers are or not."""
    found: list[Listed] = []
    for at, entry in enumerate(_entries(archive)):
        name = entry.needed_text("config")
        if archive.has(name):
            data = documents.read_document(archive.file(name), name, archive.limits)
            found.append(Listed(at, entry.texts("repotags"), data, entry.texts("layers")))
    return found


def _entries(archive: Archive) -> list[Fields]:
    data = documents.read_document(archive.file(MANIFEST), MANIFEST, archive.limits)
    value = documents.parse(data, MANIFEST)
    if isinstance(value, dict) and "schemaVersion" in value:
        raise Unsupported(
            "the archive is a directory of manifest and layers (skopeo's dir:), packed as it is",
            hint="convert it with `skopeo copy dir:DIRECTORY docker-archive:FILE`",
        )
    if not isinstance(value, list) or not value:
        raise malformed("it is no list of images", MANIFEST)
    return [Fields.any_case(item, f"{MANIFEST}[{at}]") for at, item in enumerate(value)]


def _choose(archive: Archive, wanted: Selector) -> Fields:
    entries = _entries(archive)
    named = _named(entries, wanted.name)
    platforms: dict[str, Platform | None] = {}
    candidates: dict[str, tuple[Candidate, Fields]] = {}
    for name, entry in named:
        config_name = entry.needed_text("config")
        if config_name not in platforms:
            if len(platforms) >= _MAX_CANDIDATES:
                raise malformed(f"it lists more than {_MAX_CANDIDATES} images", MANIFEST)
            platforms[config_name] = _platform(archive, config_name)
        key = "\0".join((config_name, *entry.texts("layers")))
        candidates.setdefault(key, (Candidate(key, platforms[config_name], name), entry))
    chosen = choose_for_platform([candidate for candidate, _entry in candidates.values()], wanted)
    return candidates[chosen.key][1]


def _named(entries: list[Fields], image_name: str) -> list[tuple[str, Fields]]:
    """The entries that ``image_name`` may select, and a name for each that selects it alone."""
    tags = [entry.texts("repotags") for entry in entries]
    names = _names(tags)
    numbered = list(zip(names, entries))
    if not image_name:
        return numbered
    if image_name.isdecimal() and int(image_name) < len(entries):
        return [numbered[int(image_name)]]
    chosen = [one for one, known in zip(numbered, tags) if full_name(image_name) in map(full_name, known)]
    if not chosen:
        raise no_such_image(image_name, names)
    return chosen


def _platform(archive: Archive, config_name: str) -> Platform | None:
    """What the configuration says; nothing when it is not there, which is an error only for the image that is chosen."""
    if not archive.has(config_name):
        return None
    data = documents.read_document(archive.file(config_name), config_name, archive.limits)
    return configured_platform(Fields(documents.parse(data, config_name), config_name))


def _names(tags: list[tuple[str, ...]]) -> list[str]:
    """What selects each image: its first tag, or its position where it has none or another has the same."""
    how_often = Counter(full_name(name) for names in tags for name in set(names))
    return [
        names[0] if names and how_often[full_name(names[0])] == 1 and not names[0].isdecimal() else str(at)
        for at, names in enumerate(tags)
    ]


def full_name(name: str) -> str:
    """``name`` as Docker means it: ``redis`` is ``docker.io/library/redis:latest``."""
    head, slash, rest = name.partition("/")
    if not slash:
        name = f"docker.io/library/{name}"
    elif "." not in head and ":" not in head and head != "localhost":
        name = f"docker.io/{name}"
    elif head == "docker.io" and "/" not in rest:
        name = f"docker.io/library/{rest}"
    return name if ":" in name.rpartition("/")[2] or "@" in name else f"{name}:latest"


def _misnamed(config_name: str, data: bytes) -> tuple[str, ...]:
    """A warning when a configuration has another digest than its name says, where a tool names it so: it is the image's id."""
    match = _NAMED_BY_DIGEST.fullmatch(config_name)
    found = hashlib.sha256(data).hexdigest()
    if match is None or match[1] == found:
        return ()
    return (
        f"the configuration {printable(config_name)} has the digest sha256:{found}, which is the image's, and not that of its name",
    )


def _blob_digest(name: str) -> Digest | None:
    match = _BLOB.fullmatch(name)
    return Digest(match[1], match[2]) if match else None

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Archives of ``docker save``, and of the many tools that write the same: manifest.json, configurations, layers.

Invariant: one image is chosen, or the archive is refused with the list of those it has. Source: Docker Image Specification v1.2,
"Combined Image JSON + Filesystem Changeset Format".
"""

from __future__ import annotations

import re

from .._names import Digest
from . import documents
from .archive import Archive
from .config import parse_config
from .digests import check_bytes
from .documents import Fields
from .image import Image, StoredLayer, count_layers, no_such_image, several_images
from .refusal import refused

MANIFEST = "manifest.json"

_BLOB = re.compile(r"blobs/(sha256|sha512)/([0-9a-f]{64,128})")
_NAMED_BY_DIGEST = re.compile(r"(?:sha256:)?([0-9a-f]{64})(?:\.json)?")


def find_image(archive: Archive, image_name: str) -> Image:
    """The image that manifest.json lists under ``image_name``, or its only one; raises ``Untrusted`` or ``BadInput``."""
    entry = _choose(_entries(archive), image_name)
    config_name, names = entry.needed_text("config"), entry.texts("layers")
    data = documents.read_document(archive.file(config_name), config_name, archive.limits)
    check_bytes(_digest_in(config_name), data, f"the configuration {config_name}")
    parsed = parse_config(data, config_name)
    count_layers(parsed, names, MANIFEST)
    layers = [
        StoredLayer(name, archive.file(name), diff_id, _blob_digest(name))
        for name, diff_id in zip(names, parsed.diff_ids)
    ]
    return Image("docker", parsed.config, tuple(layers))


def is_whole(archive: Archive, image_name: str) -> bool:
    """Whether all members that the chosen image names are in the archive."""
    entry = _choose(_entries(archive), image_name)
    return all(archive.has(name) for name in (entry.needed_text("config"), *entry.texts("layers")))


def _entries(archive: Archive) -> list[Fields]:
    data = documents.read_document(archive.file(MANIFEST), MANIFEST, archive.limits)
    value = documents.parse(data, MANIFEST)
    if not isinstance(value, list) or not value:
        raise refused("it is no list of images", MANIFEST)
    return [Fields.any_case(item, f"{MANIFEST}[{at}]") for at, item in enumerate(value)]


def _choose(entries: list[Fields], image_name: str) -> Fields:
    tags = [entry.texts("repotags") for entry in entries]
    if not image_name:
        if len(entries) == 1:
            return entries[0]
        raise several_images(_names(tags))
    if image_name.isdecimal() and int(image_name) < len(entries):
        return entries[int(image_name)]
    chosen = [entry for entry, names in zip(entries, tags) if full_name(image_name) in map(full_name, names)]
    if len(chosen) != 1:
        raise no_such_image(image_name, _names(tags))
    return chosen[0]


def _names(tags: list[tuple[str, ...]]) -> list[str]:
    return [names[0] if names else str(at) for at, names in enumerate(tags)]


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


def _digest_in(name: str) -> Digest | None:
    """The digest that a configuration's name is made of, where a tool names it so."""
    match = _NAMED_BY_DIGEST.fullmatch(name)
    return Digest("sha256", match[1]) if match else _blob_digest(name)


def _blob_digest(name: str) -> Digest | None:
    match = _BLOB.fullmatch(name)
    return Digest(match[1], match[2]) if match else None

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Archives of Docker before 1.10: a file ``repositories``, and one directory for each layer that names its parent.

Invariant: the chain of parents ends, and every layer on it is in the archive. These archives know no digests.
Source: Docker Image Specification v1.0.
"""

from __future__ import annotations

from . import documents
from .archive import Archive
from .config import parse_config
from .docker_archive import full_name
from .documents import Fields
from .image import Image, StoredLayer, no_such_image, several_images
from .refusal import refused

REPOSITORIES = "repositories"


def find_image(archive: Archive, image_name: str) -> Image:
    """The image that ``repositories`` lists under ``image_name``, or its only one; raises ``Untrusted`` or ``BadInput``."""
    top = _choose(_tags(archive), image_name)
    chain: list[str] = []
    current = top
    while current:
        if len(chain) >= archive.limits.layers:
            raise refused("its parents never end", f"{current}/json")
        chain.append(current)
        current = _json(archive, current).text("parent")
    config = parse_config(
        documents.read_document(archive.file(f"{top}/json"), f"{top}/json", archive.limits), f"{top}/json"
    ).config
    layers = [StoredLayer(f"{layer}/layer.tar", archive.file(f"{layer}/layer.tar")) for layer in reversed(chain)]
    return Image("docker-legacy", config, tuple(layers))


def _json(archive: Archive, layer: str) -> Fields:
    name = f"{layer}/json"
    return Fields(documents.parse(documents.read_document(archive.file(name), name, archive.limits), name), name)


def _tags(archive: Archive) -> dict[str, str]:
    data = documents.read_document(archive.file(REPOSITORIES), REPOSITORIES, archive.limits)
    whole = Fields(documents.parse(data, REPOSITORIES), REPOSITORIES)
    found: dict[str, str] = {}
    for repository in whole.keys():  # noqa: SIM118 - no mapping
        tags = whole.inner(repository)
        for tag in tags.keys():  # noqa: SIM118 - nor is this
            found[f"{repository}:{tag}"] = tags.needed_text(tag)
    return found


def _choose(tags: dict[str, str], image_name: str) -> str:
    if not tags:
        raise refused("it lists no image", REPOSITORIES)
    if not image_name:
        if len(set(tags.values())) > 1:
            raise several_images(list(tags))
        return next(iter(tags.values()))
    chosen = {layer for name, layer in tags.items() if full_name(name) == full_name(image_name)}
    if len(chosen) != 1:
        raise no_such_image(image_name, list(tags))
    return chosen.pop()

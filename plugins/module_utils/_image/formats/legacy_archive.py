# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Archives of Docker before 1.10: a file ``repositories``, and one directory for each layer that names its parent.

Invariant: the chain of parents ends, and every layer on it is in the archive. These archives know no digests.
Source: Docker Image Specification v1.0.
"""

from __future__ import annotations

from typing import NamedTuple

from .. import documents
from ..documents import Fields
from ..extent import Extent
from ..image import Image, Selector, StoredLayer, no_such_image
from ..refusal import malformed
from .archive import Archive
from .choosing import Candidate, NoneSuits, choose_for_platform
from .config import ImageConfig, configured_platform, parse_config
from .docker_archive import full_name

REPOSITORIES = "repositories"
_RUN_FIELDS = 5  # Env, Cmd, Entrypoint, User, WorkingDir


def find_image(archive: Archive, wanted: Selector) -> Image:
    """The image that ``repositories`` lists for the name and platform wanted; raises ``Untrusted``, ``BadInput`` or ``Unsupported``."""
    top = _choose(archive, _named(_tags(archive), wanted.name), wanted)
    chain: list[str] = []
    current = top
    while current:
        if current in chain or len(chain) >= archive.limits.layers:
            raise malformed("its parents never end", f"{current}/json")
        chain.append(current)
        current = _json(archive, current).text("parent")
    config = _config(archive, top)
    layers = [StoredLayer(f"{layer}/layer.tar", archive.file(f"{layer}/layer.tar")) for layer in reversed(chain)]
    return Image("docker-legacy", config, tuple(layers))


class Chain(NamedTuple):
    """The layers below a tag, lowest first, and what the tag's layer says of how to run them, if it does."""

    tag: str
    layers: list[Extent]
    config: ImageConfig | None

    def runs_like(self, config: ImageConfig) -> bool:
        """Whether what is to be run is the same, or is not said."""
        if self.config is None:
            return True
        return self.config[:_RUN_FIELDS] == config[:_RUN_FIELDS]


def whole_chains(archive: Archive, image_name: str) -> list[Chain]:
    """The chains of all tags that ``image_name`` selects (all, when it is empty) and whose layers are all in the archive."""
    tags = _tags(archive)
    if image_name and not image_name.isdecimal():
        tags = {name: top for name, top in tags.items() if full_name(name) == full_name(image_name)}
    found: dict[str, Chain | None] = {}
    for tag, top in tags.items():
        if top not in found:
            chain = _chain(archive, top)
            layers = [archive.file(f"{layer}/layer.tar") for layer in reversed(chain)]
            says = bool(chain) and _json(archive, top).has("config")
            found[top] = Chain(tag, layers, _config(archive, top) if says else None) if chain else None
    chains = [(tag, found[top]) for tag, top in tags.items()]
    return [chain._replace(tag=tag) for tag, chain in chains if chain is not None]


def _chain(archive: Archive, top: str) -> list[str]:
    """The layers from ``top`` down to the lowest; none when one of them is not in the archive."""
    chain: list[str] = []
    current = top
    while current:
        if current in chain or len(chain) >= archive.limits.layers:
            raise malformed("its parents never end", f"{current}/json")
        if not (archive.has(f"{current}/json") and archive.has(f"{current}/layer.tar")):
            return []
        chain.append(current)
        current = _json(archive, current).text("parent")
    return chain


def _config(archive: Archive, layer: str) -> ImageConfig:
    name = f"{layer}/json"
    return parse_config(documents.read_document(archive.file(name), name, archive.limits), name).config


def _json(archive: Archive, layer: str) -> Fields:
    name = f"{layer}/json"
    return Fields(documents.parse(documents.read_document(archive.file(name), name, archive.limits), name), name)


def _tags(archive: Archive) -> dict[str, str]:
    data = documents.read_document(archive.file(REPOSITORIES), REPOSITORIES, archive.limits)
    whole = Fields.of_names(documents.parse(data, REPOSITORIES), REPOSITORIES)
    found: dict[str, str] = {}
    for repository in whole.keys():  # noqa: SIM118 - no mapping
        tags = whole.inner(repository)
        for tag in tags.keys():  # noqa: SIM118 - nor is this
            found[f"{repository}:{tag}"] = tags.needed_text(tag)
    return found


def _choose(archive: Archive, named: dict[str, str], wanted: Selector) -> str:
    candidates = {
        layer: Candidate(layer, configured_platform(_json(archive, layer)), name)
        for name, layer in reversed(list(named.items())[: archive.limits.layers])
    }
    try:
        return choose_for_platform(list(candidates.values())[::-1], wanted).key
    except NoneSuits as error:
        raise error.reason from None


def _named(tags: dict[str, str], image_name: str) -> dict[str, str]:
    """The tags that ``image_name`` may select, and their layers."""
    if not tags:
        raise malformed("it lists no image", REPOSITORIES)
    if not image_name:
        return tags
    if image_name.isdecimal() and int(image_name) < len(tags):
        name = list(tags)[int(image_name)]
        return {name: tags[name]}
    chosen = {name: layer for name, layer in tags.items() if full_name(name) == full_name(image_name)}
    if not chosen:
        raise no_such_image(image_name, list(tags))
    return chosen

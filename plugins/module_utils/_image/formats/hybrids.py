# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Archives with several lists of images: index.json, manifest.json and ``repositories`` side by side.

Invariant: whichever list a program reads, it finds the same image, or the archive is refused. For the platform that was chosen the
configurations are the same bytes (the diff_ids stand in them) and the layers of both lists are verified; an image that only one list
has, for another platform, must be in the index too. Docker 25 and later, BuildKit and ctr write the first two, Docker before 25 and
Podman the last two.
"""

from __future__ import annotations

from typing import NoReturn

from ..._names import Digest
from ..digests import has_digest, sha256_of
from ..extent import Extent
from ..image import Image, Selector, StoredLayer
from ..platforms import Platform
from ..refusal import malformed
from . import docker_archive, legacy_archive, oci_archive
from .archive import Archive
from .config import ImageConfig, parse_config
from .docker_archive import full_name
from .oci_blobs import NotWhole
from .oci_index import INDEX, all_configs

_Listed = tuple[tuple[str, ...], list[Extent], ImageConfig]

_HINT = "save the image again with one tool, such as `skopeo copy`: programs that read different lists of this archive would run different images"


def find_image(archive: Archive, wanted: Selector) -> Image:
    """The image of an archive with index.json and manifest.json; raises what either side raises, ``Untrusted`` when they disagree."""
    try:
        image = oci_archive.find_image(archive, wanted)
    except NotWhole:
        image = docker_archive.find_image(archive, wanted)
        named = oci_archive.named_config(archive, wanted)
        if named and not has_digest(image.document, named):
            _differ(f"{INDEX} names the image {named}", docker_archive.MANIFEST, image.document)
        return image
    entries, what = docker_archive.listed(archive), docker_archive.MANIFEST
    others: list[StoredLayer] = []
    indexed = all_configs(archive) if any(entry.document != image.document for entry in entries) else []
    for entry in entries:
        if entry.document != image.document:
            _check_is_for_another(entry, image, indexed, wanted)
        elif all(archive.has(name) for name in entry.layers):
            others += docker_archive.layers_of(archive, parse_config(entry.document, what), entry.layers)
    return image._replace(others=tuple(others))


def _check_is_for_another(
    entry: docker_archive.Listed, image: Image, indexed: list[tuple[Digest, Platform | None]], wanted: Selector
) -> None:
    """Refuse ``entry``, which is not ``image``, unless the index has it too, for another platform or under another name."""
    theirs = _platform(parse_config(entry.document, docker_archive.MANIFEST).config)
    chosen = _platform(image.config)
    is_another = not entry.is_named(wanted.name) or (bool(theirs.architecture) and theirs.is_known and theirs != chosen)
    in_index = [digest for digest, platform in indexed if platform is None or platform == theirs]
    if not is_another or not any(has_digest(entry.document, digest) for digest in in_index):
        ours = f"{INDEX} names the image {sha256_of(image.document)} for {chosen}"
        _differ(ours, docker_archive.MANIFEST, entry.document, f" for {theirs}")


def _platform(config: ImageConfig) -> Platform:
    return Platform.of(config.os, config.architecture, config.variant)


def check_legacy(archive: Archive, wanted: Selector, image: Image) -> None:
    """Refuse an archive whose ``repositories`` names other layers, or another configuration, than ``image`` or the list that names it."""
    listed: list[_Listed] = [((), [layer.extent for layer in image.layers], image.config)]
    if archive.has(docker_archive.MANIFEST):
        listed += _listed_whole(archive)
    by_tag = {full_name(tag): (layers, config) for tags, layers, config in listed for tag in tags}
    for chain in legacy_archive.whole_chains(archive, "" if by_tag else wanted.name):
        same_tag = by_tag.get(full_name(chain.tag))
        suiting = [same_tag] if same_tag else [(layers, config) for _tags, layers, config in listed]
        of_layers = [config for layers, config in suiting if layers == chain.layers]
        if not of_layers:
            _disagrees(chain, f"names {len(chain.layers)} layers, which are not those", image)
        if not any(map(chain.runs_like, of_layers)):
            _disagrees(chain, "has another configuration than that", image)


def _listed_whole(archive: Archive) -> list[_Listed]:
    """The images of manifest.json whose layers are all there: tags, layers, configuration."""
    entries = [entry for entry in docker_archive.listed(archive) if all(map(archive.has, entry.layers))]
    return [
        (
            entry.tags,
            [archive.file(name) for name in entry.layers],
            parse_config(entry.document, docker_archive.MANIFEST).config,
        )
        for entry in entries
    ]


def _disagrees(chain: legacy_archive.Chain, what: str, image: Image) -> NoReturn:
    lists = INDEX if image.layout == "oci" else docker_archive.MANIFEST
    raise malformed(f"{chain.tag} {what} of the image in {lists}", legacy_archive.REPOSITORIES, hint=_HINT)


def _differ(ours: str, other: str, document: bytes, more: str = "") -> NoReturn:
    raise malformed(f"{ours}, and {other} names {sha256_of(document)}{more}", other, hint=_HINT)

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which manifest of an OCI archive is meant.

Invariant: exactly one image is chosen, or the error lists what there is. Attestations and artifacts are no images; an index inside an
index is followed to a depth of four. Source: OCI image-spec v1.1, "Image Index", and BuildKit's attestation storage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .._errors import BadInput, Unsupported
from . import documents
from .archive import Archive
from .docker_archive import full_name
from .documents import Fields
from .image import no_such_image, several_images
from .oci_blobs import Descriptor, NotWhole, read_blob
from .platforms import Platform, listed
from .refusal import refused

INDEX = "index.json"
LAYOUT = "oci-layout"

_MAX_DEPTH = 4
_MAX_CANDIDATES = 1024
_NAME_ANNOTATIONS = ("io.containerd.image.name", "org.opencontainers.image.ref.name")
_ATTESTATION = "vnd.docker.reference.type"


@dataclass(frozen=True)
class Candidate:
    """A manifest that may be the one; ``platform`` is None where the archive does not say."""

    descriptor: Descriptor
    platform: Platform | None
    names: tuple[str, ...]


def choose(archive: Archive, image_name: str, platform: Platform | None) -> Descriptor:
    """The manifest of the image ``image_name`` for ``platform`` (None: this machine); see ``oci_archive.find_image``."""
    data = documents.read_document(archive.file(INDEX), INDEX, archive.limits)
    top = _images(Fields(documents.parse(data, INDEX), INDEX))
    if not top:
        raise NotWhole(refused("it lists no image", INDEX))
    candidates: list[Candidate] = []
    for fields in _named(top, image_name):
        _collect(archive, fields, _names(fields), (), candidates)
    return _for_platform(candidates, platform, image_name).descriptor


def _images(index: Fields) -> list[Fields]:
    """The entries of an index without those that are no images."""
    entries = index.inner_items("manifests")
    return [fields for fields in entries if not (_is_attestation(fields) or fields.text("artifactType"))]


def _is_attestation(fields: Fields) -> bool:
    platform = _platform(fields)
    return fields.inner("annotations").has(_ATTESTATION) or (platform is not None and not platform.is_known)


def _platform(fields: Fields) -> Platform | None:
    if not fields.has("platform"):
        return None
    inner = fields.inner("platform")
    return Platform(inner.text("os"), inner.text("architecture"), inner.text("variant"))


def _names(fields: Fields) -> tuple[str, ...]:
    annotations = fields.inner("annotations")
    return tuple(annotations.text(key) for key in _NAME_ANNOTATIONS if annotations.has(key))


def _named(top: list[Fields], image_name: str) -> list[Fields]:
    if not image_name:
        return top
    if image_name.isdecimal() and int(image_name) < len(top):
        return [top[int(image_name)]]
    chosen = [
        fields
        for fields in top
        if image_name in _names(fields) or full_name(image_name) in map(full_name, _names(fields))
    ]
    if not chosen:
        raise no_such_image(image_name, [name for fields in top for name in _names(fields)])
    return chosen


def _collect(
    archive: Archive, fields: Fields, names: tuple[str, ...], above: tuple[str, ...], found: list[Candidate]
) -> None:
    """Add the manifests that ``fields`` leads to; ``above`` are the indexes on the way, so that none is entered twice."""
    descriptor = Descriptor.parse(fields, INDEX)
    digest = str(descriptor.digest)
    platform = _platform(fields)
    if not archive.has(descriptor.path):  # other platforms' manifests may be left out
        found.append(Candidate(descriptor, platform, names))
        return
    what = f"the manifest {digest}"
    document = Fields(documents.parse(read_blob(archive, descriptor, what), what), what)
    if not document.has("manifests"):
        if not document.text("artifactType"):
            found.append(Candidate(descriptor, platform or _configured_platform(archive, document, what), names))
        return
    if digest in above or len(above) >= _MAX_DEPTH or len(found) > _MAX_CANDIDATES:
        raise refused("indexes lead to indexes without end", what)
    for inner in _images(document):
        _collect(archive, inner, names, (*above, digest), found)


def _configured_platform(archive: Archive, manifest: Fields, what: str) -> Platform | None:
    config = Descriptor.parse(manifest.inner("config"), what)
    if not archive.has(config.path):
        return None
    name = f"the configuration {config.digest}"
    fields = Fields(documents.parse(read_blob(archive, config, name), name), name)
    platform = Platform(fields.text("os"), fields.text("architecture"), fields.text("variant"))
    return platform if platform.is_known else None


def _for_platform(candidates: Sequence[Candidate], platform: Platform | None, image_name: str) -> Candidate:
    wanted = platform or Platform.of_this_machine()
    suiting: dict[str, Candidate] = {}
    for candidate in candidates:
        if candidate.platform is None or candidate.platform.suits(wanted):
            suiting.setdefault(str(candidate.descriptor.digest), candidate)
    if not suiting:
        kind = Unsupported if platform is None else BadInput
        there_are = listed([candidate.platform for candidate in candidates if candidate.platform])
        raise kind(
            f"the archive has no image for {wanted}, only for: {there_are}",
            hint="set platform to one of these, or save the image for this machine",
        )
    chosen = list(suiting.values())
    if len(chosen) > 1:  # amd64 and amd64/v3, say: the one that runs everywhere
        chosen = [
            one for one in chosen if one.platform and one.platform.normal_variant == wanted.normal_variant
        ] or chosen
    if len(chosen) > 1:
        raise several_images([one.names[0] if one.names else str(one.descriptor.digest) for one in chosen])
    return chosen[0]

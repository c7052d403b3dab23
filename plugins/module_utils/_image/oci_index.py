# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which manifest of an OCI archive is meant.

Invariant: exactly one image is chosen, or the error lists what there is. Attestations and artifacts are no images; an index inside an
index is followed to a depth of four. Source: OCI image-spec v1.1, "Image Index", and BuildKit's attestation storage.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .._errors import BadInput, FlydError, Unsupported
from . import documents
from .archive import Archive
from .docker_archive import full_name
from .documents import Fields
from .image import Selector, no_such_image, several_images
from .oci_blobs import Descriptor, NotWhole, read_blob
from .platforms import Platform, PlatformPolicy, listed
from .refusal import refused

INDEX = "index.json"
LAYOUT = "oci-layout"

_MAX_DEPTH = 4
_MAX_CANDIDATES = 1024
_NAME_ANNOTATIONS = ("io.containerd.image.name", "org.opencontainers.image.ref.name")
_ATTESTATION = "vnd.docker.reference.type"


class Candidate(NamedTuple):
    """A manifest that may be the one; ``platform`` is None where the archive does not say."""

    descriptor: Descriptor
    platform: Platform | None
    names: tuple[str, ...]


def choose(archive: Archive, wanted: Selector) -> Descriptor:
    """The manifest of the image that ``wanted`` selects; see ``oci_archive.find_image``."""
    data = documents.read_document(archive.file(INDEX), INDEX, archive.limits)
    top = _images(Fields(documents.parse(data, INDEX), INDEX))
    if not top:
        raise NotWhole(refused("it lists no image", INDEX))
    search = _Search(archive)
    for fields in _named(top, wanted.name):
        search.follow(fields, _names(fields))
    candidates = search.found
    try:
        return _for_platform(candidates, wanted.platform or Platform.of_this_machine()).descriptor
    except _NoneSuits:
        # Of what an index lists, only this platform's blobs may have been saved: the others are no candidates.
        saved = _each_once([one for one in candidates if archive.has(one.descriptor.path)])
        if wanted.platform is None and wanted.policy is PlatformPolicy.SOLE and len(saved) == 1:
            return saved[0].descriptor
        raise _no_such_platform(candidates, wanted.platform) from None


class _NoneSuits(Exception):
    """No candidate is for the platform."""


def _each_once(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates without those whose manifest was listed before."""
    found: dict[str, Candidate] = {}
    for candidate in candidates:
        found.setdefault(str(candidate.descriptor.digest), candidate)
    return list(found.values())


def _no_such_platform(candidates: Sequence[Candidate], platform: Platform | None) -> FlydError:
    kind = Unsupported if platform is None else BadInput
    there_are = listed([candidate.platform for candidate in candidates if candidate.platform])
    return kind(
        f"the archive has no image for {platform or Platform.of_this_machine()}, only for: {there_are}",
        hint="set platform to one of these, or save the image for this machine",
    )


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


class _Search:
    """Finds the manifests that entries of an index lead to; each document is read once, however often it is listed."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._seen: set[tuple[str, Platform | None]] = set()
        self._configured: dict[str, Platform | None] = {}
        self.found: list[Candidate] = []

    def follow(self, fields: Fields, names: tuple[str, ...], above: tuple[str, ...] = ()) -> None:
        """Add what ``fields`` leads to; ``above`` are the indexes on the way, so that none is entered within itself."""
        descriptor = Descriptor.parse(fields, INDEX)
        digest, platform = str(descriptor.digest), _platform(fields)
        if digest in above or len(above) > _MAX_DEPTH or len(self._seen) > _MAX_CANDIDATES:
            raise refused("indexes lead to indexes without end", f"the manifest {digest}")
        if (digest, platform) in self._seen:
            return
        self._seen.add((digest, platform))
        if not self._archive.has(descriptor.path):  # other platforms' manifests may be left out
            self.found.append(Candidate(descriptor, platform, names))
            return
        document = self._document(descriptor, f"the manifest {digest}")
        if document.has("manifests"):
            for inner in _images(document):
                self.follow(inner, names, (*above, digest))
        elif not document.text("artifactType"):
            self.found.append(Candidate(descriptor, platform or self._configured_platform(document, digest), names))

    def _document(self, descriptor: Descriptor, what: str) -> Fields:
        return Fields(documents.parse(read_blob(self._archive, descriptor, what), what), what)

    def _configured_platform(self, manifest: Fields, digest: str) -> Platform | None:
        config = Descriptor.parse(manifest.inner("config"), f"the manifest {digest}")
        key = str(config.digest)
        if key not in self._configured:
            self._configured[key] = None
            if self._archive.has(config.path):
                fields = self._document(config, f"the configuration {key}")
                platform = Platform(fields.text("os"), fields.text("architecture"), fields.text("variant"))
                self._configured[key] = platform if platform.is_known else None
        return self._configured[key]


def _for_platform(candidates: Sequence[Candidate], platform: Platform) -> Candidate:
    """The candidate for ``platform``; raises ``_NoneSuits`` or, when there are several, ``Untrusted``."""
    chosen = _each_once([one for one in candidates if one.platform is None or one.platform.suits(platform)])
    if not chosen:
        raise _NoneSuits
    if len(chosen) > 1:  # amd64 and amd64/v3, say: the one that runs everywhere
        chosen = [
            one for one in chosen if one.platform and one.platform.normal_variant == platform.normal_variant
        ] or chosen
    if len(chosen) > 1:
        raise several_images([one.names[0] if one.names else str(one.descriptor.digest) for one in chosen])
    return chosen[0]

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which manifest of an OCI archive is meant.

Invariant: exactly one image is chosen, or the error lists what there is. Attestations and artifacts are no images; an index inside an
index is followed to a depth of four. Source: OCI image-spec v1.1, "Image Index", and BuildKit's attestation storage.
"""

from __future__ import annotations

from ..._names import Digest
from .. import documents
from ..documents import Fields
from ..image import Selector, no_such_image
from ..platforms import Platform
from ..refusal import malformed
from .archive import Archive
from .choosing import Candidate, NoneSuits, choose_for_platform
from .config import configured_platform, stated_platform
from .docker_archive import full_name
from .oci_artifacts import SCHEMA_1, is_schema_1, not_an_image
from .oci_blobs import Descriptor, NotWhole, read_blob, read_manifest

INDEX = "index.json"
LAYOUT = "oci-layout"

_MAX_DEPTH = 4
_MAX_CANDIDATES = 1024
_NAME_ANNOTATIONS = ("io.containerd.image.name", "org.opencontainers.image.ref.name")
_ATTESTATION = "vnd.docker.reference.type"
_ATTESTATION_TYPE = "application/vnd.in-toto+json"


def choose(archive: Archive, wanted: Selector) -> tuple[Descriptor, Platform | None]:
    """The manifest of the image that ``wanted`` selects, and the platform that is stated for it; see ``oci_archive.find_image``."""
    data = documents.read_document(archive.file(INDEX), INDEX, archive.limits)
    whole = Fields(documents.parse(data, INDEX), INDEX)
    top = _images(whole)
    if not top and whole.items("manifests"):
        others = [fields.text("artifactType") or _ATTESTATION_TYPE for fields in whole.inner_items("manifests")]
        raise NotWhole(not_an_image("what the index lists", others))
    if not top:
        raise NotWhole(malformed("it lists no image", INDEX))
    search = _Search(archive)
    for at, fields in _named(top, wanted.name):
        search.follow(fields, next(iter(_names(fields)), str(at)))
    if not search.found:
        raise not_an_image("what the index lists", search.others or [_ATTESTATION_TYPE])
    candidates = [one for one in search.found if not _is_digest(wanted.name) or one.key == wanted.name]
    if not candidates and _is_digest(wanted.name):
        raise no_such_image(wanted.name, [one.key for one in search.found])
    try:
        chosen = choose_for_platform(_distinct(candidates), wanted)
    except NoneSuits as error:
        raise error.reason from None
    return search.descriptors[chosen.key], chosen.platform


def _is_digest(image_name: str) -> bool:
    return image_name.startswith(("sha256:", "sha512:"))


def all_configs(archive: Archive) -> list[tuple[Digest, Platform | None]]:
    """The configurations of all images that the index leads to, and their platforms, as far as their manifests are in the archive."""
    data = documents.read_document(archive.file(INDEX), INDEX, archive.limits)
    search = _Search(archive)
    for fields in _images(Fields(documents.parse(data, INDEX), INDEX)):
        search.follow(fields, "")
    found: list[tuple[Digest, Platform | None]] = []
    for one in search.found:
        descriptor = search.descriptors[one.key]
        if archive.has(descriptor.path):
            manifest = read_manifest(archive, descriptor)
            found.append((Descriptor.parse(manifest.inner("config"), INDEX).digest, one.platform))
    return found


def _distinct(candidates: list[Candidate]) -> list[Candidate]:
    """The candidates, with their digests for a name where one name has several: image_name takes those too."""
    keys: dict[str, set[str]] = {}
    for one in candidates:
        keys.setdefault(one.name, set()).add(one.key)
    return [one if len(keys[one.name]) == 1 else one._replace(name=one.key) for one in candidates]


def _images(index: Fields) -> list[Fields]:
    """The entries of an index without those that are no images."""
    entries = index.inner_items("manifests")
    return [fields for fields in entries if not (_is_attestation(fields) or fields.text("artifactType"))]


def _is_attestation(fields: Fields) -> bool:
    platform = _platform(fields)
    return fields.inner("annotations").has(_ATTESTATION) or (platform is not None and not platform.is_known)


def _platform(fields: Fields) -> Platform | None:
    return stated_platform(fields.inner("platform"))


def _names(fields: Fields) -> tuple[str, ...]:
    annotations = fields.inner("annotations")
    return tuple(annotations.text(key) for key in _NAME_ANNOTATIONS if annotations.has(key))


def _named(top: list[Fields], image_name: str) -> list[tuple[int, Fields]]:
    """The entries that ``image_name`` may select, with their positions."""
    numbered = list(enumerate(top))
    if not image_name or _is_digest(image_name):
        return numbered
    if image_name.isdecimal() and int(image_name) < len(top):
        return [numbered[int(image_name)]]
    chosen = [
        (at, fields)
        for at, fields in numbered
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
        self.descriptors: dict[str, Descriptor] = {}
        self.others: list[str] = []  # types of what is no image

    def follow(self, fields: Fields, name: str, above: tuple[str, ...] = ()) -> None:
        """Add what ``fields`` leads to; ``above`` are the indexes on the way, so that none is entered within itself."""
        descriptor = Descriptor.parse(fields, INDEX)
        digest, platform = str(descriptor.digest), _platform(fields)
        if digest in above or len(above) > _MAX_DEPTH or len(self._seen) > _MAX_CANDIDATES:
            raise malformed("indexes lead to indexes without end", f"the manifest {digest}")
        if (digest, platform) in self._seen:
            return
        self._seen.add((digest, platform))
        if not self._archive.has(descriptor.path):  # other platforms' manifests may be left out
            self._add(descriptor, platform, name, is_saved=False)
            return
        document = self._document(descriptor, f"the manifest {digest}")
        if document.has("manifests"):
            for inner in _images(document):
                self.follow(inner, name, (*above, digest))
        elif document.text("artifactType") or (is_schema_1(document) and platform is None):
            self.others.append(document.text("artifactType") or SCHEMA_1)
        else:
            self._add(descriptor, platform or self._configured_platform(document, digest), name, is_saved=True)

    def _add(self, descriptor: Descriptor, platform: Platform | None, name: str, *, is_saved: bool) -> None:
        self.descriptors[str(descriptor.digest)] = descriptor
        self.found.append(Candidate(str(descriptor.digest), platform, name, is_saved))

    def _document(self, descriptor: Descriptor, what: str) -> Fields:
        return Fields(documents.parse(read_blob(self._archive, descriptor, what), what), what)

    def _configured_platform(self, manifest: Fields, digest: str) -> Platform | None:
        config = Descriptor.parse(manifest.inner("config"), f"the manifest {digest}")
        key = str(config.digest)
        if key not in self._configured:
            self._configured[key] = None
            if self._archive.has(config.path):
                fields = self._document(config, f"the configuration {key}")
                self._configured[key] = configured_platform(fields)
        return self._configured[key]

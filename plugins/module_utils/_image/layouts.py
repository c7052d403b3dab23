# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which kind of archive it is, told by the members it has.

Invariant: the order of the questions is the order of trust: OCI (every blob has a digest), then manifest.json, then what came before
it; a root file system is what is left. Where two lists of layers are both whole and disagree, neither is believed.
"""

from __future__ import annotations

from . import docker_archive, legacy_archive, oci_archive
from .archive import Archive
from .config import ImageConfig
from .extent import Extent
from .image import Image, Selector, StoredLayer
from .oci_blobs import NotWhole
from .oci_index import INDEX, LAYOUT
from .refusal import refused

_ROOT_FILE_SYSTEM = {b"etc", b"bin", b"usr", b"sbin", b"lib"}


def find_image(archive: Archive, extent: Extent, wanted: Selector) -> Image:
    """The image that ``wanted`` selects in ``archive``, which stands in ``extent``; raises ``Untrusted``, ``BadInput`` or ``Unsupported``."""
    if archive.has(LAYOUT) and archive.has(INDEX):
        if archive.has(docker_archive.MANIFEST):
            return _hybrid(archive, wanted)
        try:
            return oci_archive.find_image(archive, wanted)
        except NotWhole as error:
            raise error.reason from None
    if archive.has(docker_archive.MANIFEST):
        return docker_archive.find_image(archive, wanted.name)
    if archive.has(legacy_archive.REPOSITORIES):
        return legacy_archive.find_image(archive, wanted.name)
    if archive.top & _ROOT_FILE_SYSTEM:
        return Image("rootfs", ImageConfig(), (StoredLayer("the root file system", extent),))
    raise refused(
        "this is no image: the archive has neither index.json with oci-layout, nor manifest.json, nor repositories, nor a root file system",
        hint="store what `docker save`, `skopeo copy` or `docker export` wrote",
    )


def _hybrid(archive: Archive, wanted: Selector) -> Image:
    """Docker 25 and later, BuildKit and ctr write both lists side by side."""
    try:
        image = oci_archive.find_image(archive, wanted)
    except NotWhole:
        return docker_archive.find_image(archive, wanted.name)
    if not docker_archive.is_whole(archive, wanted.name):
        return image
    other = docker_archive.find_image(archive, wanted.name)
    same = [layer.diff_id for layer in image.layers] == [layer.diff_id for layer in other.layers]
    # Of an image for several platforms manifest.json has one, perhaps not the one that was asked for.
    if not same and image.config.architecture == other.config.architecture:
        raise refused("index.json and manifest.json list different layers", docker_archive.MANIFEST)
    return image

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""OCI archives: a manifest, its configuration and its layers, as blobs named by their digests.

Invariant: every document that is read has the digest and the size that its descriptor says; layers have the size, and are hashed
on their way into the tree. Media types are not believed, and nothing is ever fetched. Source: OCI image-spec v1.1, "Image Layout",
"Image Manifest".
"""

from __future__ import annotations

from ..._errors import Unsupported
from ..._names import Digest, printable
from .. import documents
from ..image import Image, Selector, StoredLayer, count_layers
from ..platforms import Platform
from .archive import Archive
from .config import ImageConfig, parse_config
from .oci_artifacts import check_is_image
from .oci_blobs import Descriptor, NotWhole, not_whole, read_blob, read_manifest, stored_blob
from .oci_index import INDEX, choose

_CHUNKED = ".zstd-chunked."  # in the annotations of such layers, behind the name of the project that wrote them


def find_image(archive: Archive, wanted: Selector) -> Image:
    """The image that ``wanted`` selects.

    Raises ``NotWhole`` when manifest.json may be asked instead; ``Untrusted``, ``BadInput`` or ``Unsupported`` otherwise.
    """
    chosen, platform = choose(archive, wanted)
    what = f"the manifest {chosen.digest}"
    manifest = read_manifest(archive, chosen)
    check_is_image(manifest, what)
    config = Descriptor.parse(manifest.inner("config"), what)
    name = f"the configuration {config.digest}"
    document = read_blob(archive, config, name)
    parsed = parse_config(document, name)
    listed = manifest.inner_items("layers")
    with not_whole():
        count_layers(parsed, listed, what)
    layers = [_layer(archive, fields, diff_id, what) for fields, diff_id in zip(listed, parsed.diff_ids)]
    return Image("oci", parsed.config, tuple(layers), document, warnings=_contradiction(platform, parsed.config))


def named_config(archive: Archive, wanted: Selector) -> Digest | None:
    """The digest of the configuration of the image that ``wanted`` selects, be its layers whole or not; None when it cannot be read."""
    try:
        manifest = read_manifest(archive, choose(archive, wanted)[0])
    except NotWhole:
        return None
    return Descriptor.parse(manifest.inner("config"), INDEX).digest if manifest.has("config") else None


def _contradiction(stated: Platform | None, config: ImageConfig) -> tuple[str, ...]:
    """A warning when index and configuration name different machines: containerd believes the index, and so did the choice."""
    configured = Platform.of(config.os, config.architecture)
    if stated is None or not (stated.architecture and config.architecture) or configured[:2] == stated[:2]:
        return ()
    names = printable(str(stated)), printable(str(configured))
    return (f"the index says that the image is for {names[0]}, and its configuration says {names[1]}",)


def _layer(archive: Archive, fields: documents.Fields, diff_id: Digest, what: str) -> StoredLayer:
    descriptor = Descriptor.parse(fields, what)
    name = f"the layer {descriptor.digest}"
    if fields.text("mediaType").endswith("+encrypted"):
        raise Unsupported(
            f"{name} is encrypted", hint="decrypt the image before it is stored (skopeo copy --decryption-key)"
        )
    is_chunked = any(_CHUNKED in key for key in fields.inner("annotations").keys())  # noqa: SIM118 - no mapping
    return StoredLayer(name, stored_blob(archive, descriptor, name), diff_id, descriptor.digest, is_chunked)

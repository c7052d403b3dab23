# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""OCI archives: a manifest, its configuration and its layers, as blobs named by their digests.

Invariant: every document that is read has the digest and the size that its descriptor says; layers have the size, and are hashed
on their way into the tree. Media types are not believed, and nothing is ever fetched. Source: OCI image-spec v1.1, "Image Layout",
"Image Manifest".
"""

from __future__ import annotations

from .._errors import Unsupported
from .._names import Digest
from . import documents
from .archive import Archive
from .config import parse_config
from .image import Image, Selector, StoredLayer, count_layers
from .oci_blobs import Descriptor, not_whole, read_blob, stored_blob
from .oci_index import choose


def find_image(archive: Archive, wanted: Selector) -> Image:
    """The image that ``wanted`` selects.

    Raises ``NotWhole`` when manifest.json may be asked instead; ``Untrusted``, ``BadInput`` or ``Unsupported`` otherwise.
    """
    chosen = choose(archive, wanted)
    what = f"the manifest {chosen.digest}"
    manifest = documents.Fields(documents.parse(read_blob(archive, chosen, what), what), what)
    config = Descriptor.parse(manifest.inner("config"), what)
    name = f"the configuration {config.digest}"
    parsed = parse_config(read_blob(archive, config, name), name)
    listed = manifest.inner_items("layers")
    with not_whole():
        count_layers(parsed, listed, what)
    layers = [_layer(archive, fields, diff_id, what) for fields, diff_id in zip(listed, parsed.diff_ids)]
    return Image("oci", parsed.config, tuple(layers))


def _layer(archive: Archive, fields: documents.Fields, diff_id: Digest, what: str) -> StoredLayer:
    descriptor = Descriptor.parse(fields, what)
    name = f"the layer {descriptor.digest}"
    if fields.text("mediaType").endswith("+encrypted"):
        raise Unsupported(
            f"{name} is encrypted", hint="decrypt the image before it is stored (skopeo copy --decryption-key)"
        )
    return StoredLayer(name, stored_blob(archive, descriptor, name), diff_id, descriptor.digest)

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an OCI archive may hold that is no image: Helm charts, signatures, attestations, and manifests of another time.

Invariant: what is no image is named by the type that it states itself. Types decide nothing else.
"""

from __future__ import annotations

from ..._errors import Unsupported
from ..._names import printable
from ..documents import Fields

_CONFIGS = ("application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json")
SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"
_EMPTY = "application/vnd.oci.empty.v1+json"
_HINT = "store an image, as `docker save`, `skopeo copy` or `buildah push` writes it"
_KNOWN = {
    "application/vnd.cncf.helm.config.v1+json": "a Helm chart",
    "application/vnd.in-toto+json": "an attestation",
    "application/vnd.dev.cosign.simplesigning.v1+json": "a signature of cosign",
    "application/vnd.wasm.config.v0+json": "a WebAssembly module",
    "application/vnd.docker.plugin.v1+json": "a plugin of Docker",
    SCHEMA_1: "an image in Docker's schema 1, which is no longer read",
}


def check_is_image(manifest: Fields, what: str) -> None:
    """Raise ``Unsupported`` for the manifest of something else than an image."""
    if is_schema_1(manifest):
        raise Unsupported(
            f"{what} is of Docker's schema 1, which is no longer read",
            hint="convert it with `skopeo copy --format v2s2`, or push the image again with a newer Docker",
        )
    stated = manifest.inner("config").text("mediaType")
    if manifest.text("artifactType") or _is_another(stated):
        kind = manifest.text("artifactType") or stated
        raise not_an_image(what, [kind])


def is_schema_1(manifest: Fields) -> bool:
    """Whether the manifest is of Docker's first schema, which has neither configuration nor digests of layers as others have them."""
    return manifest.has("fsLayers")


def _is_another(media_type: str) -> bool:
    """Whether a configuration's type is one that no image has: images of some builders state none, or one too general."""
    return media_type == _EMPTY or (media_type.startswith("application/vnd.") and media_type not in _CONFIGS)


def not_an_image(what: str, types: list[str]) -> Unsupported:
    """The error for ``what`` that holds things of these types instead of an image."""
    shown = ", ".join(_KNOWN.get(kind, f"an artifact of type {printable(kind)}") for kind in sorted(set(types))[:5])
    return Unsupported(f"{what} is no image: {shown}", hint=_HINT)

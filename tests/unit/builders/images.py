"""Image archives made in memory around the tars of their layers.

Invariant: all digests, sizes and counts are right; a test that wants a wrong one says so.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

from . import tar

Pack = Callable[[bytes], bytes]
THIS_PLATFORM = {"os": "linux", "architecture": "amd64"}


def sha256(data: bytes) -> str:
    """``sha256:<hex>`` of ``data``."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def as_it_is(data: bytes) -> bytes:
    """No compression."""
    return data


def config(layers: Sequence[bytes], **changes: Any) -> bytes:
    """The configuration of an image of these uncompressed layers."""
    value = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["/bin/sh"], "Entrypoint": None, "User": "", "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [sha256(layer) for layer in layers]},
    }
    return json.dumps({**value, **changes}).encode()


def docker_members(layers: Sequence[bytes], pack: Pack = as_it_is, **changes: Any) -> dict[bytes, bytes]:
    """The members of a docker archive by name."""
    description = config(layers)
    name = hashlib.sha256(description).hexdigest() + ".json"
    names = [f"layer{at}/layer.tar" for at in range(len(layers))]
    manifest = [{"Config": name, "RepoTags": ["test/image:latest"], "Layers": names, **changes}]
    members = {f"layer{at}/layer.tar".encode(): pack(layer) for at, layer in enumerate(layers)}
    return {**members, name.encode(): description, b"manifest.json": json.dumps(manifest).encode()}


def archive(members: dict[bytes, bytes]) -> bytes:
    """The tar of ``members``."""
    return tar.tar(*(tar.file(name, data) for name, data in members.items()))


def docker_archive(layers: Sequence[bytes], pack: Pack = as_it_is) -> bytes:
    """What docker save writes."""
    return archive(docker_members(layers, pack))


def blob_name(data: bytes) -> bytes:
    """The name of the blob ``data`` in an OCI archive."""
    return b"blobs/" + sha256(data).replace(":", "/").encode()


def descriptor(data: bytes, **more: Any) -> dict[str, Any]:
    """A descriptor of the blob ``data``."""
    return {"mediaType": "application/octet-stream", "digest": sha256(data), "size": len(data), **more}


def oci_members(
    layers: Sequence[bytes], pack: Pack = as_it_is, platform: dict[str, str] | None = None
) -> dict[bytes, bytes]:
    """The members of an OCI archive of one image by name."""
    platform = platform or THIS_PLATFORM
    description = config(layers, **platform)
    blobs = [pack(layer) for layer in layers]
    manifest = json.dumps(
        {"schemaVersion": 2, "config": descriptor(description), "layers": [descriptor(blob) for blob in blobs]}
    ).encode()
    index = {"schemaVersion": 2, "manifests": [descriptor(manifest, platform=platform)]}
    return {
        b"oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
        b"index.json": json.dumps(index).encode(),
        **{blob_name(blob): blob for blob in (manifest, description, *blobs)},
    }


def oci_archive(layers: Sequence[bytes], pack: Pack = as_it_is) -> bytes:
    """What skopeo writes as oci-archive."""
    return archive(oci_members(layers, pack))

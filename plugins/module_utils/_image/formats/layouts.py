# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Detect the kind of an archive from its members, and call its reader.

Invariant: the order of detection is the order of trust: OCI (every blob has a digest), then manifest.json, then the older ``repositories``,
and finally a root file system. When two lists disagree, the archive is refused (see ``hybrids``).
"""

from __future__ import annotations

from ..._errors import FlydError
from ..._names import printable
from ..extent import Extent
from ..image import Image, Selector, StoredLayer
from ..refusal import malformed
from . import docker_archive, hybrids, legacy_archive, oci_archive
from .archive import ROOT_DIRECTORIES, Archive
from .config import ImageConfig
from .oci_artifacts import not_an_image
from .oci_blobs import NotWhole
from .oci_index import INDEX, LAYOUT

_BLOBS = b"blobs"
_INNER = (b"/index.json", b"/manifest.json", b"/oci-layout")


def find_image(archive: Archive, extent: Extent, wanted: Selector) -> Image:
    """The image that ``wanted`` selects in ``archive``, which stands in ``extent``; raises ``Untrusted``, ``BadInput`` or ``Unsupported``."""
    _check_case(archive)
    has_other = archive.has(docker_archive.MANIFEST)
    if archive.has(INDEX) and (archive.has(LAYOUT) or has_other or _BLOBS in archive.top):
        if has_other:
            return _checked(archive, wanted, hybrids.find_image(archive, wanted))
        try:
            return _checked(archive, wanted, oci_archive.find_image(archive, wanted))
        except NotWhole as error:
            raise error.reason from None
    if has_other:
        return _checked(archive, wanted, docker_archive.find_image(archive, wanted))
    if archive.has(legacy_archive.REPOSITORIES):
        return legacy_archive.find_image(archive, wanted)
    if archive.top & ROOT_DIRECTORIES:
        return Image("rootfs", ImageConfig(), (StoredLayer("the root file system", extent),))
    raise _no_image(archive)


def _no_image(archive: Archive) -> FlydError:
    """The error for a tar that holds no image where one is looked for; says where one may be."""
    below = {path.split(b"/", 1)[0] for path in archive.files if path.count(b"/") == 1 and path.endswith(_INNER)}
    roots = {
        path.split(b"/", 1)[0]
        for path in archive.files
        if path.split(b"/")[1:2] and path.split(b"/")[1] in ROOT_DIRECTORIES
    }
    if any(path.count(b"/") == 1 and path.endswith(b"/Chart.yaml") for path in archive.files):
        return not_an_image("the archive", ["application/vnd.cncf.helm.config.v1+json"])
    if len(below | roots) == 1:
        name = printable((below | roots).pop())
        hint = f"pack what is in that directory: `tar -C {name} -cf image.tar .`"
        return malformed(f"this is no image, but its directory {name} holds what looks like one", hint=hint)
    inner = [path for path in archive.files if path.endswith((b".tar", b".tar.gz", b".tgz", b".tar.zst", b".tar.xz"))]
    if len(archive.files) == len(inner) == 1:
        hint = f"store the file {printable(inner[0])} itself"
        return malformed(f"this is no image, but a tar of one file, {printable(inner[0])}", hint=hint)
    return malformed(
        "this is no image: the archive has neither index.json with oci-layout, nor manifest.json, nor repositories, nor a root file system",
        hint="store what `docker save`, `skopeo copy` or `docker export` wrote",
    )


def _checked(archive: Archive, wanted: Selector, image: Image) -> Image:
    if archive.has(legacy_archive.REPOSITORIES):
        hybrids.check_legacy(archive, wanted, image)
    if image.layout == "oci" and not archive.has(LAYOUT):
        warning = f"the archive is an OCI layout without its file {LAYOUT}"
        return image._replace(warnings=(*image.warnings, warning))
    return image


def _check_case(archive: Archive) -> None:
    """Refuse a list whose name comes twice in different case: where case does not count, one of them takes the other's place."""
    for name in sorted(archive.case_variants):
        exact = name.decode("ascii", "replace").lower()
        if archive.has(exact):
            raise malformed(
                f"the archive has a member {exact} too: programs that ignore case would read the other one", name
            )

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The image's configuration: what to run in the tree, and which layers it is made of.

Invariant: a configuration that was parsed has strings where strings belong; it is shown to the operator and to the guest, and never run here.
Source: OCI image-spec, "OCI Image Configuration", and Docker Image Specification v1.2.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..._names import Digest
from .. import documents
from ..digests import parse_digest
from ..platforms import Platform


class ImageConfig(NamedTuple):
    """What flyd_unpack returns of an image's configuration; empty where the image says nothing."""

    env: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    user: str = ""
    working_dir: str = ""
    architecture: str = ""
    os: str = ""
    variant: str = ""

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> ImageConfig:
        """The configuration with these fields, as JSON has them."""
        found: dict[str, Any] = {
            name: tuple(map(str, value)) if isinstance(value, list) else str(value) for name, value in fields.items()
        }
        return cls(**found)

    def to_json(self) -> dict[str, str | list[str]]:
        """The configuration under the names that Docker and OCI give it."""
        return {
            "Env": list(self.env),
            "Cmd": list(self.cmd),
            "Entrypoint": list(self.entrypoint),
            "User": self.user,
            "WorkingDir": self.working_dir,
            "architecture": self.architecture,
            "os": self.os,
            "variant": self.variant,
        }


class ParsedConfig(NamedTuple):
    """A configuration, and the diff_ids of its layers, lowest first."""

    config: ImageConfig
    diff_ids: tuple[Digest, ...]


def parse_config(data: bytes, what: str) -> ParsedConfig:
    """The configuration in ``data``; raises ``Untrusted`` that names ``what``."""
    whole = documents.Fields(documents.parse(data, what), what)
    run = whole.inner("config")
    config = ImageConfig(
        env=run.texts("Env"),
        cmd=run.texts("Cmd"),
        entrypoint=run.texts("Entrypoint"),
        user=run.text("User"),
        working_dir=run.text("WorkingDir"),
        architecture=whole.text("architecture"),
        os=whole.text("os"),
        variant=whole.text("variant"),
    )
    diff_ids = whole.inner("rootfs").texts("diff_ids")
    return ParsedConfig(config, tuple(parse_digest(text, what) for text in diff_ids))


def stated_platform(fields: documents.Fields) -> Platform | None:
    """The platform that a configuration or an entry of an index states; None when it states none."""
    os_name, architecture = fields.text("os"), fields.text("architecture")
    return Platform.of(os_name, architecture, fields.text("variant")) if os_name or architecture else None


def configured_platform(whole: documents.Fields) -> Platform | None:
    """The same of a configuration, where it is known."""
    platform = stated_platform(whole)
    return platform if platform and platform.is_known else None

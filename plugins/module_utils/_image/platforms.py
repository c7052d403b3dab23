# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which machines an image is for.

Invariant: a platform has an operating system and an architecture, as OCI names them; the variant may be empty. Source: OCI image-spec,
"Image Index", "platform", and Go's GOARCH for the names.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Sequence
from typing import NamedTuple

from .._errors import BadInput
from .._names import printable

_ARCHITECTURES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm/v7",
    "armv6l": "arm/v6",
    "i686": "386",
    "i386": "386",
    "mips64": "mips64le",
    "loongarch64": "loong64",
}
# What a variant means when it is not written: containerd's platforms.Normalize().
_DEFAULT_VARIANTS = {("arm64", "v8"), ("arm", "v7"), ("amd64", "v1")}


class PlatformPolicy(enum.Enum):
    """What becomes of an archive without an image for the platform that is wanted when none was named."""

    THIS_MACHINE = "this machine"  # refused: a guest here could not run what it holds
    SOLE = (
        "sole"  # its only image is taken, whatever it is for; for callers that look at the tree and run nothing of it
    )


class Platform(NamedTuple):
    """For example linux/arm64/v8."""

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> Platform:
        """The platform ``os/architecture[/variant]``; raises ``BadInput``."""
        parts = text.split("/")
        if len(parts) not in (2, 3) or not all(part.isascii() and part.isalnum() for part in parts):
            raise BadInput(
                f"the platform is {printable(text)!r}",
                hint="write it as os/architecture or os/architecture/variant, as in linux/amd64",
            )
        return cls(*parts)

    @classmethod
    def of_this_machine(cls) -> Platform:
        """linux and this machine's architecture."""
        machine = os.uname().machine
        return cls.parse(f"linux/{_ARCHITECTURES.get(machine, machine)}")

    @property
    def is_known(self) -> bool:
        """Whether it says anything: attestations are for unknown/unknown."""
        return self.architecture not in ("", "unknown")

    def suits(self, wanted: Platform) -> bool:
        """Whether an image for this platform is one for ``wanted``, which matches any variant when it names none."""
        if (self.os or "linux", self.architecture) != (wanted.os, wanted.architecture):
            return False
        return not wanted.variant or self.normal_variant == wanted.normal_variant

    @property
    def normal_variant(self) -> str:
        """The variant, empty when it is the one that goes without saying."""
        return "" if (self.architecture, self.variant) in _DEFAULT_VARIANTS else self.variant

    def __str__(self) -> str:
        return "/".join(part for part in (self.os or "linux", self.architecture, self.variant) if part)


def listed(platforms: Sequence[Platform]) -> str:
    """The platforms for an error message, each once."""
    shown: list[str] = []
    for platform in platforms:
        if str(platform) not in shown:
            shown.append(str(platform))
    return ", ".join(printable(name) for name in shown[:20]) or "none"

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The platforms of images: operating system, architecture, variant.

Invariant: a platform has the names that Go and OCI give it, whatever it was called in an archive or an option.
Source: OCI image-spec, "Image Index", "platform"; Go's GOARCH; the rules of containerd's platforms.Normalize().
"""

from __future__ import annotations

import enum
import os
import re
import sys
from collections.abc import Sequence
from typing import NamedTuple

from .._errors import BadInput
from .._names import printable

_PART = re.compile(r"[a-z0-9_.-]+")
_OPERATING_SYSTEMS = {"": "linux", "macos": "darwin"}
# Other names: of uname -m, of Debian, of the official images, and of those who write x86-64 as its makers do.
_ARCHITECTURES = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "x64": ("amd64", ""),
    "i386": ("386", ""),
    "i486": ("386", ""),
    "i586": ("386", ""),
    "i686": ("386", ""),
    "x86": ("386", ""),
    "aarch64": ("arm64", ""),
    "arm64v8": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "armv8l": ("arm", "v7"),
    "armv7l": ("arm", "v7"),
    "armv7": ("arm", "v7"),
    "arm32v7": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "armv6": ("arm", "v6"),
    "arm32v6": ("arm", "v6"),
    "armv5tel": ("arm", "v5"),
    "arm32v5": ("arm", "v5"),
    "ppc64el": ("ppc64le", ""),
    "powerpc64le": ("ppc64le", ""),
    "mips64el": ("mips64le", ""),
    "loongarch64": ("loong64", ""),
}
# What goes without saying, and what a bare `arm` is.
_PLAIN_VARIANTS = {("amd64", "v1"), ("arm64", "v8"), ("arm64", "v8.0")}
_DEFAULT_VARIANTS = {"arm": "v7"}
_ANY_VARIANT = 1000  # the rank of a variant that is above the plain one, where none was asked for


class PlatformPolicy(enum.Enum):
    """What happens to an archive without an image for the platform that is wanted when none was named."""

    THIS_MACHINE = "this machine"  # refused: a guest here could not run what it holds
    SOLE = (
        "sole"  # its only image is taken, whatever it is for; for callers that look at the tree and run nothing of it
    )


class Platform(NamedTuple):
    """For example linux/arm/v7, made by ``of`` and ``parse``.

    Of what an archive offers, an empty variant is the one that goes without saying; of what is wanted, it is any.
    """

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def of(cls, os_name: str, architecture: str, variant: str = "") -> Platform:
        """What an archive offers under these names, which may be others than Go's, and in any case."""
        named = cls._renamed(os_name, architecture, variant)
        variant = named.variant or _DEFAULT_VARIANTS.get(named.architecture, "")
        return named._replace(variant="" if (named.architecture, variant) in _PLAIN_VARIANTS else variant)

    @classmethod
    def parse(cls, text: str) -> Platform:
        """What is wanted, ``os/architecture[/variant]``; raises ``BadInput``."""
        parts = text.strip().lower().split("/")
        if len(parts) not in (2, 3) or not all(_PART.fullmatch(part) for part in parts):
            raise BadInput(
                f"the platform is {printable(text)!r}",
                hint="write platform as os/architecture or os/architecture/variant, such as linux/amd64",
            )
        return cls._renamed(*parts)

    @classmethod
    def _renamed(cls, os_name: str, architecture: str, variant: str = "") -> Platform:
        os_name, architecture, variant = os_name.lower(), architecture.lower(), variant.lower()
        architecture, implied = _ARCHITECTURES.get(architecture, (architecture, ""))
        variant = f"v{variant}" if variant[:1].isdigit() else variant or implied
        return cls(_OPERATING_SYSTEMS.get(os_name, os_name), architecture, "" if architecture == "386" else variant)

    @classmethod
    def of_this_machine(cls) -> Platform:
        """linux and this machine's architecture."""
        machine = os.uname().machine
        return cls.parse(f"linux/{'mips64le' if (machine, sys.byteorder) == ('mips64', 'little') else machine}")

    @property
    def is_known(self) -> bool:
        """Whether it says anything: attestations are for unknown/unknown."""
        return "unknown" not in (self.os, self.architecture)

    def rank(self, wanted: Platform) -> int | None:
        """How well an image for this platform suits who wants ``wanted``: 0 best; ``None``: it is for other machines.

        A variant runs what was made for those below it. An image that names an operating system alone may be for any machine of it.
        """
        if self.os != wanted.os or self.architecture not in ("", wanted.architecture):
            return None
        plain = Platform.of(*wanted)
        if self.variant == plain.variant or not self.architecture:
            return 0
        below = _level(plain) - _level(self)
        if below > 0:
            return int(below)
        return None if wanted.variant else _ANY_VARIANT

    def __str__(self) -> str:
        return "/".join(part for part in self if part)


def _level(platform: Platform) -> float:
    """The number of a variant, to compare it with others of its architecture; infinite when it is no number."""
    if not platform.variant:
        return {"amd64": 1, "arm64": 8}.get(platform.architecture, 0)
    try:
        return float(platform.variant.lstrip("v"))
    except ValueError:
        return float("inf")


def listed(platforms: Sequence[Platform]) -> str:
    """The platforms for an error message, each once, by names that the option platform takes."""
    shown: list[str] = []
    for platform in platforms:
        if str(platform) not in shown:
            shown.append(str(platform))
    return ", ".join(printable(name) for name in shown[:20]) or "none"

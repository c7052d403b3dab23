# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of flyd_unpack, parsed."""

from __future__ import annotations

import enum
from typing import NamedTuple

from ..._image.limits import Limits
from ..._names import ObjectKey
from .inject import Injected


class Reuse(str, enum.Enum):
    """Of what a new base may be made."""

    AUTO = "auto"
    KEY = "key"
    NEVER = "never"


class UnpackOptions(NamedTuple):
    """What flyd_unpack was asked for. ``size_bytes`` 0, an empty string and None: left out, so as it is, and the default for a new base.

    ``limits_given`` are the names of the limits that were not left out.
    """

    key: ObjectKey
    size_bytes: int
    limits: Limits
    image_name: str = ""
    platform: str = ""
    device_nodes: str = ""
    keep_archive: bool | None = None
    free_bytes: int = 0  # beside the image, when the size is computed; 0: the default
    assume: frozenset[str] = frozenset()  # in check mode, what earlier steps would have changed: "generation", "pool"
    limits_given: tuple[str, ...] = ()
    sha256: str = ""  # of the generation that is meant; empty for the current one
    inject: tuple[Injected, ...] = ()  # files of the host that are put into the base
    reuse: Reuse = Reuse.AUTO

    @property
    def lets_archive_go(self) -> bool:
        """Whether the archive is not to stay."""
        return self.keep_archive is False

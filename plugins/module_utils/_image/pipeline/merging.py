# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the tars of layers to one tree, with errors that say how far a limit must be raised.

Invariant: a layer that is known is merged from its index, and not one byte of it is read.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator, Sequence
from typing import Union

from ..._errors import Untrusted, doing
from ..delta.layer_index import Contents, IndexedLayer, LayerIndex
from ..delta.origin import ReadLayer
from ..extent import Extent
from ..limits import Deadline, Limits
from ..merge.layer import Layers
from ..merge.tally import COUNTED, whole_needs
from ..options import Options
from .preparing import LayerTar

Indexed = dict[str, Union[LayerIndex, ReadLayer]]
_COUNTING_SECONDS = 2.0  # to count what an image would need that is refused


def merged(tars: Sequence[LayerTar], indexed: Indexed, options: Options, deadline: Deadline) -> Layers:
    """The tree of ``tars``; ``indexed`` has afterwards, by identity, what the index of each can be made of."""
    layers = Layers(options.limits, deadline)
    for at, tar in enumerate(tars, 1):
        with doing(f"reading layer {at} of {len(tars)}"):
            if tar.known is not None:
                layers.apply(tar.extent, terminated=not tar.is_covered, headers=IndexedLayer(tar.known))
                indexed[tar.identity] = tar.known
                continue
            read = ReadLayer(tar.extent, Contents())
            is_kept = options.manifest_fd >= 0 and tar.identity != ""
            try:
                layers.apply(tar.extent, terminated=not tar.is_covered, note=read.contents.add if is_kept else None)
            except Untrusted as error:
                complete_hint(error, [one.extent for one in tars if one.known is None], options.limits, deadline)
                raise
            if is_kept:
                indexed[tar.identity] = read
    return layers


def complete_hint(error: Untrusted, tars: Sequence[Extent], limits: Limits, deadline: Deadline) -> None:
    """Have the error about a limit name a value that suffices, where the headers of all layers tell it soon."""
    if error.details.get("limit") in COUNTED:
        needed = whole_needs(tars, limits, min(_COUNTING_SECONDS, deadline.left_seconds))
        if needed:
            error.hint = limits.raised_for(needed)
            error.details["needed"] = needed[str(error.details["limit"])]


@contextlib.contextmanager
def collector_paused() -> Iterator[None]:
    """A million new objects would be walked again and again, and none of them is garbage."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()

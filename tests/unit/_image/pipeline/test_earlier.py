# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the layers of an earlier base are found, and the archives in which they are not."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NoReturn

import pytest

from module_utils._image.compression.spool import Spool
from module_utils._image.limits import Deadline, Limits
from module_utils._image.pipeline.earlier import plain_layers
from module_utils._image.pipeline.preparing import Preparation
from tests.unit._image.unpacked import options
from tests.unit.builders import images, tar

LAYERS = tar.tar(tar.file(b"low", b"1")), tar.tar(tar.file(b"high", b"2"))
IDENTITIES = {images.sha256(layer): layer for layer in LAYERS}

Layers = dict[str, bytes]
Find = Callable[..., Layers]


def refuse(question: object) -> NoReturn:
    raise AssertionError(f"nothing is to be decompressed: {question}")


@pytest.fixture
def found(tmp_path: Path) -> Iterator[Find]:
    """Finds the layers in files of these bytes: their bytes by identity."""
    with ExitStack() as stack:
        chosen, deadline = options(tmp_path), Deadline(Limits())
        spool = stack.enter_context(closing(Spool(refuse, [], chosen.limits, deadline)))

        def find(files: Sequence[bytes], layer_sha256: Sequence[str] = ()) -> Layers:
            fds = []
            for number, data in enumerate(files):
                (tmp_path / f"{number}").write_bytes(data)
                fds.append(os.open(tmp_path / f"{number}", os.O_RDONLY))
                stack.callback(os.close, fds[-1])
            layers = plain_layers(Preparation(chosen, spool, deadline), fds, layer_sha256)
            return {identity: extent.read(0, extent.size) for identity, extent in layers.items()}

        yield find


@pytest.mark.parametrize("form", [images.docker_archive, images.oci_archive])
def test_layers_in_an_archive(found: Find, form: Callable[..., bytes]) -> None:
    assert found([form(LAYERS)]) == IDENTITIES


def test_layers_of_a_family(found: Find) -> None:
    assert found(LAYERS, [images.sha256(layer).partition(":")[2] for layer in LAYERS]) == IDENTITIES


@pytest.mark.parametrize(
    "data",
    [
        images.docker_archive(LAYERS, gzip.compress),
        images.oci_archive(LAYERS, gzip.compress),
        gzip.compress(images.docker_archive(LAYERS)),
        images.docker_archive(LAYERS)[:700],
        b"",
        b"no archive" * 100,
    ],
    ids=["gzip", "oci gzip", "packed", "cut", "empty", "text"],
)
def test_archives_without(found: Find, data: bytes) -> None:
    assert found([data]) == {}


def test_no_archive_and_a_packed_layer_of_a_family(found: Find) -> None:
    packed = gzip.compress(LAYERS[0])
    assert found([]) == {}
    assert found([packed], [images.sha256(packed).partition(":")[2]]) == {}

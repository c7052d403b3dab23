# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""zstd: the package zstandard, else Python's own module, else the library libzstd, which package managers bring.

Invariant: as for all streams; and the headers of frames are read here, before any decoder sees them: a frame that needs a larger
window than the memory allows, or a dictionary, is refused on every host alike. Source: RFC 8878.
"""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from typing import Any

from ..._errors import Unsupported
from ..refusal import malformed
from . import libzstd
from .streams import BufferedMember, Input, Members, MoreMemory, Open, Stream, optional

_MAX_MADE_WINDOW_LOG = 31  # of `zstd --long=31`; no compressor goes further


def zstd_decoder(what: str) -> Open:
    """See ``compression.decoder``."""
    package = _package()
    if package is not None:
        return lambda source, memory_bytes: _Zstd(package, _Frames(source, what, memory_bytes), what)
    module = _own_module()
    if module is not None:
        return _by_module(module, what)
    library = _library()
    if library is not None:
        return _by_library(library, what)
    raise Unsupported(
        f"{what} is compressed with zstd, and this host has neither the Python package zstandard nor the library libzstd.so.1",
        hint="run the role flyd.lite.prepare, or install one of them (`apt install libzstd1`), or save the image with gzip",
        library="zstandard",
    )


# They are loaded when they are needed: most runs find nothing to unpack.
def _package() -> Any:
    return optional("zstandard")


def _own_module() -> Any:
    return optional("compression.zstd") or optional("backports.zstd")  # Python 3.14's, and the same for older ones


def _library() -> libzstd.Library | None:
    return libzstd.find_library()


def _by_module(module: Any, what: str) -> Open:
    options = {module.DecompressionParameter.window_log_max: _MAX_MADE_WINDOW_LOG}
    make = partial(module.ZstdDecompressor, options=options)

    def opened(source: Input, memory_bytes: int) -> Stream:
        return Members(_Frames(source, what, memory_bytes), what, lambda: BufferedMember(make()), module.ZstdError)

    return opened


def _by_library(library: libzstd.Library, what: str) -> Open:
    def opened(source: Input, memory_bytes: int) -> Stream:
        return Members(_Frames(source, what, memory_bytes), what, lambda: libzstd.LibzstdMember(library), ValueError)

    return opened


class _Zstd:
    def __init__(self, package: Any, frames: _Frames, what: str) -> None:
        decoder = package.ZstdDecompressor(max_window_size=1 << _MAX_MADE_WINDOW_LOG)
        self._frames = frames
        self._reader = decoder.stream_reader(self._frames, read_across_frames=True)
        self._what = what
        self._error = package.ZstdError

    def read(self, count: int) -> bytes:
        try:
            data = bytes(self._reader.read(count))
        except self._error as error:
            raise malformed(f"the compressed data of {self._what} is damaged: {error}") from None
        if not data and not self._frames.is_between:  # the package takes a frame without its end for a whole one
            raise malformed(f"{self._what} ends in the middle of its compressed data")
        return data

    def close(self) -> None:
        self._reader.close()


class _Frames:
    """Reads ``source`` and follows its frames from block to block; ``is_between`` them, or in the middle of one (RFC 8878, 3.1).

    ``read`` raises ``Unsupported`` or ``MoreMemory`` at the header of a frame that no decoder here may decode.
    """

    def __init__(self, source: Input, what: str, memory_bytes: int) -> None:
        self._source = source
        self._what = what
        self._memory_bytes = memory_bytes
        self._parts = self._follow()
        self._wanted = next(self._parts)
        self._held = b""
        self.is_between = True

    def read(self, count: int) -> bytes:
        data = self._source.read(count)
        at = 0
        while at < len(data):
            self.is_between = False
            if self._wanted < 0:
                step = min(-self._wanted, len(data) - at)
                self._wanted += step
            else:
                step = min(self._wanted - len(self._held), len(data) - at)
                self._held += data[at : at + step]
            at += step
            while self._wanted == len(self._held):
                held, self._held = self._held, b""
                self._wanted = self._parts.send(held)
        return data

    def _follow(self) -> Generator[int, bytes, None]:
        """Yields how many bytes it wants to see next; below zero, how many it does not."""
        while True:
            self.is_between = True
            if int.from_bytes((yield 4), "little") & 0xFFFFFFF0 == 0x184D2A50:  # a skippable frame
                yield -int.from_bytes((yield 4), "little")
                continue
            descriptor = (yield 1)[0]
            is_single = descriptor >> 5 & 1
            dictionary_bytes = (0, 1, 2, 4)[descriptor & 3]
            content_size_bytes = (is_single, 2, 4, 8)[descriptor >> 6]
            rest = yield (1 - is_single) + dictionary_bytes + content_size_bytes
            _check_dictionary(rest[1 - is_single :][:dictionary_bytes], self._what)
            if window_bytes(rest, bool(is_single), dictionary_bytes, self._what) > self._memory_bytes:
                raise MoreMemory(window_bytes(rest, bool(is_single), dictionary_bytes, self._what))
            is_last = 0
            while not is_last:
                block = int.from_bytes((yield 3), "little")
                is_last = block & 1
                yield -(1 if block >> 1 & 3 == 1 else block >> 3)  # a block of one repeated byte holds that alone
            yield -4 * (descriptor >> 2 & 1)  # the checksum


def _check_dictionary(number: bytes, what: str) -> None:
    if int.from_bytes(number, "little"):
        raise Unsupported(
            f"{what} is compressed with zstd and a dictionary, which it does not hold",
            hint="compress it without a dictionary (`zstd` without -D)",
        )


def window_bytes(header: bytes, is_single: bool, dictionary_bytes: int, what: str) -> int:
    """The memory that a frame's window takes, whose header resumes ``header`` (window, dictionary, content size)."""
    if is_single:
        content_bytes = int.from_bytes(header[dictionary_bytes:], "little")
        return content_bytes + 256 * (len(header) - dictionary_bytes == 2)
    window = (8 + (header[0] & 7)) << (7 + (header[0] >> 3))
    if window > 1 << _MAX_MADE_WINDOW_LOG:
        raise malformed(f"the compressed data of {what} is damaged: it asks for a window of {window >> 20} MiB")
    return window

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""zstd: the package zstandard, else Python's own module, else the program, which the caller starts.

Invariant: as for all streams; and a frame that wants a larger window than the program takes without --long is refused, so that
every host refuses the same archives. Source: RFC 8878.
"""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from typing import Any

from .._errors import CommandFailed, Unsupported
from .refusal import refused
from .streams import BufferedMember, Input, Members, Stream, ZstdProgram, optional

_MAX_WINDOW_LOG = 27


def open_zstd(source: Input, what: str, program: ZstdProgram | None) -> Stream:
    """The decompressed ``source``; see ``compression.open_stream``."""
    package = _package()
    if package is not None:
        return _Zstd(package, source, what)
    module = _own_module()
    if module is not None:
        options = {module.DecompressionParameter.window_log_max: _MAX_WINDOW_LOG}
        make = partial(module.ZstdDecompressor, options=options)
        return Members(source, what, lambda: BufferedMember(make()), module.ZstdError)
    return _through_program(source, what, program)


# Both are loaded when they are needed: most runs find nothing to unpack.
def _package() -> Any:
    return optional("zstandard")


def _own_module() -> Any:
    return optional("compression.zstd") or optional("backports.zstd")  # Python 3.14's, and the same for older ones


def _through_program(source: Input, what: str, program: ZstdProgram | None) -> Stream:
    try:
        if program is not None:
            return _ZstdPipe(program(source), what)
    except Unsupported:  # the program is not there either
        pass
    raise Unsupported(
        f"{what} is compressed with zstd, and this host has neither the Python package zstandard nor the program zstd",
        hint="install one of them (Debian: python3-zstandard or zstd), or save the image with gzip",
        library="zstandard",
        program="zstd",
    )


class _ZstdPipe:
    def __init__(self, program: Stream, what: str) -> None:
        self._program = program
        self._what = what
        self.close = program.close

    def read(self, count: int) -> bytes:
        try:
            return self._program.read(count)
        except CommandFailed as error:
            if error.details.get("returncode") != 1:  # killed, or out of memory
                raise
            raise refused(f"the compressed data of {self._what} is damaged: {error.msg}") from None


class _Zstd:
    def __init__(self, package: Any, source: Input, what: str) -> None:
        decoder = package.ZstdDecompressor(max_window_size=1 << _MAX_WINDOW_LOG)
        self._frames = _Frames(source)
        self._reader = decoder.stream_reader(self._frames, read_across_frames=True)
        self._what = what
        self._error = package.ZstdError

    def read(self, count: int) -> bytes:
        try:
            data = bytes(self._reader.read(count))
        except self._error as error:
            raise refused(f"the compressed data of {self._what} is damaged: {error}") from None
        if not data and not self._frames.is_between:  # the package takes a frame without its end for a whole one
            raise refused(f"{self._what} ends in the middle of its compressed data")
        return data

    def close(self) -> None:
        self._reader.close()


class _Frames:
    """Reads ``source`` and follows its frames from block to block; ``is_between`` them, or in the middle of one (RFC 8878, 3.1)."""

    def __init__(self, source: Input) -> None:
        self._source = source
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
            content_size_bytes = (is_single, 2, 4, 8)[descriptor >> 6]
            yield -((1 - is_single) + (0, 1, 2, 4)[descriptor & 3] + content_size_bytes)
            is_last = 0
            while not is_last:
                block = int.from_bytes((yield 3), "little")
                is_last = block & 1
                yield -(1 if block >> 1 & 3 == 1 else block >> 3)  # a block of one repeated byte holds that alone
            yield -4 * (descriptor >> 2 & 1)  # the checksum

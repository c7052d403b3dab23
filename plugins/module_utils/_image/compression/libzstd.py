# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The library libzstd, for a Python that has no module for it.

Invariant: what is called here is part of the library's stable interface (zstd.h, since 1.4.0), and only buffers made here are given to it.
"""

from __future__ import annotations

import ctypes
from typing import Optional

_OUTPUT_BYTES = 1 << 17  # what zstd calls the recommended size
_WINDOW_LOG_MAX, _MAX_WINDOW_LOG = 100, 31  # ZSTD_d_windowLogMax


class _Buffer(ctypes.Structure):
    """ZSTD_inBuffer, and ZSTD_outBuffer, which has the same members."""

    _fields_ = (("start", ctypes.c_void_p), ("size", ctypes.c_size_t), ("at", ctypes.c_size_t))


class Library:
    """The functions that are used, with the types of their arguments."""

    def __init__(self, library: ctypes.CDLL) -> None:
        size, pointer = ctypes.c_size_t, ctypes.c_void_p
        self.create = library.ZSTD_createDCtx
        self.create.restype, self.create.argtypes = pointer, ()
        self.free = library.ZSTD_freeDCtx
        self.free.restype, self.free.argtypes = size, (pointer,)
        self.set_parameter = library.ZSTD_DCtx_setParameter
        self.set_parameter.restype, self.set_parameter.argtypes = size, (pointer, ctypes.c_int, ctypes.c_int)
        self.decompress = library.ZSTD_decompressStream
        self.decompress.restype = size
        self.decompress.argtypes = (pointer, ctypes.POINTER(_Buffer), ctypes.POINTER(_Buffer))
        self.is_error = library.ZSTD_isError
        self.is_error.restype, self.is_error.argtypes = ctypes.c_uint, (size,)
        self.error_name = library.ZSTD_getErrorName
        self.error_name.restype, self.error_name.argtypes = ctypes.c_char_p, (size,)


def find_library() -> Optional[Library]:  # noqa: UP045 - evaluated on Python 3.9
    """The library, or ``None`` on a host that lacks it or has one that is too old."""
    try:
        return Library(ctypes.CDLL("libzstd.so.1"))
    except (OSError, AttributeError):
        return None


class LibzstdMember:
    """A zstd frame, as ``streams.Member``; ``ValueError`` when it is damaged."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._context: int | None = library.create()
        if self._context is None:
            raise MemoryError
        self._checked(library.set_parameter(self._context, _WINDOW_LOG_MAX, _MAX_WINDOW_LOG))
        self._output = ctypes.create_string_buffer(_OUTPUT_BYTES)
        self._held = b""
        self._is_full = False
        self.rest: bytes | None = None

    @property
    def hungry(self) -> bool:
        return not self._held and not self._is_full

    def output(self, data: bytes, count: int) -> bytes:
        data = self._held + data
        given = _Buffer(ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p), len(data), 0)
        room = min(count, _OUTPUT_BYTES)
        taken = _Buffer(ctypes.addressof(self._output), room, 0)
        left = self._checked(self._library.decompress(self._context, ctypes.byref(taken), ctypes.byref(given)))
        self._held = data[given.at :]
        self._is_full = taken.at == room
        if left == 0:
            self.rest, self._held = self._held, b""
            self._library.free(self._context)
            self._context = None
        return ctypes.string_at(self._output, taken.at)

    def __del__(self) -> None:
        if self._context is not None:
            self._library.free(self._context)

    def _checked(self, result: int) -> int:
        if self._library.is_error(result):
            raise ValueError(self._library.error_name(result).decode("ascii", "replace"))
        return result

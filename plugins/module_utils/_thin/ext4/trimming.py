# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gives the free blocks of a mounted file system back to the device below.

Source: linux/fs.h, FITRIM and struct fstrim_range.
"""

from __future__ import annotations

import errno
import fcntl
import struct

_FITRIM = 0xC0185879
_ALL = (1 << 64) - 1
_CANNOT = (errno.EOPNOTSUPP, errno.ENOTTY, errno.EPERM)


def trim(root_fd: int, least_bytes: int) -> None:
    """Discard each free extent of ``least_bytes`` and more; where the device cannot discard, nothing is done."""
    try:
        fcntl.ioctl(root_fd, _FITRIM, struct.pack("=QQQ", 0, _ALL, least_bytes))
    except OSError as error:
        if error.errno not in _CANNOT:
            raise

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options that modules share, documented once."""

from __future__ import annotations


class ModuleDocFragment:
    """Options of every module; ``IMAGE`` those of the modules that move an image."""

    DOCUMENTATION = r"""
options:
  state_dir:
    description:
      - The directory that holds the database, the archives, the log and, unless it is on block devices, the pool.
      - Created when missing. Only root may have write access to it.
    type: path
    default: /var/lib/flyd
  lock_timeout:
    description:
      - How many seconds to wait for another run that works on the same image or pool.
    type: float
    default: 300.0
  command_timeout:
    description:
      - How many seconds one program, such as C(dmsetup) or C(mkfs.ext4), may take before it is killed,
        and for how many seconds the writing of a tree may make no progress, that is, compute, read and write nothing.
    type: float
    default: 120.0
  retries:
    description:
      - How often a transient error is retried - of a whole transition, such as a time-out of a program, or of one request to S3, but never of both.
        Errors such as a wrong option, a wrong digest or a lack of room are not retried. C(docs/errors.md) has a table of both.
      - No attempt begins later than 120 seconds after the first failure, and the next one begins only after what the failed one has left is recovered.
    type: int
    default: 4
  retry_delay:
    description:
      - The upper bound, in seconds, of the random wait before the first retry. It doubles with each one, up to 20 seconds.
    type: float
    default: 0.5
author:
  - The flyd.lite authors (@flyd-lite)
"""

    IMAGE = r"""
options:
  key:
    description:
      - The key of the object in S3, as the bucket lists it.
    type: str
    required: true
  pool:
    description:
      - The name of the thin pool, as given to M(flyd.lite.flyd_pool). An image that is in another pool is refused.
      - When left out, it is the pool that holds the image or, for a new generation, the previous one. Any other image goes into V(pool).
      - A removal without this option removes the image from the pool that holds it.
    type: str
"""

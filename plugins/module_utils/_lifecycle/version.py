# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The version of the collection, as galaxy.yml has it: a module that runs on a host knows it from nowhere else."""

from __future__ import annotations

COLLECTION_VERSION = "0.1.0"

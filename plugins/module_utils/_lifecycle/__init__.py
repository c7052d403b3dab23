# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The machine: what states an image has, how it moves between them, and what is remembered.

    new --flyd_fetch--> fetched --flyd_unpack--> unpacked --flyd_snapshot--> activated

Every arrow belongs to one module, and every module is a process of its own, so nothing is remembered here between arrows: the
store is the memory. ``advance`` is the one place that changes an image's state.
"""

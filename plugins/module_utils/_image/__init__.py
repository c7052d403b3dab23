# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an image is: archive, tar headers, layers, whiteouts, the plan of the merged tree, and its writer.

An archive's path through this package:

    compression > archive > docker_archive | oci_archive | ... > image > tar_reader > layer > tree > plan > writer

All headers of all layers are read first and merged in memory; only what survives in the final tree is written, each path once.
Nothing here starts a program, knows a database or a device. ``unpacking`` is the door; the rest is private to the package.
"""

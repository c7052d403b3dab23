# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Readable paths of snapshots: /dev/flyd/KEY/SNAPSHOT, links to the devices, whose own names have ULIDs.

Invariant: the links can be rebuilt from the store at any time; none leads to a device that is not mapped. Of several generations of
a key that have a snapshot of one name, the current one's is meant, else the newest.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Collection, Mapping

from ..._names import ObjectKey
from ..run import Run
from ..store.records import Image, RetiredImage, Snapshot, Volume

DIRECTORY = "/dev/flyd"
_SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.+=@:,")
_MOST_BYTES = 255
_DIGEST_DIGITS = 12
_DIRECTORY_MODE = 0o755  # a VMM's user may look


def name_of_key(key: str) -> str:
    """A key as the name of a directory: ``images/redis.tar`` is ``images-redis.tar``.

    As LVM writes the names of its devices, a hyphen of the key becomes two. What is left but letters, digits and ``_.+=@:,`` is written as
    ``%`` and two hexadecimal digits for each byte, a point at the beginning too. So two keys never share a name. One that is too long ends in a
    digest of the key.
    """
    text = "".join("-" if char == "/" else "--" if char == "-" else _escaped(char) for char in key)
    text = f"%2E{text[1:]}" if text.startswith(".") else text
    if len(text) <= _MOST_BYTES:
        return text
    digest = hashlib.sha256(key.encode()).hexdigest()[:_DIGEST_DIGITS]
    return f"{text[: _MOST_BYTES - 1 - _DIGEST_DIGITS]}%{digest}"


def _escaped(char: str) -> str:
    return char if char in _SAFE else "".join(f"%{byte:02X}" for byte in char.encode())


def path_of(key: ObjectKey | str, name: str) -> str:
    """The path of the snapshot ``name`` of ``key``."""
    return f"{DIRECTORY}/{name_of_key(str(key))}/{name}"


def publish_names(host: Run) -> None:
    """Let the paths of this state directory's snapshots be as the store and the kernel have them. Others' are left alone."""
    top = os.path.join(host.dm.dev, os.pardir, "flyd")
    wanted, ours = _wanted(host), {snapshot.device for snapshot in host.store.all(Snapshot)}
    for directory in sorted({*wanted, *_names(top)}):
        _converge(host, os.path.join(top, directory), wanted.get(directory, {}), ours)
    with contextlib.suppress(OSError):
        os.rmdir(top)  # only an empty one goes


def _wanted(host: Run) -> dict[str, dict[str, str]]:
    """By directory and name, the device."""
    mapped = {device.uuid for device in host.dm.devices()}
    volumes = {volume.ulid: volume for volume in host.store.all(Volume)}
    images = {image.id: image for image in (*host.store.all(RetiredImage), *host.store.all(Image))}
    found: dict[str, dict[str, str]] = {}
    # The later of two with one name counts: retired generations before current ones, each the oldest snapshot first.
    for snapshot in sorted(
        host.store.all(Snapshot), key=lambda one: not isinstance(images.get(one.image_id), RetiredImage)
    ):
        image, volume = images.get(snapshot.image_id), volumes.get(snapshot.ulid)
        if image is not None and volume is not None and volume.uuid in mapped:
            found.setdefault(name_of_key(image.object_key), {})[snapshot.name] = snapshot.device
    return found


def _names(path: str) -> list[str]:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return sorted(os.listdir(path))
    return []


def _converge(host: Run, directory: str, wanted: Mapping[str, str], ours: Collection[str]) -> None:
    if wanted:
        _make_directory(os.path.dirname(directory))
        _make_directory(directory)
    for name in _names(directory):
        path = os.path.join(directory, name)
        if name not in wanted and os.path.islink(path) and _is_stale(host, os.readlink(path), ours):
            os.unlink(path)
    for name, device in wanted.items():
        path = os.path.join(directory, name)
        if not os.path.islink(path) or os.readlink(path) != device:
            part = os.path.join(directory, f".{name}.part")
            with contextlib.suppress(FileNotFoundError):
                os.unlink(part)
            os.symlink(device, part)
            os.rename(part, path)
    with contextlib.suppress(OSError):
        os.rmdir(directory)  # only an empty one goes


def _is_stale(host: Run, device: str, ours: Collection[str]) -> bool:
    """Whether a link to ``device`` that is not wanted may go: to a device of this state directory, or to one that is gone. Another state directory's stays."""
    return device in ours or not os.path.exists(os.path.join(host.dm.dev, os.path.basename(device)))


def _make_directory(path: str) -> None:
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, _DIRECTORY_MODE)
        os.chmod(path, _DIRECTORY_MODE)  # whatever the umask
    if not stat.S_ISDIR(os.lstat(path).st_mode):
        raise NotADirectoryError(20, "is not a directory", path)

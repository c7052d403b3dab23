# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The public name of an instance: /run/flyd/instances/NAME, a link to a directory with the device and its description.

Invariant: the directory is complete before the link points at it, and is never changed afterwards; the link changes by one rename. A
reader that resolves the link once sees one consistent generation. The directory can be rebuilt from the store at any time.
It is world-readable, as a VMM's user cannot enter the state directory.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterator
from typing import NamedTuple

from ..._errors import BadInput, ForeignDevice
from ..._host.files.durable import file_errors
from ..outcome import Facts

DIRECTORY = "/run/flyd/instances"
_DIRECTORY_MODE, _FILE_MODE = 0o755, 0o644


class Content(NamedTuple):
    """What a name points at: the device's path and three documents, each ready for JSON."""

    ulid: str
    device: str
    drive: Facts
    config: Facts
    image: Facts

    @property
    def files(self) -> dict[str, bytes]:
        """The documents by the names of their files."""
        documents = {"drive.json": self.drive, "config.json": self.config, "image.json": self.image}
        return {name: json.dumps(one, indent=2, sort_keys=True).encode() + b"\n" for name, one in documents.items()}

    def directory(self, name: str) -> str:
        """The name of the directory of this content: another content has another one."""
        digest = hashlib.sha256(self.device.encode())
        for file, content in sorted(self.files.items()):
            digest.update(file.encode() + b"\0" + content + b"\0")
        return f".{name}-{self.ulid}-{digest.hexdigest()[:8]}"


def path_of(name: str) -> str:
    """The public path of an instance."""
    return f"{DIRECTORY}/{name}"


def target_of(root: str, name: str) -> str:
    """The name of the directory that the link points at; empty without a link."""
    try:
        return os.readlink(_below(root, name))
    except FileNotFoundError:
        return ""
    except OSError:
        return "?"  # something else has the name


def is_published(root: str, name: str, content: Content) -> bool:
    """Whether the name points at exactly this content."""
    directory = content.directory(name)
    return target_of(root, name) == directory and os.path.isdir(_below(root, directory))


def publish(root: str, name: str, content: Content) -> None:
    """Let the name point at ``content``; raises ``ForeignDevice`` when something else has the name.

    What the name pointed at before stays for readers that have resolved it, until the next change.
    """
    with file_errors(f"publishing {path_of(name)}"):
        _make_directories(root)
        before, directory = target_of(root, name), content.directory(name)
        if before == "?":
            raise ForeignDevice(
                f"{path_of(name)} is there, and is no link that flyd.lite has made",
                hint="remove it, or give the instance another name",
            )
        if not os.path.isdir(_below(root, directory)):
            _make(root, directory, content)
        _link(root, name, directory)
        _prune(root, name, {before, directory})


def withdraw(root: str, name: str) -> None:
    """Remove the name and all that belongs to it."""
    with file_errors(f"removing {path_of(name)}"):
        if target_of(root, name) not in ("", "?"):
            os.unlink(_below(root, name))
        _prune(root, name, set())


def owner_of(root: str, name: str) -> str:
    """The state directory whose database made the name; empty when there is none or it does not say."""
    try:
        with open(_below(root, name, "image.json"), "rb") as file:
            return str(json.load(file).get("state_dir", ""))
    except (OSError, ValueError, AttributeError):
        return ""


def require_own(root: str, name: str, state_dir: str) -> None:
    """Raise ``BadInput`` when an instance of that name belongs to another state directory of this host."""
    owner = owner_of(root, name)
    if owner and os.path.normpath(owner) != os.path.normpath(state_dir):
        raise BadInput(
            f"the instance '{name}' belongs to the state directory {owner}",
            hint=f"give another name, or state_dir: {owner}; names of instances are the host's",
        )


def _below(root: str, *parts: str) -> str:
    return os.path.join(root, DIRECTORY.lstrip("/"), *parts)


def _make_directories(root: str) -> None:
    path = _below(root)
    for directory in (os.path.dirname(path), path):
        with contextlib.suppress(FileExistsError):
            os.mkdir(directory, _DIRECTORY_MODE)
            os.chmod(directory, _DIRECTORY_MODE)  # whatever the umask
        found = os.lstat(directory)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
            raise BadInput(
                f"{directory} is not a directory that only root may write to",
                hint="remove what is there, or give it to root (chown root, chmod 755)",
            )


def _make(root: str, directory: str, content: Content) -> None:
    path, part = _below(root, directory), _below(root, f"{directory}.part")
    shutil.rmtree(part, ignore_errors=True)
    os.mkdir(part, _DIRECTORY_MODE)
    os.chmod(part, _DIRECTORY_MODE)
    for name, data in content.files.items():
        fd = os.open(os.path.join(part, name), os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, _FILE_MODE)
        with os.fdopen(fd, "wb") as file:
            os.fchmod(fd, _FILE_MODE)
            file.write(data)
    os.symlink(content.device, os.path.join(part, "device"))
    os.rename(part, path)


def _link(root: str, name: str, directory: str) -> None:
    part = _below(root, f".{name}.link")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(part)
    os.symlink(directory, part)
    os.rename(part, _below(root, name))


def _prune(root: str, name: str, kept: set[str]) -> None:
    for one in _directories(root, name):
        if one not in kept:
            shutil.rmtree(_below(root, one), ignore_errors=True)


def _directories(root: str, name: str) -> Iterator[str]:
    """Those that were made for ``name``: the ULID behind it has no hyphen, so another instance's name is never taken for it."""
    with contextlib.suppress(FileNotFoundError):
        for one in os.listdir(_below(root)):
            words = one.removesuffix(".part").rsplit("-", 2)
            if words[0] == f".{name}" and len(words) == 3:
                yield one

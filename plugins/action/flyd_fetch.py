# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of flyd_fetch that runs on the controller: it sends a file of the controller to a host that does not have its content.

Invariant: everything else is left to the module, in one run of it, as without this plugin. The file is hashed piece by piece,
never held in memory, and sent only when the module has reported that it needs the content. An async task must always end with a job, as
Ansible polls for nothing else: for those, the module is asked in check mode.
"""

from __future__ import annotations

import hashlib
import os
import stat
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.module_utils.common.text.converters import to_bytes, to_text
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase

_PIECE_BYTES = 1 << 20
_NAME_ON_HOST = "archive"


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core comes without types
    """Runs the module, and sends it the file in between when it asks for it."""

    # Without this a directory would be made on the host before each run, also when nothing is to be sent.
    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """The result of the module."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        wrap_async = bool(self._task.async_val) and not self._connection.has_native_async
        is_kept = wrap_async  # what a run in the background needs goes away with it
        try:
            src = self._on_controller(arguments)
            if src:
                path = self._found(src)
                arguments["controller_file"] = _described(path)
                first = self._asked(arguments, task_vars, only_ask=wrap_async)
                is_awaited = first.get("details", {}).get("awaits") == "src"
                if not (is_awaited or (wrap_async and not first.get("failed"))):
                    is_kept = False
                    return {**result, **first}
                if is_awaited or first["changed"]:
                    arguments["controller_file"]["path"] = self._sent(path)
            result.update(self._execute_module(module_args=arguments, task_vars=task_vars, wrap_async=wrap_async))
            return result
        finally:
            if not is_kept:
                self._remove_tmp_path(self._connection._shell.tmpdir)

    def _asked(self, arguments: dict[str, Any], task_vars: dict[str, Any] | None, *, only_ask: bool) -> dict[str, Any]:
        """What the module says that has not got the file; with ``only_ask`` in check mode."""
        given = self._task.check_mode
        self._task.check_mode = given or only_ask
        try:
            found: dict[str, Any] = self._execute_module(module_args=arguments, task_vars=task_vars)
            return found
        finally:
            self._task.check_mode = given

    @staticmethod
    def _on_controller(arguments: dict[str, Any]) -> str:
        """The path in src when it is one of the controller; empty when the module needs no file of it."""
        src = str(arguments.get("src") or "")
        is_removal = arguments.get("state", "present") != "present"
        if not src or "://" in src or is_removal or boolean(arguments.get("remote_src", False), strict=False):
            return ""
        return src

    def _found(self, src: str) -> str:
        """The file that ``src`` names, looked for in files/ of the role or the play."""
        try:
            return str(self._loader.get_real_file(self._find_needle("files", src)))
        except AnsibleError as error:
            raise AnsibleActionFail(f"src: {to_text(error)}") from error

    def _sent(self, path: str) -> str:
        """Where the file lies on the host, in the directory of this task."""
        if not self._connection._shell.tmpdir:
            self._make_tmp_path()
        directory = self._connection._shell.tmpdir
        there = self._connection._shell.join_path(directory, _NAME_ON_HOST)
        self._transfer_file(path, there)
        self._fixup_perms2((directory, there))
        return str(there)


def _described(path: str) -> dict[str, Any]:
    """The digest and the size of a file of the controller."""
    digest, size = hashlib.sha256(), 0
    try:
        fd = os.open(to_bytes(path), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(fd, "rb", buffering=0) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise AnsibleActionFail(f"src: {to_text(path)} is not a regular file")
            while piece := file.read(_PIECE_BYTES):
                digest.update(piece)
                size += len(piece)
    except OSError as error:
        raise AnsibleActionFail(f"src: {to_text(path)} cannot be read: {error.strerror}") from error
    return {"sha256": digest.hexdigest(), "size": size}

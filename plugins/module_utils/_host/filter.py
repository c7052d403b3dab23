# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A program between two pipes, for what this Python cannot do itself.

Invariant: the program gets bytes that nobody has verified, so it has no rights: it is nobody, may not gain anything, write to
files, or grow without bound; and it is gone when the filter is closed or this process ends. Bytes go in only as fast as they are
asked for at the other end.
"""

from __future__ import annotations

import os
import resource
import select
from typing import Callable, Protocol

from .._errors import CommandFailed
from .._names import printable
from .command import Program, Runner
from .isolation import no_new_privileges

_CHUNK_BYTES = 1 << 16  # what a pipe holds
_MAX_MEMORY_BYTES = 1 << 30
_MAX_SAID_BYTES = 600


class Source(Protocol):
    """Where the bytes come from; ``read`` gives b"" at the end."""

    def read(self, count: int) -> bytes:
        """At most ``count`` bytes."""


class Filter:
    """What ``program`` makes of ``source``; close it, whether it was read to its end or not."""

    def __init__(self, runner: Runner, program: Program, arguments: tuple[str, ...], source: Source) -> None:
        self._name = str(program.value)
        self._timeout_seconds = runner.timeout_seconds
        self._source = source
        self._pending = b""
        self._child = runner.start_between_pipes(program, *arguments, confine=_confine)
        if self._child.stdin is None or self._child.stdout is None or self._child.stderr is None:
            raise AssertionError("it was started between pipes")
        self._in, self._out, self._said = self._child.stdin, self._child.stdout, self._child.stderr
        os.set_blocking(self._in.fileno(), False)

    def read(self, count: int) -> bytes:
        """At most ``count`` bytes of output, b"" at its end; raises ``CommandFailed`` unless the program then ends well."""
        while not self._out.closed:
            readable, writable, _broken = select.select([self._out], self._wanting(), [], self._timeout_seconds)
            if readable:
                data = os.read(self._out.fileno(), min(count, _CHUNK_BYTES))
                if not data:
                    self._finish()
                return data
            if not writable:
                raise CommandFailed(
                    f"{self._name} did not answer within {self._timeout_seconds:g} s",
                    hint="run again; if it hangs again, look at what holds it with `ps` and `dmesg`",
                    retryable=True,
                )
            self._feed()
        return b""

    def close(self) -> None:
        """End the program, if it still runs."""
        for pipe in (self._in, self._out, self._said):
            if not pipe.closed:
                pipe.close()
        self._child.kill()
        self._child.wait()

    def _wanting(self) -> list[object]:
        return [] if self._in.closed else [self._in]

    def _feed(self) -> None:
        self._pending = self._pending or self._source.read(_CHUNK_BYTES)
        try:
            if self._pending:
                self._pending = self._pending[os.write(self._in.fileno(), self._pending) :]
            else:
                self._in.close()
        except BlockingIOError:
            pass
        except BrokenPipeError:  # it has seen enough: its exit code says why
            self._in.close()

    def _finish(self) -> None:
        said = os.read(self._said.fileno(), _MAX_SAID_BYTES)
        code = self._child.wait(self._timeout_seconds)
        self.close()
        if code:
            text = printable(said.decode("utf-8", "replace").strip(), _MAX_SAID_BYTES)
            raise CommandFailed(
                f"{self._name} ended with {code}: {text}", hint="read what the program said", returncode=code
            )


def _confine() -> None:
    """What the new process gives up before it becomes the program."""
    no_new_privileges()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY_BYTES, _MAX_MEMORY_BYTES))


def zstd_program(runner: Runner) -> Callable[[Source], Filter]:
    """A function that decompresses zstd; raises ``Unsupported`` when the program is not installed."""
    return lambda source: Filter(runner, Program.ZSTD, ("-d", "-c", "-q", "--memory=128MB"), source)

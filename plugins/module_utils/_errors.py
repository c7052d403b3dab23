# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One family of errors with stable kinds.

Invariant: whatever goes wrong reaches the operator as a ``FlydError`` that says what is wrong and where (``msg``), what
was being done (``trail``), what to do about it (``hint``), and whether trying again can help (``retryable``).
Only ``_module.py`` turns one into a module's result.
"""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Iterator
from typing import Any, ClassVar, Union

Detail = Union[str, int, float]


class ErrorKind(str, enum.Enum):
    """The category of an error; the values are part of the interface (``error_kind`` in results and logs)."""

    BAD_INPUT = "bad_input"
    UNTRUSTED = "untrusted"
    OUT_OF_ORDER = "out_of_order"
    BUSY = "busy"
    NO_SPACE = "no_space"
    TRANSIENT = "transient"
    COMMAND_FAILED = "command_failed"
    FOREIGN_DEVICE = "foreign_device"
    DAMAGED_POOL = "damaged_pool"
    CORRUPT_STORE = "corrupt_store"
    UNHEALTHY = "unhealthy"
    UNSUPPORTED = "unsupported"
    INTERNAL = "internal"


class FlydError(Exception):
    """Base of all errors; raise one of the subclasses.

    ``msg`` says what is wrong and where, ``hint`` what to do next. ``details`` are small facts for programs
    (for example ``member``, the escaped name of an archive's member).
    """

    kind: ClassVar[ErrorKind]
    retryable: bool = False

    def __init__(self, msg: str, *, hint: str, retryable: bool | None = None, **details: Detail) -> None:
        super().__init__(msg)
        self.msg = msg
        self.hint = hint
        if retryable is not None:
            self.retryable = retryable
        self.details: dict[str, Detail] = details
        self.trail: list[str] = []
        self.gave_up = False  # it was retried as often as the options allow: this run does not retry it again

    def __str__(self) -> str:
        return f"while {' while '.join(self.trail)}: {self.msg}" if self.trail else self.msg


class BadInput(FlydError):
    """An option or an argument cannot be right, whatever the host's state."""

    kind = ErrorKind.BAD_INPUT


class Untrusted(FlydError):
    """Bytes are not what they must be: wrong digest, or an archive that is malformed or hostile."""

    kind = ErrorKind.UNTRUSTED


class OutOfOrder(FlydError):
    """A transition was asked for whose predecessor has not happened, or something else still depends on it."""

    kind = ErrorKind.OUT_OF_ORDER


class Busy(FlydError):
    """Another program holds what is needed; the message names the holder."""

    kind = ErrorKind.BUSY
    retryable = True


class NoSpace(FlydError):
    """A disk, a pool or a volume has no room."""

    kind = ErrorKind.NO_SPACE


class Transient(FlydError):
    """A transient error (network, throttling), which the module retries."""

    kind = ErrorKind.TRANSIENT
    retryable = True


class CommandFailed(FlydError):
    """A program of the host failed, or did not end in time."""

    kind = ErrorKind.COMMAND_FAILED

    @classmethod
    def late(
        cls, what: str, limit_seconds: float, ending: str, *, fault: str = "did not end within", **details: Detail
    ) -> CommandFailed:
        """``what`` (a program, or what a child does) was not done in time; ``ending`` says what became of it."""
        return cls(
            f"{what} {fault} {limit_seconds:g} s {ending}",
            hint="the device below may hang: look at `dmesg` and `dmsetup info -c`; a larger command_timeout helps only when it is slow",
            retryable=True,
            **details,
        )


class Unhealthy(FlydError):
    """What runs in a guest does not answer as its health check asks."""

    kind = ErrorKind.UNHEALTHY


class ForeignDevice(FlydError):
    """A device that flyd.lite has not made is in the way; it is left alone."""

    kind = ErrorKind.FOREIGN_DEVICE


class DamagedPool(FlydError):
    """The metadata of a pool needs repair, or one of its files is missing or has another size."""

    kind = ErrorKind.DAMAGED_POOL


class CorruptStore(FlydError):
    """The database is damaged, or it and the pool do not belong together; a repair would be a guess."""

    kind = ErrorKind.CORRUPT_STORE


class Unsupported(FlydError):
    """The host or the image lacks or needs something that this version cannot give."""

    kind = ErrorKind.UNSUPPORTED


class Internal(FlydError):
    """A fault of flyd.lite itself."""

    kind = ErrorKind.INTERNAL


class MissingLibrary(Unsupported):
    """A Python package is absent from the interpreter that runs the module; ``library`` is its name on an import line."""

    def __init__(self, library: str, package: str) -> None:
        super().__init__(
            f"the Python package {package} (import {library}) is not installed",
            hint="run the role flyd.lite.prepare on this host: it makes /opt/flyd/venv with the packages that the modules need",
            library=library,
        )
        self.library = library
        self.package = package


@contextlib.contextmanager
def doing(what: str) -> Iterator[None]:
    """Add ``what`` ("unpacking layer 2 of 3") to the trail of any ``FlydError`` that passes, outermost first."""
    try:
        yield
    except FlydError as error:
        error.trail.insert(0, what)
        raise


def error_to_json(error: FlydError) -> dict[str, object]:
    """``error`` as an object of JSON, to cross from one process to another."""
    return {
        "kind": error.kind.value,
        "msg": error.msg,
        "hint": error.hint,
        "retryable": error.retryable,
        "details": error.details,
        "trail": error.trail,
    }


def error_from_json(fields: dict[str, Any]) -> FlydError:
    """The error that ``error_to_json`` described; of the class of its kind, ``CommandFailed`` for an unknown one."""
    # A finer class has arguments of its own: on this side its kind is what counts, and each kind has one class.
    classes = {cls.kind.value: cls for cls in FlydError.__subclasses__()}
    cls = classes.get(str(fields.get("kind")), CommandFailed)
    error = cls(
        str(fields["msg"]), hint=str(fields["hint"]), retryable=bool(fields["retryable"]), **dict(fields["details"])
    )
    error.trail = [str(step) for step in fields["trail"]]
    return error

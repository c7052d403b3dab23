# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors say whose fault it is, what was being done, and cross a process as they are."""

from __future__ import annotations

import json

import pytest

from module_utils._errors import (
    BadInput,
    Busy,
    CommandFailed,
    CorruptStore,
    DamagedPool,
    ErrorKind,
    FlydError,
    ForeignDevice,
    Internal,
    MissingLibrary,
    NoSpace,
    OutOfOrder,
    Transient,
    Unhealthy,
    Unsupported,
    Untrusted,
    doing,
    error_from_json,
    error_to_json,
)

FAMILY: list[type[FlydError]] = [
    BadInput,
    Untrusted,
    OutOfOrder,
    Busy,
    NoSpace,
    Transient,
    CommandFailed,
    ForeignDevice,
    DamagedPool,
    CorruptStore,
    Unhealthy,
    Unsupported,
    Internal,
]
CLASSES = pytest.mark.parametrize("cls", FAMILY)


def crossed(error: FlydError) -> FlydError:
    """``error`` after a journey through a pipe."""
    return error_from_json(json.loads(json.dumps(error_to_json(error))))


def test_the_kinds_are_those_that_programs_rely_on() -> None:
    assert [kind.value for kind in ErrorKind] == [
        "bad_input",
        "untrusted",
        "out_of_order",
        "busy",
        "no_space",
        "transient",
        "command_failed",
        "foreign_device",
        "damaged_pool",
        "corrupt_store",
        "unhealthy",
        "unsupported",
        "internal",
    ]


def test_every_kind_has_exactly_one_error() -> None:
    assert [cls.kind for cls in FAMILY] == list(ErrorKind)


def test_only_transient_errors_are_retryable() -> None:
    assert [cls for cls in FAMILY if cls("x", hint="y").retryable] == [Busy, Transient]


def test_one_error_can_be_retryable_where_its_kind_is_not() -> None:
    assert CommandFailed("timed out", hint="y", retryable=True).retryable
    assert not Transient("for good", hint="y", retryable=False).retryable
    assert not CommandFailed("x", hint="y").retryable, "the class was not changed by it"


def test_the_trail_reads_from_the_outside_in() -> None:
    with pytest.raises(NoSpace) as caught, doing("unpack of images/redis.tar"), doing("writing the tree"):
        raise NoSpace("the volume is full", hint="make it larger")
    assert str(caught.value) == "while unpack of images/redis.tar while writing the tree: the volume is full"
    assert caught.value.trail == ["unpack of images/redis.tar", "writing the tree"]


def test_an_error_that_nothing_was_being_done_for_is_its_message_alone() -> None:
    assert str(BadInput("the key is empty", hint="y")) == "the key is empty"


def test_other_exceptions_pass_a_trail_unchanged() -> None:
    with pytest.raises(KeyError) as caught, doing("something"):
        raise KeyError("x")
    assert caught.value.args == ("x",)


def test_trails_of_two_errors_do_not_mix() -> None:
    first, second = BadInput("a", hint="y"), BadInput("b", hint="y")
    with pytest.raises(BadInput), doing("one thing"):
        raise first
    assert second.trail == []


@CLASSES
def test_an_error_crosses_a_process_as_it_is(cls: type[FlydError]) -> None:
    sent = cls("it is wrong", hint="mend it", retryable=True, member="a/b", bytes=7, percent=0.5)
    sent.trail = ["unpacking", "layer 2 of 3"]
    got = crossed(sent)
    assert type(got) is cls
    assert error_to_json(got) == error_to_json(sent)
    assert (str(got), got.kind, got.retryable, got.hint) == (str(sent), cls.kind, True, "mend it")


def test_an_error_of_a_finer_class_crosses_with_its_kind() -> None:
    got = crossed(MissingLibrary("boto3", "boto3"))
    assert got.kind is ErrorKind.UNSUPPORTED


def test_an_unknown_class_becomes_a_failed_command() -> None:
    got = error_from_json(
        {"class": "Exception", "msg": "m", "hint": "h", "retryable": False, "details": {}, "trail": []}
    )
    assert type(got) is CommandFailed


def test_a_missing_library_names_the_package_and_the_role_that_brings_it() -> None:
    error = MissingLibrary("ulid", "python-ulid")
    assert error.kind is ErrorKind.UNSUPPORTED
    assert "python-ulid" in error.msg
    assert "flyd.lite.prepare" in error.hint
    assert (error.library, error.package) == ("ulid", "python-ulid")

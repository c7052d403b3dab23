"""The bytes of an answer are counted, whatever its headers say."""

from __future__ import annotations

import io
import socket

import pytest

from module_utils._errors import Transient, Untrusted
from module_utils._source.body import Body
from module_utils._source.s3_errors import Where

WHERE = Where("https://s3.example.net", "images", "archive.tar")


def read_all(content: bytes, expected_bytes: int) -> bytes:
    with Body(io.BytesIO(content), expected_bytes, WHERE) as body:
        return b"".join(iter(lambda: body.read(3), b""))


def test_exactly_the_expected_bytes_are_handed_out() -> None:
    assert read_all(b"0123456789", 10) == b"0123456789"
    assert read_all(b"", 0) == b""


def test_fewer_bytes_are_a_fault_that_passes() -> None:
    with pytest.raises(Transient, match="after 4 of 10 bytes") as caught:
        read_all(b"0123", 10)
    assert caught.value.details == {"received_bytes": 4, "expected_bytes": 10}


@pytest.mark.parametrize("expected_bytes", [0, 1, 9])
def test_more_bytes_are_not_trusted(expected_bytes: int) -> None:
    with pytest.raises(Untrusted, match=f"more than the {expected_bytes} bytes"):
        read_all(b"0123456789", expected_bytes)


class Broken(io.BytesIO):
    """A line that breaks in its own way."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def read1(self, size: int | None = -1, /) -> bytes:
        raise self.error


def test_a_break_becomes_one_of_our_errors() -> None:
    pytest.importorskip("botocore")
    with pytest.raises(Transient, match="Connection reset by peer"):
        Body(Broken(ConnectionResetError(104, "Connection reset by peer")), 10, WHERE).read(5)


def test_an_interrupt_is_not_taken_for_a_fault() -> None:
    with pytest.raises(KeyboardInterrupt):
        Body(Broken(KeyboardInterrupt()), 10, WHERE).read(5)


class Line(io.BytesIO):
    """An answer over a socket that sends nothing."""

    def __init__(self, line: socket.socket) -> None:
        super().__init__()
        self.line = line

    def fileno(self) -> int:
        return self.line.fileno()


def test_abort_ends_the_line_under_a_reader() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        Body(Line(ours), 10, WHERE).abort()
        assert ours.recv(1) == b""
        assert ours.fileno() >= 0, "the reader's descriptor is not closed under it"

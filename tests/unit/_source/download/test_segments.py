"""What is here and what is missing: every byte is in exactly one segment."""

from __future__ import annotations

import hypothesis.strategies as some
from hypothesis import given

from module_utils._source.download.segments import Ledger, merged

SPANS = some.lists(some.tuples(some.integers(0, 60), some.integers(0, 60)), max_size=6)


@given(some.integers(0, 60), some.integers(1, 20), SPANS)
def test_every_byte_is_here_or_claimed_exactly_once(size: int, segment: int, spans: list[tuple[int, int]]) -> None:
    have = [(first, min(end, size)) for first, end in spans]
    ledger = Ledger(size, segment, have)
    times = [0] * size
    for first, end in merged(have):
        for at in range(first, end):
            times[at] += 1
    while (claimed := ledger.claim()) is not None:
        assert 0 < claimed.end_byte - claimed.next_byte <= segment
        for at in range(claimed.next_byte, claimed.end_byte):
            times[at] += 1
        claimed.next_byte = claimed.end_byte
    assert times == [1] * size
    assert ledger.received_bytes() == ledger.contiguous_bytes() == size
    assert ledger.spans() == ([(0, size)] if size else [])


def test_segments_are_claimed_in_order() -> None:
    ledger = Ledger(10, 4, [(4, 6)])
    claimed = [ledger.claim() for _ in range(4)]
    assert [(one.first_byte, one.end_byte) for one in claimed if one] == [(0, 4), (6, 10)]
    assert claimed[2:] == [None, None]


def test_what_is_contiguous_ends_at_the_first_gap() -> None:
    ledger = Ledger(12, 4)
    first, second = ledger.claim(), ledger.claim()
    assert first is not None
    assert second is not None
    second.next_byte = 8
    assert (ledger.contiguous_bytes(), ledger.received_bytes()) == (0, 4)
    first.next_byte = 3
    assert ledger.contiguous_bytes() == 3
    assert ledger.spans() == [(0, 3), (4, 8)]
    first.next_byte = 4
    assert ledger.contiguous_bytes() == 8


def test_spans_that_touch_or_overlap_are_made_one() -> None:
    assert merged([(5, 7), (0, 2), (2, 3), (6, 9), (4, 4)]) == [(0, 3), (5, 9)]

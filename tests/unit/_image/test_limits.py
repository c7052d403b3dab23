"""Limits as an operator writes them."""

from __future__ import annotations

import pytest

from module_utils._errors import BadInput
from module_utils._image.limits import Limits


def test_limits_are_parsed_and_unknown_ones_refused() -> None:
    assert Limits.parse("entries=5, depth=7") == Limits(entries=5, depth=7)
    assert Limits.parse("") == Limits()


@pytest.mark.parametrize("text", ["entires=5", "entries=", "entries=-1", "entries=0", "entries=1e9", "entries"])
def test_a_limit_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="limit"):
        Limits.parse(text)

"""Limits as an operator writes them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from module_utils._errors import BadInput
from module_utils._image.limits import Limits


def test_limits_are_parsed_and_unknown_ones_refused() -> None:
    assert Limits.parse("entries=5, depth=7") == Limits(entries=5, depth=7)
    assert Limits.parse("") == Limits()


def test_the_module_documents_every_limit_with_its_default() -> None:
    source = (Path(__file__).parents[3] / "plugins/modules/flyd_unpack.py").read_text(encoding="utf-8")
    documented = dict(re.findall(r"C\((\w+)\) \[([^]]+)\]", source))
    assert {name: in_bytes(text) for name, text in documented.items()} == Limits()._asdict()


def in_bytes(text: str) -> int:
    """``4 MiB`` as a number."""
    number, _space, unit = text.partition(" ")
    return int(number) * {"": 1, "MiB": 1 << 20, "GiB": 1 << 30}[unit]


@pytest.mark.parametrize("text", ["entires=5", "entries=", "entries=-1", "entries=0", "entries=1e9", "entries"])
def test_a_limit_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="limit"):
        Limits.parse(text)

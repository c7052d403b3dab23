"""The order of a family's objects."""

from __future__ import annotations

import pytest

from module_utils._source.s3.order import natural_order


@pytest.mark.parametrize(
    "ordered",
    [
        ["1", "2", "10"],
        ["layer2.tar", "layer10.tar"],
        ["a/1/2", "a/1/10", "a/2/1"],
        ["01.tar", "1.tar", "2.tar"],
        ["1.tar", "a.tar", "b.tar"],
    ],
)
def test_runs_of_digits_count_as_numbers(ordered: list[str]) -> None:
    assert sorted(ordered, key=natural_order) == ordered


def test_digits_of_other_scripts_are_letters() -> None:
    assert sorted(["²", "1"], key=natural_order) == ["1", "²"]

"""The catalogue of attacks and rules is whole, and what it names is there."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import pytest

from tests.unit._image import catalogue
from tests.unit._image.catalogue import Row

HERE = Path(__file__).parents[1]
ROWS = {
    f"{name} {number}": row
    for name in ("ATTACKS", "TELLING_APART", "APPLYING", "OCI_CHOICE", "PRODUCED")
    for number, row in getattr(catalogue, name).items()
}


@functools.cache
def parameters(test: str) -> tuple[str, ...] | None:
    """The parameters of a test ``file::function``, or None when there is no such test."""
    file, _colons, function = test.partition("::")
    path = next(HERE.rglob(f"{file}.py"), HERE / file)
    if not path.exists():
        return None
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef) and node.name == function:
            return tuple(argument.arg for argument in node.args.args)
    return None


def test_no_number_is_missing() -> None:
    assert list(catalogue.ATTACKS) == list(range(1, 61))
    assert list(catalogue.TELLING_APART) == list(range(6))
    assert list(catalogue.APPLYING) == list(range(1, 15))


@pytest.mark.parametrize("name", ROWS)
def test_every_row_has_tests_that_exist(name: str) -> None:
    assert ROWS[name].tests
    assert [test for test in ROWS[name].tests if parameters(test) is None] == []


@pytest.mark.parametrize("number", catalogue.ATTACKS)
def test_every_attack_is_tried_in_every_form_or_says_why_not(number: int) -> None:
    row = catalogue.ATTACKS[number]
    if not row.why_no_forms:
        assert [test for test in row.tests if not is_tried_in_every_form(test)] == []


def is_tried_in_every_form(test: str) -> bool:
    """Whether the test asks for the fixture that gives it each form."""
    return "form" in (parameters(test) or ())


def test_a_gap_would_be_seen() -> None:
    assert parameters("test_catalogue::test_that_nobody_wrote") is None
    assert parameters("test_of_no_file::test") is None
    assert not is_tried_in_every_form("test_catalogue::test_a_gap_would_be_seen")
    assert Row("x", ()).tests == ()

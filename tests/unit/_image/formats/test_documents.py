# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a document of an archive must not be able to say."""

from __future__ import annotations

from typing import Any

import pytest

from module_utils._errors import Untrusted
from module_utils._image.documents import Fields, parse


def refusal(text: str | bytes) -> str:
    """The message with which the document ``text`` is refused."""
    data = text.encode() if isinstance(text, str) else text
    with pytest.raises(Untrusted) as caught:
        parse(data, "the document")
    return caught.value.msg


@pytest.mark.parametrize(
    "number", ["1e400", "-1e400", "1E+999999999", "1.1e309", "1e-400", "-0.5e-399", "1" + "0" * 309 + ".0"]
)
def test_a_number_that_no_double_comes_near_to_is_refused(number: str) -> None:
    assert "out of range" in refusal(f'{{"size": {number}}}') or "too long" in refusal(f'{{"size": {number}}}')


@pytest.mark.parametrize(
    "number", ["1e308", "-1.5", "0.0", "-0.0", "0e400", "0.000E-400", "4.9e-324", "1.7976931348623157e308"]
)
def test_a_number_that_is_a_double_is_read(number: str) -> None:
    assert parse(number.encode(), "the document") == float(number)


@pytest.mark.parametrize(
    "number", ["9" * 21, "-" + "9" * 20, "1" * 4_000_000, "0." + "1" * 4_000_000, "1e" + "1" * 4000]
)
def test_a_number_that_would_take_long_to_read_is_refused(number: str) -> None:
    assert "too long" in refusal(number)


@pytest.mark.parametrize(
    "text", ["NaN", "[Infinity]", "-Infinity", "01", "0x10", "1.", ".5", "+1", "", "[1,]", "{} {}", "\ufeff{}"]
)
def test_what_is_no_json_is_refused(text: str) -> None:
    refusal(text)


@pytest.mark.parametrize("text", [r'"\ud800"', r'{"a": ["\uDFFF"]}', r'{"\udc00": 1}', r'"\ude00\ud83d"'])
def test_half_of_a_surrogate_pair_is_refused(text: str) -> None:
    assert "surrogate" in refusal(text)


def test_a_whole_surrogate_pair_is_one_character() -> None:
    assert parse(rb'["\ud83d\ude00", "\\ud800"]', "the document") == ["\U0001f600", "\\ud800"]


def test_bytes_that_are_no_utf_8_are_refused() -> None:
    refusal(b'"\xff"')
    refusal(b'"\xed\xa0\x80"')  # a surrogate, encoded


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000 + "1" + "}" * 100_000])
def test_deep_nesting_is_refused(text: str) -> None:
    refusal(text)


@pytest.mark.parametrize("value", ["[],", "{},", "0,"])
def test_a_document_of_too_many_values_is_refused(value: str) -> None:
    assert "values" in refusal("[" + value * 600_000 + "0]")


@pytest.mark.parametrize("text", ['{"a": 1, "a": 1}', '{"a": {"b": 1, "b": 2}}', r'{"a": 1, "\u0061": 2}'])
def test_a_key_that_comes_twice_is_refused(text: str) -> None:
    assert "twice" in refusal(text)


@pytest.mark.parametrize(
    "value", [1.0, 1e3, True, "1", [1], {}, False], ids=["float", "exponent", "true", "text", "list", "object", "false"]
)
def test_only_a_whole_number_is_a_whole_number(value: Any) -> None:
    with pytest.raises(Untrusted, match="its field size is a"):
        Fields({"size": value}, "the document").number("size")


def test_minus_zero_is_zero() -> None:
    assert Fields(parse(b'{"size": -0}', "the document"), "the document").number("size") == 0


@pytest.mark.parametrize(
    "text", ['{"digest": "a", "Digest": "b"}', '{"Digest": "b"}', '{"DIGEST": null}', '{"dige\u017ft": "c"}']
)
def test_a_field_that_readers_ignoring_case_see_differently_is_refused(text: str) -> None:
    fields = Fields(parse(text.encode(), "the document"), "the document")
    with pytest.raises(Untrusted, match="another case"):
        fields.text("digest")
    with pytest.raises(Untrusted, match="another case"):
        fields.has("digest")


def test_the_case_of_fields_that_are_not_asked_for_does_not_matter() -> None:
    assert Fields({"Labels": 1, "labels": 2, "digest": "a"}, "the document").text("digest") == "a"


def test_names_in_a_map_are_compared_exactly() -> None:
    tags = Fields.of_names({"redis": {"RC": "one", "rc": "two"}}, "the document").inner("redis")
    assert (tags.text("RC"), tags.text("rc")) == ("one", "two")

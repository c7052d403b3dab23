"""Limits as an operator writes them."""

from __future__ import annotations

import gzip
import random
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from module_utils._errors import BadInput, Untrusted
from module_utils._image.compression import spooling
from module_utils._image.limits import Limits
from tests.unit._image.unpacked import plan_of
from tests.unit.builders import images, tar


def test_limits_are_parsed_and_unknown_ones_refused() -> None:
    assert Limits.parse("entries=5, depth=7") == Limits(entries=5, depth=7)
    assert Limits.parse("") == Limits()


def described(path: str) -> dict[str, dict[str, Any]]:
    """The limits that a module's or a role's description of its options has."""
    text = (Path(__file__).parents[4] / path).read_text(encoding="utf-8")
    if path.endswith(".py"):
        options = yaml.safe_load(text.partition('DOCUMENTATION = r"""')[2].partition('"""')[0])["options"]
        return dict(options["limits"]["suboptions"])
    return dict(yaml.safe_load(text)["argument_specs"]["main"]["options"]["activate_limits"]["options"])


def named_default(option: dict[str, Any]) -> str:
    """The value that a limit has when it is left out, as its description names it."""
    [value] = re.findall(r"V\((\w+)\) when left out", " ".join(option["description"]))
    return str(value)


def test_the_module_and_the_role_describe_every_limit_with_its_type_and_default() -> None:
    ours = described("plugins/modules/flyd_unpack.py")
    assert Limits.of({name: named_default(option) for name, option in ours.items()}) == Limits()
    assert list(ours) == list(Limits._fields)
    theirs = described("roles/activate/meta/argument_specs.yml")
    assert {name: option["type"] for name, option in theirs.items()} == {
        name: option["type"] for name, option in ours.items()
    }
    assert all((option["type"] == "str") == name.endswith("_bytes") for name, option in ours.items())


def test_sizes_take_units_and_numbers_do_not() -> None:
    assert Limits.parse("file_bytes=2G,path_bytes=8K,header_bytes=5000").file_bytes == 2 << 30
    assert Limits.of({"content_bytes": "1T", "entries": 7, "depth": None}) == Limits(content_bytes=1 << 40, entries=7)
    for text in ("entries=2G", "file_bytes=2X", "file_bytes=0", "seconds=1h"):
        with pytest.raises(BadInput, match=text.partition("=")[0]):
            Limits.parse(text)


def archive() -> bytes:
    """An image of two layers with 301 members of 1000 bytes."""
    many = tar.tar(*(tar.file(b"f%d" % at, b"x" * 1000) for at in range(300)))
    return images.docker_archive([many, tar.tar(tar.file(b"last", b"y" * 1000))])


@pytest.mark.parametrize(
    ("limits", "needed"),
    [
        ({"content_bytes": 5000}, {"content_bytes": 301_000}),
        ({"entries": 10}, {"entries": 301}),
        ({"file_bytes": 10}, {"file_bytes": 1000}),
        ({"metadata_bytes": 500}, {"metadata_bytes": 1094}),
        ({"content_bytes": 5000, "entries": 20, "file_bytes": 999}, {"content_bytes": 301_000, "entries": 301}),
    ],
)
def test_the_hint_names_values_that_suffice(tmp_path: Path, limits: dict[str, int], needed: dict[str, int]) -> None:
    with pytest.raises(Untrusted, match="limit") as caught:
        plan_of(tmp_path, archive(), limits=Limits(**limits))
    for name, value in needed.items():
        assert f"the limit {name} above {value - 1} (the whole archive needs {value})" in caught.value.hint
    found = dict(re.findall(r"the limit (\w+) above \d+ \(the whole archive needs (\d+)\)", caught.value.hint))
    assert plan_of(tmp_path, archive(), limits=Limits.of(found)).entries == 301
    if len(limits) == 1:
        (name,) = limits
        with pytest.raises(Untrusted):
            plan_of(tmp_path, archive(), limits=Limits(**{name: int(found[name]) - 1}))


def test_where_the_whole_is_not_known_the_hint_says_at_least(tmp_path: Path) -> None:
    packed = images.docker_archive([tar.tar(tar.file(b"f", bytes(5000)))], gzip.compress)
    with pytest.raises(Untrusted, match="or more") as caught:
        plan_of(tmp_path, packed, limits=Limits(decompressed_bytes=1000))
    assert "set the limit decompressed_bytes above " in caught.value.hint
    assert "at least" in caught.value.hint
    broken = images.docker_archive([tar.tar(tar.file(b"a", b"x" * 9), tar.file(b"b", checksum=b"0000000\0"))])
    with pytest.raises(Untrusted, match="content_bytes") as caught:
        plan_of(tmp_path, broken, limits=Limits(content_bytes=5))
    assert "the limit content_bytes above 8 at least" in caught.value.hint


def test_zeros_in_front_do_not_count_against_the_ratio_of_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spooling, "_RATIO_FREE_BYTES", 16 << 20)
    noise = random.Random(1).randbytes(1 << 20)
    layer = tar.tar(tar.file(b"zeros", bytes(15 << 20)), tar.file(b"noise", noise))
    assert len(fast_gzip(layer)) < 2 << 20
    for layers in ([layer], [tar.tar(tar.file(b"n", noise)), tar.tar(tar.file(b"z", bytes(100 << 20)))]):
        assert plan_of(tmp_path, images.oci_archive(layers, fast_gzip)).entries in (2, 2)
    bomb = [tar.tar(tar.file(b"z%d" % at, bytes(10 << 20))) for at in range(3)]
    with pytest.raises(Untrusted, match="limit ratio") as caught:
        plan_of(tmp_path, images.oci_archive(bomb, fast_gzip))
    assert "set the limit ratio above" in caught.value.hint


def fast_gzip(data: bytes) -> bytes:
    """``data`` in gzip, soon."""
    return gzip.compress(data, 1)


@pytest.mark.parametrize("text", ["entires=5", "entries=", "entries=-1", "entries=0", "entries=1e9", "entries"])
def test_a_limit_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="limit"):
        Limits.parse(text)

"""What a host's environment is made from: exact versions with hashes, and wheels that are none of them are refused by name."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.roles.prepare.wheelhouse import PYTHON, SOURCES, Wheelhouse, wheel

ROOT = Path(__file__).parents[4]
LISTS = ROOT / "roles/prepare/files/requirements"


@pytest.fixture
def house(tmp_path: Path) -> Wheelhouse:
    return Wheelhouse(tmp_path)


def plan(*arguments: str | Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, ROOT / "roles/prepare/files/plan.py", *arguments], capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def of_wheels(house: Wheelhouse, python: str = PYTHON) -> dict[str, Any]:
    return plan(house.lists, house.optional, python, house.wheels)


def names(requirements: str) -> list[str]:
    return re.findall(r"^(\S+)==", requirements, re.MULTILINE)


def test_of_an_index_all_that_is_listed_is_wanted(house: Wheelhouse) -> None:
    found = plan(house.lists, house.optional, PYTHON)
    assert (found["errors"], found["wheels"], found["directory"], found["optional"]) == ([], [], "", ["isal"])
    assert names(found["requirements"]) == ["boto3", "botocore", "isal", "pip", "python-ulid"]


def test_wheels_that_are_listed_are_sent_and_pip_is_not_installed(house: Wheelhouse) -> None:
    found = of_wheels(house)
    assert found["errors"] == []
    assert [one["name"].split("-")[0] for one in found["wheels"]] == ["boto3", "botocore", "isal", "pip", "python_ulid"]
    assert names(found["requirements"]) == ["boto3", "botocore", "isal", "python-ulid"]


def altered(house: Wheelhouse) -> Path:
    path, source = SOURCES["botocore"]
    return house.add("botocore", wheel("botocore", path, f"{source}import os\n"))


def other_version(house: Wheelhouse) -> Path:
    (house.wheels / "boto3-1.0-py3-none-any.whl").unlink()
    return house.add("boto3", wheel("boto3", *SOURCES["boto3"], version="1.1"), version="1.1")


def cut_short(house: Wheelhouse) -> Path:
    path = house.wheels / "python_ulid-1.0-py3-none-any.whl"
    path.write_bytes(path.read_bytes()[:-1])
    return path


def altered_pip(house: Wheelhouse) -> Path:
    [path] = house.wheels.glob("pip-*.whl")
    path.write_bytes(path.read_bytes() + b"\0")
    return path


def altered_optional(house: Wheelhouse) -> Path:
    return house.add("isal", wheel("isal", *SOURCES["botocore"]))


@pytest.mark.parametrize("wrong", [altered, other_version, cut_short, altered_pip, altered_optional])
def test_a_wheel_that_is_not_the_listed_one_is_refused_by_its_name(
    house: Wheelhouse, wrong: Callable[[Wheelhouse], Path]
) -> None:
    path = wrong(house)
    found = of_wheels(house)
    assert list(found) == ["errors"]
    assert str(path) in found["errors"][0]
    assert "is listed" in found["errors"][0] or "is not the listed" in found["errors"][0]


def test_a_wheel_that_is_missing_is_named(house: Wheelhouse) -> None:
    (house.wheels / "boto3-1.0-py3-none-any.whl").unlink()
    [error] = of_wheels(house)["errors"]
    assert "no wheel of boto3 1.0" in error
    assert str(house.wheels) in error


def test_what_is_optional_may_be_missing_and_is_not_wanted_then(house: Wheelhouse) -> None:
    for path in (*house.wheels.glob("isal-*"), *house.wheels.glob("pip-*")):
        path.unlink()
    found = of_wheels(house)
    assert (found["errors"], found["optional"], names(found["requirements"])) == (
        [],
        [],
        ["boto3", "botocore", "python-ulid"],
    )


def test_wheels_of_other_packages_are_never_sent(house: Wheelhouse) -> None:
    house.add("other", wheel("other", "other.py", ""))
    found = of_wheels(house)
    assert found["errors"] == []
    assert "other" not in str(found["wheels"])


def test_a_wheel_for_hosts_with_another_python_is_no_error_and_not_sent(house: Wheelhouse) -> None:
    house.write_lists()
    path = house.add("boto3", wheel("boto3", *SOURCES["boto3"], version="0.9"), version="0.9")
    before = (house.lists / f"python{PYTHON}.txt").read_text()
    house.write_lists()
    (house.lists / f"python{PYTHON}.txt").write_text(before)
    if PYTHON == "3.9":
        pytest.skip("there is no older list than that of 3.9")
    found = of_wheels(house)
    assert (found["errors"], path.name in str(found["wheels"])) == ([], False)


@pytest.mark.parametrize("made", [True, False])
def test_a_directory_without_wheels_is_refused(house: Wheelhouse, tmp_path: Path, made: bool) -> None:
    empty = tmp_path / "empty"
    if made:
        empty.mkdir()
    [error] = plan(house.lists, house.optional, PYTHON, empty)["errors"]
    assert f"prepare_wheels names {empty}" in error


def test_a_python_that_is_too_old_is_refused_and_a_later_one_gets_the_newest_list() -> None:
    optional = ROOT / "requirements-optional.txt"
    [error] = plan(LISTS, optional, "3.8")["errors"]
    assert "Python 3.8" in error
    assert "prepare_python" in error
    later, newest = plan(LISTS, optional, "3.15"), plan(LISTS, optional, "3.13")
    assert later["requirements"] == newest["requirements"]
    assert later["id"] != newest["id"]


def test_the_same_makes_the_same_id_and_anything_else_another(house: Wheelhouse) -> None:
    first = of_wheels(house)["id"]
    assert of_wheels(house)["id"] == first
    house.write_lists(unlisted="isal")
    assert of_wheels(house)["id"] != first


@pytest.mark.parametrize("version", ["3.9", "3.10", "3.11", "3.12", "3.13"])
def test_every_list_pins_all_that_the_modules_need_within_its_range(version: str) -> None:
    requirements = pytest.importorskip("packaging.requirements")
    text = (LISTS / f"python{version}.txt").read_text()
    pinned = dict(re.findall(r"^(\S+)==(\S+) \\\n    --hash=sha256:[0-9a-f]{64}", text, re.MULTILINE))
    assert len(pinned) == text.count("==")
    assert "pip" in pinned
    for file in ("requirements.txt", "requirements-optional.txt"):
        for line in (ROOT / file).read_text().splitlines():
            if line and not line.startswith("#"):
                wanted = requirements.Requirement(line)
                if wanted.marker is None or wanted.marker.evaluate({"python_version": version}):
                    assert wanted.specifier.contains(pinned[wanted.name]), (line, pinned[wanted.name])
    assert "://" not in text

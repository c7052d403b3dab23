# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say what a host's environment is made from, on the controller: plan.py LISTS OPTIONAL PYTHON [WHEELS]

LISTS is the directory of lists of exact versions and hashes, OPTIONAL the requirements that a host can do without, PYTHON the version of
the host's interpreter ("3.11"), WHEELS a directory of wheels. Prints one object of JSON:

    errors        each reason to refuse, as a sentence; the rest is only there without any
    id            names all that the environment is made from
    requirements  the text of a requirements file with hashes
    optional      names of packages in it that may be absent for the host's platform
    directory     WHEELS as an absolute path, or ""
    wheels        name, bytes and sha256 of each wheel to send, in the order of their names

Invariant: nothing is written, and a wheel of a listed package that is not a listed file is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

PIP = "pip"
FORMAT = 1  # of what is built; another one has every environment made again


class Pin(NamedTuple):
    """A package in its one version, with the hashes (SHA-256, hexadecimal) that its files may have."""

    name: str
    version: str
    hashes: frozenset[str]
    text: str


class Wheel(NamedTuple):
    """A file of the directory, with the package and version that its name says."""

    path: Path
    package: str
    version: str


class Refused(Exception):
    """The host cannot be prepared so; the arguments say why."""


def normalized(name: str) -> str:
    """The name of a package as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(path: Path) -> list[Pin]:
    """The list in ``path``, in its order."""
    found = re.findall(r"^(?:\S+==\S+)(?:[ \t]*\\\n[ \t]+--hash=\S+)+", path.read_text(encoding="utf-8"), re.MULTILINE)
    return [_pin(text) for text in found]


def _pin(text: str) -> Pin:
    name, version = text.split(None, 1)[0].split("==")
    return Pin(normalized(name), version, frozenset(re.findall(r"--hash=sha256:([0-9a-f]{64})", text)), text)


def list_for(lists: Path, python: str) -> Path:
    """The list for that version of Python: its own, or that of the newest Python when it is newer."""
    known = sorted(_numbers(path.stem[len("python") :]) for path in lists.glob("python*.txt"))
    wanted = _numbers(python)
    if wanted < known[0]:
        raise Refused(
            f"the host's interpreter is Python {python}, and the modules need {_dotted(known[0])} or later: name one in prepare_python"
        )
    return lists / f"python{_dotted(min(wanted, known[-1]))}.txt"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _dotted(numbers: Iterable[int]) -> str:
    return ".".join(str(number) for number in numbers)


def optional_names(path: Path) -> frozenset[str]:
    """The packages of a requirements file."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return frozenset(normalized(re.split(r"[^\w.-]", line, maxsplit=1)[0]) for line in lines if line[:1].isalnum())


def wheels_in(directory: Path) -> list[Wheel]:
    """The wheels of a directory, by name."""
    paths = sorted(directory.glob("*.whl"))
    if not paths:
        raise Refused(f"prepare_wheels names {directory}, where the controller has no *.whl file: {_fill(directory)}")
    parts = [(path, path.name.split("-")) for path in paths]
    return [Wheel(path, normalized(words[0]), words[1]) for path, words in parts if len(words) >= 5]


def _fill(directory: Path) -> str:
    return f"fill it as docs/guides/air-gapped-hosts.md says (pip download --require-hashes … --dest {directory})"


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def _why_not(wheel: Wheel, sha256: str, known: list[Pin]) -> str:
    """Why a wheel of a listed package is refused, or nothing; ``known`` are the pins of its package in all lists."""
    versions = sorted({pin.version for pin in known})
    if wheel.version not in versions:
        return f"{wheel.path} is {wheel.package} {wheel.version}, and {' or '.join(versions)} is listed: {_fill(wheel.path.parent)}"
    if not any(sha256 in pin.hashes for pin in known if pin.version == wheel.version):
        return (
            f"{wheel.path} is not the listed {wheel.package} {wheel.version}: its SHA-256 is {sha256}, which is none of those in the"
            f" list. It was altered or damaged: download it again, and find out who changed it"
        )
    return ""


def choose(lists: Path, wanted: list[Pin], directory: Path) -> tuple[list[dict[str, Any]], frozenset[str], list[str]]:
    """The wheels to send, the packages that they hold, and each reason to refuse the directory."""
    every = [pin for path in sorted(lists.glob("python*.txt")) for pin in pins(path)]
    here = {(pin.name, pin.version) for pin in wanted}
    chosen: list[dict[str, Any]] = []
    packages: set[str] = set()
    errors: list[str] = []
    for wheel in wheels_in(directory):
        known = [pin for pin in every if pin.name == wheel.package]
        if not known:
            continue  # a package of others: never sent
        sha256 = _sha256(wheel.path)
        error = _why_not(wheel, sha256, known)
        if error:
            errors.append(error)
        elif (wheel.package, wheel.version) in here:  # else it is for hosts with another Python
            chosen.append({"name": wheel.path.name, "bytes": wheel.path.stat().st_size, "sha256": sha256})
            packages.add(wheel.package)
    return chosen, frozenset(packages), errors


def _missing(wanted: list[Pin], present: frozenset[str], optional: frozenset[str], directory: Path) -> Iterator[str]:
    for pin in wanted:
        if pin.name not in present and pin.name not in optional and pin.name != PIP:
            yield f"{directory} has no wheel of {pin.name} {pin.version}, which the host's Python needs: {_fill(directory)}"


def plan(lists: Path, optional: frozenset[str], python: str, directory: Path | None) -> dict[str, Any]:
    """What the program prints."""
    wanted = pins(list_for(lists, python))
    wheels: list[dict[str, Any]] = []
    if directory is not None:
        wheels, present, errors = choose(lists, wanted, directory)
        errors += _missing(wanted, present, optional, directory)
        if errors:
            return {"errors": errors}
        # pip is run from its wheel, or is the host's own, and not installed.
        wanted = [pin for pin in wanted if pin.name in present and pin.name != PIP]
    text = "".join(f"{pin.text}\n" for pin in wanted)
    made_from = json.dumps([FORMAT, python, text])
    return {
        "errors": [],
        "id": hashlib.sha256(made_from.encode()).hexdigest()[:16],
        "requirements": text,
        "optional": sorted(optional & {pin.name for pin in wanted}),
        "directory": str(directory or ""),
        "wheels": wheels,
    }


def main() -> None:
    """Entry point."""
    lists, optional, python, *rest = sys.argv[1:]
    directory = Path(os.path.abspath(rest[0])) if rest else None
    try:
        answer = plan(Path(lists), optional_names(Path(optional)), python, directory)
    except Refused as refusal:
        answer = {"errors": [str(refusal)]}
    except OSError as error:
        answer = {"errors": [f"{error.filename}: {error.strerror}"]}
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()

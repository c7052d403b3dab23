# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fill an environment: a virtual environment, exactly the listed packages by pip, and a trial of what the modules import.

Invariant: nothing but the directory that is filled is written to, and no file is installed, or run, whose hash is not listed.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from typing import Any

from place import Failed

STAMP = "flyd-environment.json"
WHERE_FROM = (
    "exactly the listed versions are installed: let the host's pip reach an index that has them (/etc/pip.conf), or name a directory of"
    " wheels in prepare_wheels"
)
# What the modules import of each package; the environment is tried with it.
IMPORTS = {
    "boto3": "boto3",
    "botocore": "botocore.session",
    "python-ulid": "ulid",
    "isal": "isal.isal_zlib",
    "zstandard": "zstandard",
}
# Reads the data of S3 too, and has compiled what a module will import.
CLIENT = 'boto3.client("s3", region_name="x", aws_access_key_id="x", aws_secret_access_key="x")'


def unpack(bundle: str, wheels: list[dict[str, Any]], directory: str) -> None:
    """The wheels of a bundle as files in ``directory``, each with the SHA-256 that the controller found."""
    os.mkdir(directory)
    with open(bundle, "rb") as file:
        for wheel in wheels:
            data = file.read(wheel["bytes"])
            if hashlib.sha256(data).hexdigest() != wheel["sha256"]:
                raise Failed(
                    f"{wheel['name']} is not what the controller sent",
                    "run prepare again: its wheels change, or the disk is bad",
                )
            with open(os.path.join(directory, os.path.basename(wheel["name"])), "wb") as target:
                target.write(data)
            if not data.endswith(b"\n"):
                file.read(1)


def pip_of(wheels: str, python: str) -> list[str]:
    """How pip is started: a wheel can be run where it lies, so the environment need not have one."""
    found = glob.glob(os.path.join(wheels, "pip-*.whl")) if wheels else []
    return [python, "-I", os.path.join(found[0], "pip")] if found else [python, "-I", "-m", "pip"]


def run(argv: list[str], lock: int, environment: dict[str, str]) -> tuple[bool, str]:
    """Run a program; whether it succeeded, and what it printed."""
    done = subprocess.run(  # noqa: S603 - argv only
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        pass_fds=(lock,),
        check=False,
    )
    return done.returncode == 0, done.stdout.decode(errors="replace")


def environment_of(wheels: str) -> dict[str, str]:
    """Beside wheels nothing counts; for an index, what pip is set up for does, but not where it would install."""
    unwanted = ("PYTHON", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER", "PIP_CONFIG_FILE" if wheels else "PYTHON")
    found = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    if wheels:
        found = {name: value for name, value in found.items() if not name.startswith("PIP_")}
        found["PIP_CONFIG_FILE"] = os.devnull
    return {**found, "LC_ALL": "C.UTF-8"}


def names_in(requirements: str) -> list[str]:
    """The packages of a list, in its order."""
    return re.findall(r"^([\w.-]+)==", requirements, re.MULTILINE)


def without(requirements: str, name: str) -> str:
    """The list without one package."""
    return re.sub(rf"^{re.escape(name)}==(?:.*\\\n)*.*\n", "", requirements, flags=re.MULTILINE)


def install(directory: str, plan: dict[str, Any], wheels: str, cache: str, lock: int) -> list[str]:
    """Have pip install the list; returns the optional packages that there are none of for this platform."""
    path, text = os.path.join(directory, "flyd-requirements.txt"), plan["requirements"]
    left_out: list[str] = []
    argv = [
        *pip_of(wheels, os.path.join(directory, "bin/python")),
        "install",
        "--disable-pip-version-check",
        "--no-input",
    ]
    # Not compiled: Python compiles what is imported, a small part of boto3.
    argv += ["--no-compile", "--require-hashes", "--no-deps", "--only-binary", ":all:", "--requirement", path]
    argv += ["--cache-dir", cache, *(["--no-index", "--find-links", wheels] if wheels else [])]
    while True:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        done, said = run(argv, lock, environment_of(wheels))
        if done:
            return left_out
        absent = re.search(r"No matching distribution found for ([\w.-]+?)==", said)
        if absent is None or absent[1] not in plan["optional"] or "Retrying" in said:
            raise Failed(*explained(said, wheels))
        left_out.append(absent[1])
        text = without(text, absent[1])


def explained(said: str, wheels: str) -> tuple[str, str]:
    """What is wrong and what to do, from what pip printed."""
    lines = [
        line.strip()
        for line in said.splitlines()
        if line.strip() and not line.startswith(("WARNING: Retrying", "Looking in"))
    ]
    where = "the wheels" if wheels else "the package index"
    if "DO NOT MATCH THE HASHES" in said:
        begin = next(number for number, line in enumerate(lines) if "DO NOT MATCH THE HASHES" in line)
        return (
            f"{where} gave another file than the listed one: {' '.join(lines[begin + 1 : begin + 5])}",
            "find out who changed it; nothing of it was installed",
        )
    absent = re.search(r"No matching distribution found for (\S+)", said)
    if absent and "Retrying" not in said:  # pip says no more when an index cannot be reached and it is not to retry
        return f"{where} has no wheel of {absent[1]} for this host, or cannot be reached", WHERE_FROM
    return f"pip could not install from {where}: {' '.join(lines[-3:])}", WHERE_FROM


def try_out(directory: str, names: list[str], lock: int) -> list[str]:
    """Import of these packages what the modules do; returns the names to import."""
    imports = [IMPORTS[name] for name in names if name in IMPORTS]
    client = f"\n{CLIENT}" if "boto3" in imports else ""
    # A trial must not ask the metadata service of a cloud, nor a profile.
    quiet = {
        "PATH": os.environ.get("PATH", os.defpath),
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
    }
    done, said = run(
        [os.path.join(directory, "bin/python"), "-Ic", f"import {', '.join(imports)}{client}"], lock, quiet
    )
    if not done:
        last = (said.strip().splitlines() or ["it was killed"])[-1]
        raise Failed(
            f"what was installed does not work: {last}", "report it, with the versions in the list of the role prepare"
        )
    return imports


def fill(directory: str, plan: dict[str, Any], bundle: str, lock: int) -> list[str]:
    """Make a whole environment in an empty directory; returns the optional packages that are left out."""
    wheels = os.path.join(directory, "wheels") if plan["wheels"] else ""
    cache = os.path.join(directory, "cache")
    if wheels:
        unpack(bundle, plan["wheels"], wheels)
    make_venv(directory, wheels, lock)
    left_out = install(directory, plan, wheels, cache, lock)
    imports = try_out(directory, [name for name in names_in(plan["requirements"]) if name not in left_out], lock)
    for path in filter(None, (wheels, cache)):
        shutil.rmtree(path, ignore_errors=True)
    with open(os.path.join(directory, STAMP), "w", encoding="utf-8") as file:
        json.dump({"id": plan["id"], "imports": imports, "without": left_out}, file)
    os.chmod(directory, 0o755)  # noqa: S103 - nothing secret is in it
    return left_out


def make_venv(directory: str, wheels: str, lock: int) -> None:
    """An empty virtual environment, with a pip of its own where there is no wheel of one to run."""
    has_pip = wheels and glob.glob(os.path.join(wheels, "pip-*.whl"))
    argv = [sys.executable, "-I", "-m", "venv", *(["--without-pip"] if has_pip else []), directory]
    done, said = run(argv, lock, environment_of(wheels))
    if not done:
        what = f"{sys.executable} cannot make a virtual environment: {said.strip()[-400:]}"
        raise Failed(
            what, "install its module venv (Debian: python3-venv), or name another interpreter in prepare_python"
        )

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plugins keep the rules of architecture.py, and each rule finds what breaks it."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from tests.unit import architecture as rules
from tests.unit.architecture import FORKS_ALLOWED, LICENSE_HEADER, Rule, Source, sources

HEADER = "\n".join(LICENSE_HEADER)
LONG_FUNCTION = "def work():\n" + "    step()\n" * 40


def broken_by_plugins(rule: Rule) -> list[str]:
    assert len(sources()) > 50, "the plugins were not found"
    return [f"{source.path}: {offence}" for source in sources() for offence in rule(source)]


def test_imports_go_one_way() -> None:
    assert broken_by_plugins(rules.upward_imports) == []


def test_imports_have_no_circles() -> None:
    assert rules.circles(sources()) == []


def test_a_circle_is_found_also_through_late_imports_and_types() -> None:
    late = Source("module_utils/_thin/a.py", "def late():\n    from .room.b import work")
    typed = Source("module_utils/_thin/room/b.py", "if TYPE_CHECKING:\n    from .. import a")
    assert rules.circles([late, typed]) == [["module_utils._thin.a", "module_utils._thin.room.b"]]


def test_a_folder_has_a_dozen_files_at_most() -> None:
    assert [f"{path}: {count}" for path, count in rules.crowded_folders(rules.tracked_files())] == []


def test_a_crowded_folder_is_found() -> None:
    names = [f"plugins/module_utils/_thin/{number}.py" for number in range(13)]
    assert list(rules.crowded_folders(names)) == [("plugins/module_utils/_thin", 13)]


def test_each_library_is_imported_by_its_gates_only_and_tarfile_by_none() -> None:
    assert broken_by_plugins(rules.misplaced_imports) == []


def test_libraries_that_may_be_missing_are_imported_when_they_are_needed() -> None:
    assert broken_by_plugins(rules.early_imports) == []


def test_imports_are_relative_inside_module_utils_and_only_there() -> None:
    assert broken_by_plugins(rules.wrong_kind_of_import) == []


def test_programs_are_started_in_one_place() -> None:
    assert broken_by_plugins(rules.programs_started_elsewhere) == []


def test_every_fork_has_its_reason() -> None:
    assert broken_by_plugins(rules.forks_without_a_reason) == []


def test_every_reason_for_a_fork_is_still_needed() -> None:
    assert {source.path for source in sources() if "os.fork()" in source.text} == set(FORKS_ALLOWED)


def test_there_is_no_drawer_for_odds_and_ends() -> None:
    assert broken_by_plugins(rules.drawers) == []


def test_every_file_has_the_license_header_and_a_docstring() -> None:
    assert broken_by_plugins(rules.missing_header) == []


def test_modules_have_no_logic() -> None:
    assert broken_by_plugins(rules.logic_in_modules) == []


def test_files_and_functions_are_small() -> None:
    assert broken_by_plugins(rules.too_long) == []


def test_python_39_can_run_all_of_it() -> None:
    assert broken_by_plugins(rules.too_new_for_python_39) == []


def test_only_a_volume_that_is_being_made_is_ever_mounted() -> None:
    """What a guest has written to is hostile to the host's kernel: a snapshot is never mounted, nor is a base once it is sealed."""
    calls = {
        (source.path.rpartition("/")[2], ast.unparse(call.func).rpartition(".")[2])
        for source in sources()
        for call in source.nodes(ast.Call)
    }
    mounting = {(path, name) for path, name in calls if name in ("mount", "PrivateMount", "populate")}
    assert mounting == {
        ("isolation.py", "mount"),
        ("private_mount.py", "mount"),
        ("filesystem.py", "PrivateMount"),
        ("make_base.py", "populate"),
    }


OFFENDERS: list[tuple[Rule, str, str]] = [
    (rules.upward_imports, "_thin/pool/thin_pool.py", "from ..._lifecycle.store import Store"),
    (rules.upward_imports, "_thin/pool/thin_pool.py", "from ... import _lifecycle"),
    (rules.upward_imports, "_image/merge/plan.py", "from ..._thin.table import SECTOR_BYTES"),
    (rules.upward_imports, "_source/s3/bucket.py", "def late():\n    from ..._image import plan"),
    (rules.upward_imports, "_host/files/durable.py", "if TYPE_CHECKING:\n    from ..._thin.dm import DeviceMapper"),
    (rules.upward_imports, "_names.py", "from ._host.files import free_bytes"),
    (rules.upward_imports, "_errors.py", "from ._names import printable"),
    (rules.upward_imports, "_lifecycle/run.py", "from .._module import ModuleParams"),
    (rules.upward_imports, "_drawer/x.py", ""),
    (rules.misplaced_imports, "_lifecycle/pool/ensure.py", "from ansible.module_utils.basic import AnsibleModule"),
    (rules.misplaced_imports, "_lifecycle/fetch/fetch.py", "import boto3"),
    (rules.misplaced_imports, "_lifecycle/pool/ensure.py", "from ulid import ULID"),
    (rules.misplaced_imports, "_lifecycle/store/lock.py", "import sqlite3"),
    (rules.misplaced_imports, "_image/formats/archive.py", "from tarfile import TarFile"),
    (rules.misplaced_imports, "_thin/dm/dmsetup.py", "def late():\n    import subprocess"),
    (rules.misplaced_imports, "_image/writing/workers.py", "from multiprocessing import Pool"),
    (rules.early_imports, "_source/s3/client.py", "import botocore.config"),
    (rules.early_imports, "_names.py", "from ulid import ULID"),
    (rules.wrong_kind_of_import, "_thin/pool/thin_pool.py", "from module_utils._errors import Busy"),
    (
        rules.wrong_kind_of_import,
        "_thin/pool/thin_pool.py",
        "import ansible_collections.flyd.lite.plugins.module_utils._errors",
    ),
    (rules.wrong_kind_of_import, "../modules/flyd_pool.py", "from ..module_utils._names import ObjectKey"),
    (rules.programs_started_elsewhere, "_thin/dm/device_mapper.py", "os.system('dmsetup ls')"),
    (rules.programs_started_elsewhere, "_thin/dm/device_mapper.py", "os.execvp('dmsetup', [])"),
    (rules.programs_started_elsewhere, "_thin/dm/device_mapper.py", "os.posix_spawn('dmsetup', [], {})"),
    (rules.programs_started_elsewhere, "_thin/dm/device_mapper.py", "from os import popen"),
    (rules.forks_without_a_reason, "_lifecycle/unpack/unpack.py", "pid = os.fork()"),
    (rules.forks_without_a_reason, "_lifecycle/unpack/unpack.py", "from os import path, fork"),
    (rules.drawers, "utils.py", ""),
    (rules.drawers, "_thin/_common.py", ""),
    (rules.missing_header, "_thin/x.py", '"""A docstring alone."""'),
    (rules.missing_header, "_thin/x.py", HEADER + "\nVALUE = 1"),
    (rules.missing_header, "_thin/x.py", "\n" + HEADER + '\n"""Too late."""'),
    (rules.logic_in_modules, "../modules/flyd_pool.py", "for name in names:\n    work(name)"),
    (rules.logic_in_modules, "../modules/flyd_pool.py", "try:\n    work()\nexcept ValueError:\n    pass"),
    (rules.logic_in_modules, "../modules/flyd_pool.py", "if given.flag('force'):\n    work()"),
    (rules.too_long, "_thin/x.py", LONG_FUNCTION),
    (rules.too_long, "_thin/x.py", "class A:\n    async " + LONG_FUNCTION.replace("    step()", "        step()")),
    (rules.too_long, "_thin/x.py", "\n" * 250 + "VALUE = 1"),
    (rules.too_new_for_python_39, "_thin/x.py", "match mode:\n    case 'rw':\n        pass"),
    (rules.too_new_for_python_39, "_thin/x.py", "try:\n    pass\nexcept* ValueError:\n    pass"),
    (rules.too_new_for_python_39, "_thin/x.py", "isinstance(value, int | str)"),
    (rules.too_new_for_python_39, "_thin/x.py", "Detail = dict[str, int] | None"),
    (rules.too_new_for_python_39, "_thin/x.py", "zip(a, b, strict=True)"),
    (rules.too_new_for_python_39, "_thin/x.py", "@dataclasses.dataclass(frozen=True, slots=True)\nclass A: ..."),
    (rules.too_new_for_python_39, "_thin/x.py", "class Mode(enum.StrEnum): ..."),
]


@pytest.mark.parametrize(("rule", "path", "text"), OFFENDERS)
def test_what_breaks_a_rule_is_found(rule: Rule, path: str, text: str) -> None:
    assert list(rule(source_of(rule, path, text))) != []


INNOCENTS: list[tuple[Rule, str, str]] = [
    (rules.upward_imports, "_lifecycle/pool/ensure.py", "from .._thin import pool\nfrom .host import Host\nimport os"),
    (
        rules.upward_imports,
        "_thin/pool/thin_pool.py",
        "from . import loop\nfrom .._host import command\nfrom .._errors import Busy",
    ),
    (rules.misplaced_imports, "_source/s3/client.py", "import boto3.session\nimport tarfile_of_somebody"),
    (rules.early_imports, "_source/s3/client.py", "def connect():\n    import boto3.session"),
    (rules.programs_started_elsewhere, "_thin/dm/device_mapper.py", "system = os.sysconf('x')\nself.spawn()"),
    (rules.forks_without_a_reason, "_image/writing/workers.py", "pid = os.fork()"),
    (rules.drawers, "../doc_fragments/common.py", ""),
    (rules.missing_header, "../modules/flyd_pool.py", "#!/usr/bin/python\n" + HEADER + '\n"""flyd_pool: a pool."""'),
    (rules.logic_in_modules, "../modules/flyd_pool.py", 'if __name__ == "__main__":\n    main()'),
    (rules.logic_in_modules, "_thin/pool/thin_pool.py", "for name in names:\n    work(name)"),
    (rules.too_long, "_thin/x.py", LONG_FUNCTION.replace("    step()\n", "", 1)),
    (rules.too_long, "_thin/x.py", "VALUE = 1\n" * 250),
    (rules.too_new_for_python_39, "_thin/x.py", "FLAGS = MS_RDONLY | MS_NOEXEC\nwith (a, b):\n    pass"),
    (rules.too_new_for_python_39, "_thin/x.py", "def work(value: int | None) -> str | None:\n    found: int | str = 1"),
]


@pytest.mark.parametrize(("rule", "path", "text"), INNOCENTS)
def test_what_keeps_a_rule_is_let_alone(rule: Rule, path: str, text: str) -> None:
    assert list(rule(source_of(rule, path, text))) == []


def test_a_file_without_the_future_import_is_found_unless_it_is_only_a_docstring() -> None:
    assert list(rules.too_new_for_python_39(Source("module_utils/_thin/x.py", "import os"))) != []
    assert list(rules.too_new_for_python_39(Source("module_utils/_thin/x.py", '"""Only a docstring."""'))) == []


def source_of(rule: Rule, path: str, text: str) -> Source:
    """A source below module_utils; ``../`` leads out of it."""
    future = "from __future__ import annotations\n" if rule is rules.too_new_for_python_39 else ""
    return Source(f"module_utils/{path}".replace("module_utils/../", ""), future + text)


@pytest.mark.parametrize(
    ("looks", "works"),
    [
        ("pool.ensure", ("pool.converge", "pool.create", "pool.grow", "volumes.volumes")),
        ("fetch.fetch", ("fetch.fetch_work", "fetch.download")),
        ("unpack.unpack", ("unpack.make_base", "volumes.volumes")),
        ("snapshot.snapshot", ("snapshot.make_snapshot", "volumes.volumes")),
    ],
)
def test_a_run_with_nothing_to_do_imports_nothing_of_the_work(looks: str, works: tuple[str, ...]) -> None:
    """Under Ansible every file that is imported is compiled again in each run."""
    program = f"import sys, module_utils._lifecycle.{looks}; print(*sys.modules, sep='\\n')"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=rules.PLUGINS, capture_output=True, text=True, check=True
    )
    assert f"module_utils._lifecycle.{looks}" in done.stdout.split()
    assert {f"module_utils._lifecycle.{name}" for name in works} & set(done.stdout.split()) == set()

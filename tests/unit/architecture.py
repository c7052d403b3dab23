# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules of the frame of plugins/, read from syntax trees: who may import whom, who may start a program, how large things may get.

Invariant: a rule is a function that yields a sentence for each place that breaks it; it looks at one file and knows nothing else.
An exception from a rule stands in a table here, with its reason.
"""

from __future__ import annotations

import ast
import functools
import re
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PLUGINS = Path(__file__).parents[2] / "plugins"
FULL_NAME = "ansible_collections.flyd.lite.plugins."
MAX_FILE_LINES, MAX_FUNCTION_LINES, MAX_FOLDER_FILES = 250, 40, 12
# The number of files is not ours to choose: tools look for theirs at the top, and records of decisions are only added.
CROWDED_ALLOWED = ("", "docs/adr")
LICENSE_HEADER = (
    "# Copyright (c) 2026, The flyd.lite authors",
    "# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)",
    "# SPDX-License-Identifier: GPL-3.0-or-later",
)

ROWS = {
    "modules": 6,
    "_module": 5,
    "_lifecycle": 4,
    "_source": 3,
    "_image": 3,
    "_thin": 3,
    "_host": 2,
    "_names": 1,
    "_errors": 0,
    "_redaction": 0,
    "_engine": 0,
}
ONLY_HERE = {
    "ansible": ("module_utils/_module.py", "modules/", "action/", "filter/", "lookup/", "callback/"),
    "boto3": ("module_utils/_source/",),
    "botocore": ("module_utils/_source/",),
    "mypy_boto3_s3": ("module_utils/_source/",),
    "ulid": ("module_utils/_names.py",),
    "sqlite3": tuple(
        f"module_utils/_lifecycle/store/{name}.py"
        for name in ("store", "schema", "migration", "read_only", "sqlite_errors", "copies")
    ),
    "subprocess": ("module_utils/_host/processes/command.py",),
    # Reading and extracting of archives is our own; these would bring rules of their own, and start programs unseen.
    "tarfile": (),
    "multiprocessing": (),
    "pty": (),
    "asyncio": (),
}
LATE = {"boto3", "botocore", "ulid"}  # not installed everywhere: a missing one must be an answer, not a traceback
FORKS_ALLOWED = {
    "module_utils/_host/processes/child.py": "a mount namespace and no_new_privs can only be given to a process of its own",
    "module_utils/_image/writing/workers.py": "the tree is written by more than one process",
}
STARTS_A_PROGRAM = re.compile(r"os\.(system|popen|startfile|posix_spawnp?|exec[lv]p?e?|spawn[lv]p?e?)")


@dataclass(frozen=True)
class Source:
    """One file; ``path`` is below plugins/."""

    path: str
    text: str

    @functools.cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def package(self) -> str:
        """The row of the frame that it stands in; the file's own name when the frame has none for it."""
        parts = self.path.split("/")
        return "modules" if parts[0] == "modules" else parts[1].removesuffix(".py")

    def nodes(self, *kinds: type[ast.AST]) -> Iterator[Any]:
        return (node for node in ast.walk(self.tree) if isinstance(node, kinds))

    def imports(self) -> Iterator[tuple[int, str]]:
        """Line and full name of everything imported, wherever it stands; our own names begin with ``module_utils``."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((node.lineno, alias.name.removeprefix(FULL_NAME)) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = self._resolved(node)
                yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)

    def names(self) -> Iterator[tuple[int, str]]:
        """Line and full name of everything imported, and of every dotted name that is used."""
        yield from self.imports()
        yield from ((node.lineno, ast.unparse(node)) for node in self.nodes(ast.Attribute))

    def _resolved(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return str(node.module).removeprefix(FULL_NAME)
        above = self.path.split("/")[: -node.level]
        return ".".join([*above, *(node.module or "").split(".")]).rstrip(".")


Rule = Callable[[Source], Iterator[str]]


@functools.cache
def sources() -> tuple[Source, ...]:
    """Every Python file of the plugins."""
    paths = sorted(PLUGINS.rglob("*.py"))
    return tuple(Source(str(path.relative_to(PLUGINS)), path.read_text(encoding="utf-8")) for path in paths)


def is_code(source: Source) -> bool:
    # What runs on the controller has no row: it knows nothing of the machine, and the machine nothing of it.
    return not source.path.startswith(("doc_fragments/", "action/", "filter/", "lookup/", "callback/", "plugin_utils/"))


def upward_imports(source: Source) -> Iterator[str]:
    if not is_code(source):
        return
    if source.package not in ROWS:
        yield f"{source.package} has no place in the frame"
        return
    for line, name in source.imports():
        if name.startswith("module_utils."):
            other = name.split(".")[1]
            if other != source.package and ROWS.get(other, 99) >= ROWS[source.package]:
                yield f"{line}: {source.package} imports {other}"


def misplaced_imports(source: Source) -> Iterator[str]:
    for line, name in source.imports():
        places = ONLY_HERE.get(name.split(".")[0])
        if places is not None and not source.path.startswith(places or ("nowhere",)):
            yield f"{line}: imports {name}"


def early_imports(source: Source) -> Iterator[str]:
    for node in source.tree.body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [str(node.module)]
            yield from (f"{node.lineno}: imports {name} at once" for name in names if name.split(".")[0] in LATE)


def wrong_kind_of_import(source: Source) -> Iterator[str]:
    inside = source.path.startswith(("module_utils/", "plugin_utils/"))
    for node in source.nodes(ast.ImportFrom, ast.Import):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [str(node.module)]
        level = node.level if isinstance(node, ast.ImportFrom) else 0
        if inside and any(name.split(".")[0] in ("ansible_collections", "module_utils", "plugins") for name in names):
            yield f"{node.lineno}: inside module_utils and plugin_utils imports are relative"
        if not inside and level:
            yield f"{node.lineno}: elsewhere imports are by full name"


def programs_started_elsewhere(source: Source) -> Iterator[str]:
    yield from (f"{line}: {name}" for line, name in source.names() if STARTS_A_PROGRAM.fullmatch(name))


def forks_without_a_reason(source: Source) -> Iterator[str]:
    if source.path not in FORKS_ALLOWED:
        yield from (f"{line}: {name}" for line, name in source.names() if name in ("os.fork", "os.forkpty"))


def drawers(source: Source) -> Iterator[str]:
    name = source.path.split("/")[-1].strip("_")
    if is_code(source) and name in ("utils.py", "common.py", "security.py", "helpers.py", "misc.py"):
        yield "a drawer for odds and ends: a check lives in the type or the gate that it guards"


def missing_header(source: Source) -> Iterator[str]:
    lines = source.text.splitlines()
    if lines[:1] == ["#!/usr/bin/python"]:
        lines = lines[1:]
    if tuple(lines[:3]) != LICENSE_HEADER:
        yield "does not begin with the license header"
    if not ast.get_docstring(source.tree):
        yield "has no docstring"


def logic_in_modules(source: Source) -> Iterator[str]:
    if not source.path.startswith("modules/"):
        return
    main_guard = 'if __name__ == "__main__":'
    for node in source.nodes(ast.For, ast.While, ast.Try, ast.With, ast.If, ast.IfExp, ast.Raise, ast.Lambda):
        line = source.text.splitlines()[node.lineno - 1]
        if line != main_guard:
            yield f"{node.lineno}: {line.strip()}"


def too_long(source: Source) -> Iterator[str]:
    if not source.path.startswith(("module_utils/", "plugin_utils/")):
        return
    lines = len(source.text.splitlines())
    if lines > MAX_FILE_LINES:
        yield f"the file has {lines} lines, at most {MAX_FILE_LINES} are allowed"
    for node in source.nodes(ast.FunctionDef, ast.AsyncFunctionDef):
        length = (node.end_lineno or 0) - node.lineno + 1
        if length > MAX_FUNCTION_LINES:
            yield f"{node.lineno}: {node.name} has {length} lines, at most {MAX_FUNCTION_LINES} are allowed"


def too_new_for_python_39(source: Source) -> Iterator[str]:
    try:
        tree = ast.parse(source.text, feature_version=(3, 9))
    except SyntaxError as error:
        yield f"{error.lineno}: {error.msg}"
        return
    if len(tree.body) > bool(ast.get_docstring(tree)) and "from __future__ import annotations" not in source.text:
        yield "annotations are evaluated when the file is imported"
    annotations = {
        id(inner)
        for node in ast.walk(tree)
        for part in (getattr(node, "annotation", None), getattr(node, "returns", None))
        if part is not None
        for inner in ast.walk(part)
    }
    for node in ast.walk(tree):
        if id(node) not in annotations:
            yield from (f"{getattr(node, 'lineno', 0)}: {what}" for what in new_at_run_time(node))


TYPES = {"int", "str", "bytes", "float", "bool", "dict", "list", "tuple", "set", "None", "Any", "Path", "object"}
NEW_NAMES = re.compile(
    r"(enum\.StrEnum|datetime\.UTC|itertools\.(pairwise|batched)|hashlib\.file_digest|typing\.(Self|TypeAlias|ParamSpec|override))"
)


def new_at_run_time(node: ast.AST) -> Iterator[str]:
    """What parses on Python 3.9 and fails when it is run there."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        if {ast.unparse(node.left).split("[")[0], ast.unparse(node.right).split("[")[0]} & TYPES:
            yield f"a union of types is computed: {ast.unparse(node)}"
    elif isinstance(node, ast.Call):
        called, given = ast.unparse(node.func), {keyword.arg for keyword in node.keywords}
        if (called == "zip" and "strict" in given) or (called.endswith("dataclass") and given & {"slots", "kw_only"}):
            yield f"{called} knows no {', '.join(map(str, given))}"
    elif isinstance(node, ast.Attribute) and NEW_NAMES.fullmatch(ast.unparse(node)):
        yield f"there is no {ast.unparse(node)}"


def circles(files: Sequence[Source]) -> list[list[str]]:
    """Modules that import each other, directly or through others; late imports and those for types count."""
    names = {_dotted(source) for source in files}
    graph = {_dotted(source): {_module_of(name, names) for _line, name in source.imports()} for source in files}
    reached = {name: _reached(graph, name) for name in graph}
    found = {
        tuple(sorted({name, *(other for other in reached[name] if name in reached[other])}))
        for name in graph
        if name in reached[name]
    }
    return [list(circle) for circle in sorted(found)]


def _dotted(source: Source) -> str:
    return source.path.removesuffix(".py").replace("/", ".")


def _module_of(name: str, names: set[str]) -> str:
    """The module that ``name``, of a module or of something in it, belongs to."""
    return name if name in names else name.rpartition(".")[0]


def _reached(graph: dict[str, set[str]], start: str) -> set[str]:
    found: set[str] = set()
    waiting = [start]
    while waiting:
        for name in graph.get(waiting.pop(), ()):
            if name not in found:
                found.add(name)
                waiting.append(name)
    return found


def tracked_files() -> list[str]:
    """Paths of all files of the repository, from its top."""
    done = subprocess.run(["git", "ls-files"], cwd=PLUGINS.parent, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def crowded_folders(paths: Iterable[str]) -> Iterator[tuple[str, int]]:
    """Folders with more files than one can take in at a glance, and how many they have; the one ``__init__.py`` does not count."""
    counts = Counter(path.rpartition("/")[0] for path in paths if not path.endswith("/__init__.py"))
    for folder, count in sorted(counts.items()):
        if count > MAX_FOLDER_FILES and folder not in CROWDED_ALLOWED:
            yield folder, count

# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every message that the plugins can show, read from their source: what an error says, its hint, and all other text that is no docstring.

A placeholder stands in a text as ``{expression}``, so that a test can see what fills it.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[3]
UTILS = ROOT / "plugins/module_utils"
_MAKERS = {"refused": "Untrusted", "Fault": ""}  # functions and tables that make errors of a message and a hint


class Message(NamedTuple):
    """One place that makes an error; ``hint`` is empty where only the running program knows it."""

    where: str
    maker: str
    text: str
    hint: str


def texts() -> Iterator[tuple[str, str]]:
    """Place and text of every string in the plugins' code that is no docstring."""
    for path, tree in _trees().items():
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        inner = {
            id(part)
            for node in ast.walk(tree)
            if isinstance(node, ast.JoinedStr)
            for part in ast.walk(node)
            if part is not node
        }
        for node in ast.walk(tree):
            if isinstance(node, (ast.Constant, ast.JoinedStr)) and id(node) not in docstrings | inner:
                text = _text(node)
                if " " in text.strip():
                    yield f"{path}:{node.lineno}", text


def messages() -> Iterator[Message]:
    """Every call of an error's class, and of what makes errors."""
    classes = error_classes()
    for path, tree in _trees().items():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            name = _name(node.func)
            if name == "Fault":
                _cls, text, hint = (_resolved(one) for one in node.args)
            elif name.partition(".")[0] in classes or name == "refused":
                hints = [_resolved(one.value) for one in node.keywords if one.arg == "hint"]
                text, hint = _resolved(node.args[0]), hints[0] if hints else ""
            else:
                continue
            yield Message(f"{path}:{node.lineno}", name, text, hint)


@functools.cache
def error_classes() -> frozenset[str]:
    """The names of FlydError and all that is derived from it, but for those whose message is their own."""
    found = {"FlydError"}
    while True:
        more = {
            node.name
            for tree in _trees().values()
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef)
            and any(isinstance(base, ast.Name) and base.id in found for base in node.bases)
        }
        if more <= found:
            return frozenset(found - {"MissingLibrary"})
        found |= more


@functools.cache
def _trees() -> dict[str, ast.Module]:
    paths = sorted(UTILS.rglob("*.py"))
    return {str(path.relative_to(UTILS)): ast.parse(path.read_text()) for path in paths}


@functools.cache
def _constants() -> dict[str, str]:
    """The texts that have a name at the top of a file."""
    found = {}
    for tree in _trees().values():
        for node in tree.body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                text = _text(node.value)
                if text:
                    found[node.targets[0].id] = text
    return found


def _resolved(node: ast.expr) -> str:
    return _constants().get(node.id, "") if isinstance(node, ast.Name) else _text(node)


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return f"{node.value.id}.{node.attr}"
    return ""


def _text(node: ast.expr) -> str:
    """The text of a string or an f-string; empty for what is computed."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(_part(part) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text(node.left) + _text(node.right)
    return ""


def _part(node: ast.expr) -> str:
    if not isinstance(node, ast.FormattedValue):
        return _text(node)
    return f"{{{ast.unparse(node.value)}{'!r' if node.conversion == ord('r') else ''}}}"

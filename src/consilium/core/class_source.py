"""A class and its base classes as they are written, without importing them.

    class PGD(Evasion): ...      from ._evasion import Evasion  ->  the class Evasion in the file _evasion.py beside it

What an entry inherits (knobs, ranges, meanings) is read where it is written, once.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from functools import cache
from pathlib import Path

__all__ = ["base_classes", "class_node", "home_of", "module_tree"]

_OURS = __name__.partition(".")[0]


def class_node(tree: ast.Module, name: str) -> ast.ClassDef:
    """The class of that ``name`` in a module."""
    return next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)


def base_classes(node: ast.ClassDef, tree: ast.Module, module: str) -> Iterator[tuple[ast.ClassDef, ast.Module, str]]:
    """Its base classes in this package or beside it, and theirs, each with its module's tree and name."""
    for base in node.bases:
        name = ast.unparse(base).partition("[")[0]
        if home := home_of(name, tree, module):
            other = module_tree(home)
            for item in other.body:
                if isinstance(item, ast.ClassDef) and item.name == name:
                    yield item, other, home
                    yield from base_classes(item, other, home)


def home_of(name: str, tree: ast.Module, module: str) -> str:
    """The module that ``name`` is imported from; empty if that is the standard library's or another package's."""
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and any((alias.asname or alias.name) == name for alias in node.names):
            home = importlib.util.resolve_name("." * node.level + (node.module or ""), module.rpartition(".")[0])
            known = home.partition(".")[0] in (module.partition(".")[0], _OURS)
            return home if known or node.level else ""
    return ""


@cache
def module_tree(module: str) -> ast.Module:
    """The tree of a module; empty where it has no file."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return ast.Module([], [])
    return ast.parse(Path(spec.origin).read_text(encoding="utf-8"))

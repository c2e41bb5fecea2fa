"""What each parameter of an entry means, which values it takes and within what range, read without importing the entry.

    radius: float = 0.03
    \"\"\"How far a point may move.\"\"\"               the meaning: the text below the field

    check(self.radius > 0, "radius", self.radius, "a number above 0")            the range: what the constructor allows

The type is the field's annotation in the words of a study file.  So there is one source for each, beside the code that
it speaks of; a range that one entry takes from its base class is read there.

Source: PEP 257 (attribute docstrings: a string literal after a simple assignment)
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from .catalogue import Card
from .class_source import base_classes, class_node, home_of, module_tree
from .plain import Json

__all__ = ["Parameter", "parameters"]

_TYPES = {"float": "number", "int": "whole number", "str": "text", "bool": "true or false", "None": ""}
_LISTS = {"float": "numbers", "int": "whole numbers", "str": "texts"}


@dataclass(frozen=True)
class Parameter:
    """``allowed`` are the words that it may be, none where any of its type is; ``range`` is empty where all are."""

    name: str
    meaning: str
    type: str
    default: Json
    allowed: tuple[str, ...]
    range: str

    def to_json(self) -> dict[str, Json]:
        """Plain JSON, one value a field."""
        return {**asdict(self), "allowed": list(self.allowed)}


def parameters(card: Card) -> tuple[Parameter, ...]:
    """Those of an entry, in the order of its file; then those that it inherits."""
    tree = module_tree(card.module)
    node = class_node(tree, card.name)
    classes = [(node, tree, card.module), *base_classes(node, tree, card.module)]
    ranges = [bound for one, _, _ in classes for bound in _ranges(one)]
    fields: dict[str, Parameter] = {}
    for one, at, module in classes:
        for name, annotation, meaning in _fields(one):
            if name in card.knobs and name not in fields:
                fields[name] = Parameter(
                    name=name,
                    meaning=meaning,
                    type=_type(annotation, at, module),
                    default=card.knobs[name],
                    allowed=_words(annotation, at, module),
                    range="; ".join(dict.fromkeys(text for field, text in ranges if field == name)),
                )
    return tuple(fields.values())


def _fields(node: ast.ClassDef) -> Iterator[tuple[str, ast.expr, str]]:
    """Name, annotation and meaning: the text below the field, on one line."""
    for item, below in zip(node.body, [*node.body[1:], None], strict=True):
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            yield _dashed(item.target.id), item.annotation, _text(below)


def _text(node: ast.stmt | None) -> str:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
        return " ".join(node.value.value.split())
    return ""


def _ranges(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    """(parameter, what is allowed) of each ``check`` whose text is a constant; names that a loop takes are each one."""
    for call, loops in _calls(node, {}):
        if ast.unparse(call.func) != "check" or len(call.args) != 4 or not isinstance(call.args[3], ast.Constant):
            continue
        knob, text = call.args[1], str(call.args[3].value)
        if isinstance(knob, ast.Constant):
            yield _dashed(str(knob.value)), text
        else:
            variables = [part.id for part in ast.walk(knob) if isinstance(part, ast.Name)]
            yield from ((_dashed(name), text) for variable in variables for name in loops.get(variable, ()))


def _calls(node: ast.AST, loops: dict[str, tuple[str, ...]]) -> Iterator[tuple[ast.Call, dict[str, tuple[str, ...]]]]:
    """Every call, with the constants that the variables of the loops around it take."""
    if isinstance(node, ast.For) and isinstance(node.target, ast.Name) and isinstance(node.iter, ast.Tuple):
        loops = {**loops, node.target.id: tuple(str(e.value) for e in node.iter.elts if isinstance(e, ast.Constant))}
    if isinstance(node, ast.Call):
        yield node, loops
    for child in ast.iter_child_nodes(node):
        yield from _calls(child, loops)


def _type(annotation: ast.expr, tree: ast.Module, module: str) -> str:
    if _words(annotation, tree, module):
        return "text"
    names = [_type_word(side) for side in _sides(annotation)]
    return " or ".join(name for name in names if name)


def _sides(annotation: ast.expr) -> list[ast.expr]:
    """The types of a union ``A | B``, in order; of another annotation itself."""
    if isinstance(annotation, ast.BinOp):
        return [*_sides(annotation.left), *_sides(annotation.right)]
    return [annotation]


def _type_word(side: ast.expr) -> str:
    text = ast.unparse(side)
    if text.startswith("dict["):
        return "table"
    if isinstance(side, ast.Subscript) and text.startswith("tuple["):
        inner = side.slice.elts[0] if isinstance(side.slice, ast.Tuple) else side.slice
        plural = [
            "lists" if ast.unparse(one).startswith("tuple[") else _LISTS.get(ast.unparse(one)) for one in _sides(inner)
        ]
        return f"list of {' or '.join(dict.fromkeys(filter(None, plural)))}" if all(plural) else text
    return _TYPES.get(text, text)


def _words(annotation: ast.expr, tree: ast.Module, module: str) -> tuple[str, ...]:
    """The words of a ``Literal``, of one of several types, or of a name that stands for one."""
    if isinstance(annotation, ast.BinOp):
        sides = (annotation.left, annotation.right)
        return tuple(word for side in sides for word in _words(side, tree, module))
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value).split(".")[-1] == "Literal":
        values = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
        return tuple(str(value.value) for value in values if isinstance(value, ast.Constant))
    if isinstance(annotation, ast.Name):
        return next((_words(value, *where) for value, where in _assigned(annotation.id, tree, module)), ())
    return ()


def _assigned(name: str, tree: ast.Module, module: str) -> Iterator[tuple[ast.expr, tuple[ast.Module, str]]]:
    """What ``name`` stands for, and where that is written."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(ast.unparse(target) == name for target in node.targets):
            yield node.value, (tree, module)
    if home := home_of(name, tree, module):
        yield from _assigned(name, module_tree(home), home)


def _dashed(name: str) -> str:
    return name.replace("_", "-")

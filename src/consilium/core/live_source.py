"""The source of a class that has no file: one that is defined in a notebook, or in the script that runs.

It is that of the class by its methods, and of the functions, classes and plain constants of the notebook that they use.
Tensors, arrays and other objects of the notebook that a method reads are not looked into.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from types import CodeType

from .errors import Refused

__all__ = ["live_source"]


def live_source(kind: type) -> str:
    """The source of a class of a notebook, and of the functions, classes and constants of the notebook that it uses."""
    texts, waiting = dict[str, str](), [kind.__name__]
    world = vars(sys.modules[kind.__module__])
    while waiting:
        name = waiting.pop()
        if name in texts or (name not in world and name != kind.__name__):
            continue
        thing = kind if name == kind.__name__ else world[name]
        if (text := _text(thing, kind.__module__)) is None:
            continue
        texts[name] = text
        waiting += sorted(_words(thing))
    return "\n".join(f"{name}:{texts[name]}" for name in sorted(texts))


def _text(thing: object, module: str) -> str | None:
    """None for what is no code or plain value of the notebook."""
    if isinstance(thing, str | int | float | bool | tuple | None):
        return repr(thing)
    if getattr(thing, "__module__", None) != module:
        return None
    if isinstance(thing, type):  # by its methods: a notebook has no file, in which Python would look for the class
        bases = ", ".join(f"{base.__module__}.{base.__qualname__}" for base in thing.__bases__)
        fields = repr(dict(vars(thing).get("__annotations__", {})))
        values = {k: v for k, v in sorted(vars(thing).items()) if isinstance(v, str | int | float | bool | tuple)}
        plain = {k: v for k, v in values.items() if not k.startswith("__")}
        return "\n".join([bases, fields, repr(plain), *(_function(f) for f in _functions(thing))])
    return _function(thing) if inspect.isfunction(thing) else None


def _function(function: object) -> str:
    try:
        return inspect.getsource(function)  # type: ignore[arg-type]
    except (OSError, TypeError) as error:
        name = getattr(function, "__qualname__", repr(function))
        raise Refused(f"the source of {name} is not known, so a change of it could not be noticed",
                      remedy="put it into a file") from error  # fmt: skip


def _functions(kind: type) -> Iterator[object]:
    for value in vars(kind).values():
        plain = getattr(value, "fget", None) or getattr(value, "__func__", None) or value
        if inspect.isfunction(plain) and plain.__code__.co_filename != "<string>":  # those of a dataclass are made
            yield plain


def _words(thing: object) -> set[str]:
    """The names that its code reads."""
    functions = [*_functions(thing)] if isinstance(thing, type) else [thing]
    words = {base.__name__ for base in thing.__bases__} if isinstance(thing, type) else set[str]()
    for function in functions:
        words |= set(_names(getattr(function, "__code__", None)))
    return words


def _names(code: object) -> Iterator[str]:
    if isinstance(code, CodeType):
        yield from code.co_names
        for part in code.co_consts:
            yield from _names(part)

"""The house rules that no linter knows, as functions from files to complaints; scripts/lint and tests/house run them.

    sizes      no file past 400 lines          names     no util, helper, misc or common
    exports    `__all__` equals what is visible          unsafe    no pickle, eval or exec
    prints     library code does not print               hosts     nothing that names one machine

A complaint is one line, ``path:line: what is wrong``.  Run as a program it prints them all and fails if there is one.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

__all__ = ["LIMIT", "exports", "hosts", "main", "names", "prints", "public_names", "sizes", "tracked", "unsafe"]

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 400
HOLLOW = {"util", "utils", "helper", "helpers", "misc", "common"}
SPEAKERS = {"cli.py"}
"""Modules that may write to the terminal themselves."""

MACHINE = re.compile(
    r"pypi\.org|python[h]osted|download\.pytorch|registry\.npmjs|deb\.debian|conda\.anaconda|artifact[o]ry"
    r"|(?<![\w.~)}*-])/(?:work|root|opt|home|Users)/"
)
"""Package registries, and absolute paths of one machine; spelt so that this file does not name them."""


def sizes(files: Iterable[Path]) -> Iterator[str]:
    """No file past the limit: split it by idea."""
    for path in files:
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > LIMIT:
            yield f"{path}:{lines}: {lines} lines are more than {LIMIT}; split it by idea"


def names(files: Iterable[Path], root: Path) -> Iterator[str]:
    """No file or folder whose name says nothing."""
    for path in files:
        for part in path.relative_to(root).with_suffix("").parts:
            if HOLLOW & set(part.lower().split("_")):
                yield f"{path}:1: {part!r} says nothing of what is inside; name the idea"


def exports(files: Iterable[Path]) -> Iterator[str]:
    """``__all__`` equals what a module defines in public; a package may also import names from below itself."""
    for path in files:
        tree = _parse(path)
        public, exported = public_names(tree, package=path.name == "__init__.py"), _all(tree)
        if exported is None and public:
            yield f"{path}:1: __all__ is missing"
        listed = set(exported or ())
        for name in sorted(public - listed):
            yield f"{path}:1: {name} is visible but not in __all__; list it or start it with an underscore"
        if "__getattr__" not in _defined(tree.body):
            for name in sorted(listed - public):
                yield f"{path}:1: {name} is in __all__ but not defined here"


def public_names(tree: ast.Module, *, package: bool) -> set[str]:
    """What a module defines at its top level without a leading underscore; type variables do not count."""
    found = _defined(tree.body) | (_imported(tree.body) if package else set())
    return {name for name in found if not name.startswith("_")}


def unsafe(files: Iterable[Path]) -> Iterator[str]:
    """Nothing that runs what it reads: no pickle in any guise, no eval, no exec."""
    modules = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    for path in files:
        for node in ast.walk(_parse(path)):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                roots = {node.module or ""} if isinstance(node, ast.ImportFrom) else {a.name for a in node.names}
                if any(root.split(".")[0] in modules for root in roots):
                    yield f"{path}:{node.lineno}: imports a pickle; use safetensors or JSON"
            elif isinstance(node, ast.Call):
                yield from (f"{path}:{node.lineno}: {why}" for why in _unsafe_call(node))


def prints(files: Iterable[Path]) -> Iterator[str]:
    """Library code returns or raises; only the command line speaks."""
    for path in files:
        if path.name in SPEAKERS:
            continue
        for node in ast.walk(_parse(path)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {
                "print", "pprint", "pprint.pprint", "sys.stdout.write", "sys.stderr.write"
            }:  # fmt: skip
                yield f"{path}:{node.lineno}: {ast.unparse(node.func)} in library code"


def hosts(files: Iterable[Path]) -> Iterator[str]:
    """No package registry and no absolute path of one machine."""
    for path in files:
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            found = MACHINE.search(line)
            if found:
                yield f"{path}:{number}: names {found.group()!r}"


def tracked(root: Path = ROOT) -> list[Path]:
    """The files under version control or about to be; every file where there is no repository."""
    ask = ["git", "-C", str(root), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        listed = subprocess.run(ask, capture_output=True, check=True, text=True).stdout.split("\0")
    except (OSError, subprocess.CalledProcessError):
        hidden = re.compile(r"(^|/)(\.venv|\.git|__pycache__|out|\.[a-z_]+_cache)/")
        listed = [str(p.relative_to(root)) for p in root.rglob("*") if not hidden.search(f"/{p.relative_to(root)}")]
    return sorted(path for name in listed if name and (path := root / name).is_file())


def main() -> int:
    """Print every complaint about this repository; 1 if there is one."""
    code = [p for p in tracked() if p.suffix == ".py"]
    source = [p for p in code if (ROOT / "src") in p.parents]
    found = [*sizes(code), *names(code, ROOT), *exports(source), *unsafe(source), *prints(source)]
    found += hosts(tracked())
    shown = [complaint.removeprefix(f"{ROOT}/") for complaint in found]
    print(*shown, f"house rules: {len(code)} modules, {len(found)} complaints", sep="\n")
    return 1 if found else 0


def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def _all(tree: ast.Module) -> list[str] | None:
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            return list(ast.literal_eval(node.value))
    return None


def _defined(body: Iterable[ast.stmt]) -> set[str]:
    found: set[str] = set()
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)) and not _is_type_variable(node.value):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name) and not _inside(t, n)}
        elif isinstance(node, (ast.If, ast.Try)):
            found |= _defined([*node.body, *node.orelse])
    return found - {"__all__"}


def _inside(target: ast.expr, name: ast.Name) -> bool:
    """Whether ``name`` is only read in ``target``, as in ``table[name] = ...``."""
    return isinstance(target, (ast.Subscript, ast.Attribute)) or not isinstance(name.ctx, ast.Store)


def _is_type_variable(value: ast.expr | None) -> bool:
    return isinstance(value, ast.Call) and ast.unparse(value.func).split(".")[-1] in {"TypeVar", "ParamSpec", "NewType"}


def _imported(body: Iterable[ast.stmt]) -> set[str]:
    """Names that a package takes from its own modules, those under ``if TYPE_CHECKING`` included."""
    found: set[str] = set()
    for node in body:
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith("consilium")):
            found |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.If):
            found |= _imported(node.body)
    return found


def _unsafe_call(node: ast.Call) -> Iterator[str]:
    called = ast.unparse(node.func)
    if called in {"eval", "exec"}:
        yield f"{called} runs what it reads"
    if called in {"torch.load", "torch.save", "torch.jit.load", "torch.package.PackageImporter", "pd.read_pickle"}:
        yield f"{called} is a pickle; use safetensors or JSON"
    for keyword in node.keywords:
        refused = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
        if keyword.arg == "allow_pickle" and not refused:
            yield "allow_pickle lets a file run code"


if __name__ == "__main__":
    sys.exit(main())

"""The house rules that no linter knows, as functions from files to complaints; scripts/lint and tests/house run them.

    sizes         no file past 400 lines                 names        no util, helper, misc or common
    exports       `__all__` equals what is visible       unsafe       no pickle, eval or exec
    prints        library code does not print            hosts        nothing that names one machine
    clashes       one public name, one place             undocumented no public function without a docstring
    participles   values are named by nouns              loose        few untyped dicts and casts, and ever fewer
    unraised      public docstrings name the errors that a function raises
    bare_commits  commits say what and why (scripts/commits.py)
    folder_cycles no circle of imports among folders (scripts/folders.py)

A complaint is one line, ``path:line: what is wrong``.  Run as a program it prints them all and fails if there is one.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from commits import bare_commits
from folders import folder_cycles

__all__ = [
    "LIMIT",
    "LOOSE",
    "NOT_YET",
    "NOT_YET_RAISES",
    "clashes",
    "exports",
    "hosts",
    "loose",
    "main",
    "names",
    "participles",
    "prints",
    "public_names",
    "sizes",
    "tracked",
    "undocumented",
    "unraised",
    "unsafe",
]

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 400
HOLLOW = {"util", "utils", "helper", "helpers", "misc", "common"}
SPEAKERS = {"cli"}
"""Modules that may write to the terminal themselves."""

PROGRAMS = {"main"}
"""The one name that several modules share by contract: what runs when a module is a program."""

PARTICIPLES = {
    *("found", "made", "held", "told", "said", "begun", "given", "own", "heard", "asked"),
    *("seen", "kept", "left", "taken", "drawn", "chosen", "began", "turned", "came", "got", "laid", "meant"),
}
"""Names that say what happened to a value and not what it is.  ``known`` may stay: it picks the known ones of a set."""

NOT_YET = (Path(__file__).parent / "not_yet_nouns.txt").read_text(encoding="utf-8").split()
"""Files below src/consilium that still have such names.  Clean one and take it out; none is added."""

ERRORS = {"Refused", "Unlawful", "Failed", "MissingExtra", "Denied"}
"""The errors of the code's own that a caller may meet."""

NOT_YET_RAISES = (Path(__file__).parent / "not_yet_raises.txt").read_text(encoding="utf-8").split()
"""Files below src/consilium whose docstrings do not name what they raise yet.  Finish one and take it out."""

LOOSE = {"dict[str, Any]": 6, "cast": 1}
"""How many of each src may hold: as many as it does today.  Lower the number with the count; it never rises."""

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
    visible = _defined(tree.body) | (_imported(tree.body) if package else set())
    return {name for name in visible if not name.startswith("_")}


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
        if _is_command(path):
            continue
        for node in ast.walk(_parse(path)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {
                "print", "pprint", "pprint.pprint", "sys.stdout.write", "sys.stderr.write"
            }:  # fmt: skip
                yield f"{path}:{node.lineno}: {ast.unparse(node.func)} in library code"


def clashes(files: Iterable[Path]) -> Iterator[str]:
    """No two public classes or functions of one name: a search for one would find the other.

    Apart from :data:`PROGRAMS`, only functions of the command line may repeat a name: theirs are the words that a user
    types, and each calls the function that does the work (``consilium join`` calls ``join``).
    """
    places: dict[str, list[str]] = {}
    for path in files:
        tree = _parse(path)
        exported = set(_all(tree) or ()) - PROGRAMS
        for node in _public(tree.body, methods=False):
            if node.name in exported and not _is_command(path):
                places.setdefault(node.name, []).append(f"{path}:{node.lineno}")
    for name, (first, *others) in sorted(places.items()):
        for other in others:
            yield f"{other}: {name} is a public name of {first} too; rename the lesser to the field's term"


def undocumented(files: Iterable[Path]) -> Iterator[str]:
    """Every public function, class, and method of a public class says what it does."""
    for path in files:
        for node in _public(_parse(path).body):
            if ast.get_docstring(node) is None:
                yield f"{path}:{node.lineno}: {node.name} has no docstring"


def unraised(files: Iterable[Path], root: Path, not_yet: Iterable[str] = NOT_YET_RAISES) -> Iterator[str]:
    """A public function that raises one of :data:`ERRORS` itself has a line ``Raises Refused: when`` in its docstring.

    Not in the command line, whose docstrings are the help, nor in a file that is listed as not yet finished.
    """
    waiting = set(not_yet)
    for path in files:
        tree = _parse(path)
        exported = set(_all(tree) or ())
        complaints = [] if _is_command(path) else [
            f"{path}:{node.lineno}: {node.name} raises {error}; say when: 'Raises {error}: ...'"
            for definition in _public(tree.body, methods=False)
            if definition.name in exported
            for node in _public([definition])
            for error in sorted(_raised(node))
            if not re.search(rf"^\s*Raises .*\b{error}:", ast.get_docstring(node) or "", re.MULTILINE)
        ]  # fmt: skip
        name = path.relative_to(root).as_posix() if root in path.parents else path.name
        if name not in waiting:
            yield from complaints
        elif not complaints:
            yield f"{path}:1: names all that it raises; take {name} out of scripts/not_yet_raises.txt"
        waiting.discard(name)
    for name in sorted(waiting):
        yield f"{root / name}:1: is in scripts/not_yet_raises.txt and not there; take it out, or follow its move"


def participles(files: Iterable[Path], root: Path, not_yet: Iterable[str] = NOT_YET) -> Iterator[str]:
    """Variables and parameters are nouns, in every file that is not listed as not yet clean.

    Fields of classes are left alone: their names stand in stored files.
    """
    waiting = set(not_yet)
    for path in files:
        bindings = sorted(_bindings(_parse(path)))
        name = path.relative_to(root).as_posix() if root in path.parents else path.name
        if name in waiting:
            waiting.discard(name)
            if not bindings:
                yield f"{path}:1: has no participle left; take {name} out of scripts/not_yet_nouns.txt"
            continue
        for line, word in bindings:
            yield f"{path}:{line}: {word!r} says what happened to a value; name it by a noun that says what it is"
    for name in sorted(waiting):
        yield f"{root / name}:1: is in scripts/not_yet_nouns.txt and not there; take it out, or follow its move"


def loose(files: Iterable[Path], most: dict[str, int] | None = None) -> Iterator[str]:
    """No more untyped dicts and casts in all than stand in :data:`LOOSE`."""
    limits, counts = LOOSE if most is None else most, dict.fromkeys(LOOSE, 0)
    for path in files:
        for node in ast.walk(_parse(path)):
            if isinstance(node, ast.Subscript) and ast.unparse(node) == "dict[str, Any]":
                counts["dict[str, Any]"] += 1
            elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("cast", "typing.cast"):
                counts["cast"] += 1
    for what, count in counts.items():
        if count > limits[what]:
            yield f"src:1: {count} times {what}, and no more than {limits[what]} may be; give the data a type"


def hosts(files: Iterable[Path]) -> Iterator[str]:
    """No package registry and no absolute path of one machine."""
    for path in files:
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            match = MACHINE.search(line)
            if match:
                yield f"{path}:{number}: names {match.group()!r}"


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
    complaints = [*sizes(code), *names(code, ROOT), *exports(source), *unsafe(source), *prints(source)]
    complaints += [*clashes(source), *undocumented(source), *loose(source), *hosts(tracked())]
    package = ROOT / "src" / "consilium"
    complaints += [*participles(source, package), *unraised(source, package), *folder_cycles(source, package)]
    history = bare_commits(ROOT)
    if history is None:
        print("commit messages: not checked, the history is not here")
    complaints += history or ()
    shown = [complaint.replace(f"{ROOT}/", "") for complaint in complaints]
    print(*shown, f"house rules: {len(code)} modules, {len(complaints)} complaints", sep="\n")
    return 1 if complaints else 0


def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def _is_command(path: Path) -> bool:
    """Whether a module is of the command line, where functions are called as the commands are."""
    return path.parent.name in SPEAKERS


def _public(
    body: Iterable[ast.stmt], methods: bool = True
) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    """The definitions of a module that others may use, and the methods of its classes; no nested functions.

    Overloads are left out: they are types of the function that follows them.
    """
    for node in body:
        if isinstance(node, _DEFINITIONS) and not node.name.startswith("_") and not _is_overload(node):
            yield node
            if methods and isinstance(node, ast.ClassDef):
                yield from _public(node.body)


def _is_overload(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> bool:
    return any(ast.unparse(mark) in ("overload", "typing.overload") for mark in node.decorator_list)


def _raised(node: ast.AST) -> set[str]:
    """The names of :data:`ERRORS` that ``node`` raises itself: not in functions or classes inside it."""
    errors: set[str] = set()
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Raise) and isinstance(child.exc, ast.Call):
            errors |= {ast.unparse(child.exc.func).split(".")[-1]} & ERRORS
        if not isinstance(child, (*_DEFINITIONS, ast.Lambda)):
            errors |= _raised(child)
    return errors


def _bindings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, name) of every variable or parameter that is bound to one of the participles."""
    fields = {
        id(target)
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for statement in node.body
        if isinstance(statement, (ast.Assign, ast.AnnAssign))
        for target in (statement.targets if isinstance(statement, ast.Assign) else [statement.target])
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and id(node) not in fields:
            line, name = node.lineno, node.id
        elif isinstance(node, ast.arg):
            line, name = node.lineno, node.arg
        elif isinstance(node, ast.ExceptHandler):
            line, name = node.lineno, node.name or ""
        else:
            continue
        if name in PARTICIPLES:
            yield line, name


def _all(tree: ast.Module) -> list[str] | None:
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            return list(ast.literal_eval(node.value))
    return None


def _defined(body: Iterable[ast.stmt]) -> set[str]:
    names_here: set[str] = set()
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names_here.add(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)) and not _is_type_variable(node.value):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names_here |= {n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name) and not _inside(t, n)}
        elif isinstance(node, (ast.If, ast.Try)):
            names_here |= _defined([*node.body, *node.orelse])
    return names_here - {"__all__"}


def _inside(target: ast.expr, name: ast.Name) -> bool:
    """Whether ``name`` is only read in ``target``, as in ``table[name] = ...``."""
    return isinstance(target, (ast.Subscript, ast.Attribute)) or not isinstance(name.ctx, ast.Store)


def _is_type_variable(value: ast.expr | None) -> bool:
    return isinstance(value, ast.Call) and ast.unparse(value.func).split(".")[-1] in {"TypeVar", "ParamSpec", "NewType"}


def _imported(body: Iterable[ast.stmt]) -> set[str]:
    """Names that a package takes from its own modules, those under ``if TYPE_CHECKING`` included."""
    imported: set[str] = set()
    for node in body:
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith("consilium")):
            imported |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.If):
            imported |= _imported(node.body)
    return imported


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

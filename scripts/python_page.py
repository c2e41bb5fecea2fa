"""The Python reference: what one imports to run, read, extend or measure, with signature, docstring and source.

Names are looked up in the source, where every public name has one place (a house rule), so nothing here knows a module:
what moves is found again.  Read by ``ast``: writing the page needs no torch.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["GROUPS", "Definition", "definitions", "python_page", "raised", "signature", "split"]

ROOT = Path(__file__).resolve().parent.parent
NOTE = "<!-- Written by scripts/docs from the code; edit the code. -->\n\n"

GROUPS: tuple[tuple[str, str, str], ...] = (
    (
        "Run a study",
        "A study in Python is the tables of a study file.",
        "Study Results ResultCell Plan plan_summary Outcome write_csv write_page",
    ),
    (
        "Use a trained model",
        "From a finished cell.",
        "load test_set",
    ),
    (
        "Read evidence",
        "What lies in a study's folder, typed; `read_study` reads a whole one.",
        "read_study StudyRecord CellRecord FindingRecord read_cell read_study_record read_round StudyEvidence "
        "CellEvidence FindingEvidence PrivacyEvidence ClaimEvidence RoundEvidence AuditEvidence "
        "ThreatEvidence read_scores read_records SCHEMA is_altered",
    ),
    (
        "Errors",
        "Every error a user can meet.",
        "ConsiliumError Refused Unlawful MissingExtra Failed",
    ),
    (
        "Write an attack",
        "One file with one frozen dataclass: [add an attack](../how-to/add-an-attack.md).",
        "Entry check check_used Attack Evasion Corruption ThreatModel Actor Aim Knowledge Finding Measure",
    ),
    (
        "What an attack is shown",
        "A view is what its threat model grants; more is not there to be asked for.",
        "View ModelView QueryView RecordsView RetrainView Shadow RoundView CanaryView AggregateView "
        "OmniscientView ObservedView BroadcastRoundView AggregateRoundView UpdateRoundView require",
    ),
    (
        "Perturb an input",
        "A ball, a loss and a goal are values; `maximise` follows the loss in the ball.",
        "maximise ascent Ball Linf L2 L1 L0 Norm AnyNorm ball_of size_of AttackLoss CrossEntropyLoss "
        "MarginLoss DLR Minimised margin Goal Misclassification Targeted SourceToTarget ConfidenceReduction",
    ),
    (
        "Write a defence",
        "One base class for each moment: [add a defence](../how-to/add-a-defence.md).",
        "Defence DataDefence TrainingDefence UpdateDefence MergeDefence ModelDefence AnswerDefence Promise "
        "Detector Detecting detector_of "
        "Codec Aggregator Cohort Objective GradientRule GradientOracle Gradient Schedule BatchSelection "
        "NoiseMechanism Update Aggregate Payload payload_bytes wire_bytes MeanGradient TaskLoss",
    ),
    (
        "Write an algorithm or an engine",
        "An algorithm is pure functions of flat vectors; an engine carries an exchange.",
        "Algorithm Server Broadcast Work AlgorithmState LocalDescent Exchange Joint Engine",
    ),
    (
        "Bring data or a model",
        "[Own data](../how-to/own-data.md), [own model](../how-to/own-model.md).",
        "Source Dataset Partition Records Pools Site Consortium Architecture Normalise Network",
    ),
    (
        "Teach DP-SGD a layer",
        "A rule for a layer of your own, proved before it is used.",
        "register LayerRule LayerCall FormedGradients clipped_sum ClippedSum per_example_norms",
    ),
    (
        "Randomness",
        "Every draw has an address.",
        "Stream scoped",
    ),
    (
        "Measure",
        "Figures with their intervals; `Measure` is above.",
        "round_up round_down wilson clopper_pearson difference mean_of_proportions across_seeds bootstrap Pair paired "
        "mean_of_ratios auc auc_interval membership roc robust_accuracy utility",
    ),
    (
        "Account for privacy",
        "From noise to epsilon and back; [what epsilon means](../explanation/what-epsilon-means.md).",
        "epsilon noise_multiplier maximum most_times claims Claim Charge Gaussian PoissonSampled "
        "RandomisedResponse Composed Adjacency Unit composed dp_event Spent one_run_bound gaussian_epsilon",
    ),
    (
        "Set a site's limits",
        "What one site of a deployment allows: [set a site's limits](../how-to/set-a-sites-limits.md).",
        "read_limits SiteLimits StudyRequest check_request Budget open_ledger",
    ),
    (
        "Look entries up",
        "The catalogue that `consilium list` prints.",
        "cards find load_entry Card",
    ),
)
"""Heading, a sentence, and the public names in the order in which they are read: the one list there is."""


@dataclass(frozen=True)
class Definition:
    """A public name: the module that defines it, where one imports it from, and its syntax."""

    name: str
    path: Path
    home: str
    node: ast.stmt
    note: str = ""

    @property
    def bases(self) -> tuple[str, ...]:
        """The names of a class's bases."""
        listed = self.node.bases if isinstance(self.node, ast.ClassDef) else []
        return tuple(ast.unparse(base).partition("[")[0] for base in listed)


def python_page() -> str:
    """The page, group by group."""
    known = definitions()
    parts = [NOTE + "# Python\n", _contents()]
    for heading, sentence, names in GROUPS:
        parts.append(f"## {heading}\n\n{sentence}\n")
        parts += [_entry(known[name], known) for name in names.split()]
    return "\n".join(parts)


@cache
def definitions(source: Path = ROOT / "src" / "consilium") -> dict[str, Definition]:
    """Every public name below ``source``."""
    known, packages = {}, {}
    for path in sorted(source.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        exported = _exported(tree)
        module = ".".join(path.relative_to(source.parent).with_suffix("").parts).removesuffix(".__init__")
        if path.name == "__init__.py":
            packages[module] = exported
        known.update({one.name: one for one in _defined(tree, exported, path, module)})
    for package, exported in sorted(packages.items(), key=lambda item: -item[0].count(".")):  # the outermost wins
        for name in exported & known.keys():
            one = known[name]
            known[name] = Definition(name, one.path, package, one.node, one.note)
    return known


def _exported(tree: ast.Module) -> set[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            return set(ast.literal_eval(node.value))
    return set()


def _defined(tree: ast.Module, exported: set[str], path: Path, module: str) -> Iterator[Definition]:
    following = [*tree.body[1:], None]
    for node, after in zip(tree.body, following, strict=True):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names, note = [node.name], ast.get_docstring(node) or ""
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names, note = [t.id for t in targets if isinstance(t, ast.Name)], _string(after)
        else:
            continue
        yield from (Definition(name, path, module, node, note) for name in names if name in exported)


def _string(node: ast.stmt | None) -> str:
    """A constant's docstring, which is the string after it."""
    text = node.value.value if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) else ""
    return text if isinstance(text, str) else ""


def _contents() -> str:
    lines = ["What one imports, by what one wants to do. Entries have [a page of their own](entries.md).\n"]
    for heading, _, names in GROUPS:
        shown = ", ".join(f"`{name}`" for name in names.split())
        lines.append(f"- [{heading}](#{heading.lower().replace(' ', '-')}): {shown}")
    return "\n".join(lines) + "\n"


def _entry(one: Definition, known: dict[str, Definition]) -> str:
    link = f"../../{one.path.relative_to(ROOT).as_posix()}"
    parts = [
        f"### {one.name}\n",
        f"`from {one.home} import {one.name}` ([source]({link}))\n",
        f"```text\n{signature(one, known)}\n```\n",
    ]
    if one.note:
        parts.append(_text(one.note) + "\n")
    if isinstance(one.node, ast.FunctionDef) and (errors := raised(one.node)):
        parts.append(f"Raises {errors}.\n")
    if isinstance(one.node, ast.ClassDef):
        attributes = [] if _is_dataclass(one.node) else [f"- `{text}`" for _, text in _annotated(one.node)]
        members = attributes + [_method(node) for node in one.node.body if _is_shown(node)]
        parts += ["\n".join(members) + "\n"] if members else []
    return "\n".join(parts)


def signature(one: Definition, known: dict[str, Definition]) -> str:
    """How a function or class is called, below a line with a class's bases; a constant's own assignment."""
    node = one.node
    if isinstance(node, ast.FunctionDef):
        return _call(node, node.name, 0)
    if not isinstance(node, ast.ClassDef):
        return ast.unparse(node)
    bases = f"({', '.join(one.bases)})" if one.bases else ""
    maker = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
    if maker is not None:
        return f"class {one.name}{bases}\n" + _call(maker, one.name, 1).removesuffix(" -> None")
    fields = list(dict(_fields(one, known)).values())
    head = [f"class {one.name}{bases}"] if bases or not fields else []
    return "\n".join([*head, _wrapped(one.name, fields, "")] if fields else head)


def _fields(one: Definition, known: dict[str, Definition]) -> Iterator[tuple[str, str]]:
    """The fields of a dataclass by name, those of its bases first, as they are given to its constructor."""
    for base in reversed(one.bases):
        if base in known and base != one.name:
            yield from _fields(known[base], known)
    if isinstance(one.node, ast.ClassDef) and _is_dataclass(one.node):
        yield from _annotated(one.node)


def _is_dataclass(node: ast.ClassDef) -> bool:
    return any("dataclass" in ast.unparse(mark) for mark in node.decorator_list)


def _annotated(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    """The public annotated names of a class that are not of the class alone."""
    for inner in node.body:
        if isinstance(inner, ast.AnnAssign) and isinstance(inner.target, ast.Name):
            text = ast.unparse(inner)
            if not inner.target.id.startswith("_") and "ClassVar" not in text:
                yield inner.target.id, text


def _call(node: ast.FunctionDef, name: str, skip: int) -> str:
    """A function as it is called; ``skip`` leaves ``self`` out."""
    arguments = ast.unparse(node.args)
    pieces = split(arguments)[skip:]
    returns = f" -> {ast.unparse(node.returns)}" if node.returns is not None else ""
    return _wrapped(name, pieces, returns)


def split(text: str) -> list[str]:
    """At the commas outside all brackets and quotes."""
    pieces, depth, quote, start = [], 0, "", 0
    for at, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter in "([{":
            depth += 1
        elif letter in ")]}":
            depth -= 1
        elif letter == "," and not depth:
            pieces.append(text[start:at].strip())
            start = at + 1
    return [*pieces, text[start:].strip()] if text[start:].strip() else pieces


def _wrapped(name: str, pieces: list[str], returns: str) -> str:
    line = f"{name}({', '.join(pieces)}){returns}"
    return line if len(line) <= 110 else f"{name}(\n" + "".join(f"    {piece},\n" for piece in pieces) + f"){returns}"


def _is_shown(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef) and (not node.name.startswith("_") or node.name == "__call__")


def _method(node: ast.stmt) -> str:
    assert isinstance(node, ast.FunctionDef)
    marks = {ast.unparse(mark) for mark in node.decorator_list}
    call = node.name if "property" in marks else _call(node, node.name, 0 if "staticmethod" in marks else 1)
    text = " ".join(_text(ast.get_docstring(node) or "").split())
    errors = raised(node)
    line = " ".join(call.split()).replace("( ", "(").replace(", )", ")")
    return f"- `{line}`" + (f": {text}" if text else "") + (f" Raises {errors}." if errors else "")


def raised(node: ast.FunctionDef) -> str:
    """The errors that a function raises itself; those of what it calls are named by its docstring."""
    names = {
        ast.unparse(inner.exc.func if isinstance(inner.exc, ast.Call) else inner.exc).split(".")[-1]
        for inner in ast.walk(node)
        if isinstance(inner, ast.Raise) and inner.exc is not None
    }
    return " or ".join(f"`{name}`" for name in sorted(names) if name[0].isupper() and name != "NotImplementedError")


def _text(note: str) -> str:
    """A docstring as Markdown: its code marks, and its indented formulas as they stand."""
    note = re.sub(r":\w+:`([^`]*)`", r"`\1`", note.replace("``", "`"))
    return re.sub(r"\n(?=    )", "\n", note).strip()

"""What is known of the training of weights that a study starts from, or is of: its recipe, compared with the study.

Records that the weights were trained on must not be held out here, and what an input or an answer means must be the
same, or every figure is of something else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import zip_longest
from typing import Any

from consilium.core.errors import Refused
from consilium.core.inputs import Inputs
from consilium.core.plain import Json
from consilium.core.records import Consortium
from consilium.study.build.stored_weights import other_classes, weights_recipe
from consilium.study.spec.arms import models
from consilium.study.spec.fine_tuning import FineTuning
from consilium.study.spec.spec import TrainingSpec

from .trained_records import refuse_trained_records, unknown_training_note

__all__ = ["check_weights", "refuse_other_meaning", "stated_inputs", "unknown_records_note"]

_WHERE = "model.weights"


def stated_inputs(inputs: Inputs) -> dict[str, Json]:
    """What a recipe keeps of ``inputs``: their JSON without categories that were read from the records."""
    columns = [column if column.declared else replace(column, words=()) for column in inputs.columns]
    return replace(inputs, columns=tuple(columns)).to_json()


def unknown_records_note(spec: TrainingSpec, tuning: FineTuning) -> tuple[str, ...]:
    """A caution where nothing tells which records the weights were trained on; nothing where their recipe does."""
    if not tuning.weights:
        return ()
    return unknown_training_note(spec, weights_recipe(tuning), f"weights {tuning.weights} were")


def check_weights(spec: TrainingSpec, gathered: Callable[[int], Consortium]) -> None:
    """Refuse weights of other inputs or classes, and weights that were trained on records that are held out here.

    Raises Refused: the recipe beside the weights says so.
    """
    for model in models(spec).values():
        recipe = weights_recipe(model.fine_tuning) if model.fine_tuning.weights else {}
        if recipe:
            refuse_other_meaning(recipe, gathered(spec.seeds[0]), _WHERE, new_head=True)
        refuse_trained_records(spec, recipe, gathered, _WHERE)


def refuse_other_meaning(recipe: Mapping[str, Any], data: Consortium, where: str, new_head: bool = False) -> None:
    """Refuse by the first class, column, range or vocabulary that is another in ``data`` than in the ``recipe``.

    Classes of another number have a head of their own, and are not compared; with ``new_head`` neither are those of
    another set, whose head is drawn anew.

    Raises Refused: one is another.
    """
    classes, inputs, here = recipe.get("classes"), recipe.get("inputs"), stated_inputs(data.inputs)
    anew = new_head and bool(other_classes(recipe, data.classes))
    if isinstance(classes, list) and len(classes) == len(data.classes) and not anew:
        for number, (theirs, mine) in enumerate(zip(classes, data.classes, strict=True), 1):
            _compare(f"class {number}", mine, theirs, where)
    if not isinstance(inputs, Mapping):  # an older recipe
        return
    if inputs.get("columns") and here["columns"]:
        _compare_columns(here["columns"], inputs["columns"], where)
    mine, theirs = _vocabulary(here), _vocabulary(inputs)
    if mine and theirs:
        _compare("the vocabulary", mine, theirs, where)


def _vocabulary(inputs: Mapping[str, Any]) -> str:
    """The digest of its words; empty where there is none."""
    steps = inputs.get("preparation")
    text = str(steps.get("vocabulary", "")) if isinstance(steps, Mapping) else ""
    return text.partition("sha256 ")[2]


def _compare_columns(mine: Any, theirs: Any, where: str) -> None:
    blank: Mapping[str, Any] = {}
    for number, (one, other) in enumerate(zip_longest(mine, theirs, fillvalue=blank), 1):
        _compare(f"column {number}", one.get("name", "not there"), other.get("name", "not there"), where)
        for what in ("range", "words", "unit"):
            if what in one and what in other:
                _compare(f"the {what} of column {number} {one['name']!r:.80}", one[what], other[what], where)


def _compare(what: str, mine: Any, theirs: Any, where: str) -> None:
    if mine != theirs:
        raise Refused(
            f"{what} is {mine!r:.120}, and {theirs!r:.120} where the weights were trained (recipe.json beside them)",
            remedy="give the data as that training had them",
            where=where,
        )

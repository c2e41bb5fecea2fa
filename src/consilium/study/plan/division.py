"""Whose division of the data a trained model is judged by: its seed's, and right only if it was trained on that one.

A seed divides the data anew, so the held-out records of one are training records of another.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from consilium.core.errors import Refused
from consilium.core.plain import read_json
from consilium.core.records import Consortium, Records
from consilium.study.plan.checks.earlier_training import refuse_other_meaning
from consilium.study.plan.checks.trained_records import (
    asks_membership,
    refuse_trained_records,
    same_source,
    unknown_training_note,
)
from consilium.study.spec.spec import Spec, TrainedModelSpec

from .stage_keys import data_digest

__all__ = ["check_division", "division_note", "unknown_members_note", "unknown_model_note"]


def division_note(seed: int) -> str:
    """What every reader must know of a study of a trained model."""
    return (
        f"members, non-members and held-out test records are those of seed {seed}'s division of these data: "
        "right only if the model was trained on that division"
    )


def unknown_model_note(spec: TrainedModelSpec) -> tuple[str, ...]:
    """A caution where nothing tells which records the model was trained on; nothing where its recipe does."""
    recipe = _recipe(Path(spec.model.path).expanduser())
    return unknown_training_note(spec, recipe, f"model {spec.model.path} was")


def unknown_members_note(seed: int) -> str:
    """What a reader of membership figures must know of a trained model's members."""
    return (
        f"An audit: members are the training pool of seed {seed}'s division of these data and non-members what was "
        "held out of it. If the model was trained on other records, or on both, this attack sits at chance and says "
        "nothing of safety."
    )


def check_division(spec: TrainedModelSpec, gathered: Callable[[int], Consortium]) -> None:
    """Refuse seeds whose division of the data is not the one that the model was trained on.

    Raises Refused: held-out records of one seed are training records of another, or the recipe beside the model
    names another seed, another division where membership is asked, or other classes, columns, ranges or words.
    """
    _check_origin(spec)
    recipe = _recipe(Path(spec.model.path).expanduser())
    refuse_other_meaning(recipe, gathered(spec.seeds[0]), "model.path")
    refuse_trained_records(spec, recipe, gathered, "model.path", data_digest)
    first, *others = spec.seeds
    for seed in others:
        mixed = _mixed(spec, gathered(first), gathered(seed))
        if mixed:
            raise Refused(
                f"seed {seed} divides the data anew: {mixed} of its held-out records are training records of "
                f"seed {first}, and the model was trained on one division at most",
                remedy="give the one seed by which the training records of the model were divided: seeds = [0]",
                where="seeds",
            )


def _mixed(spec: Spec, one: Consortium, other: Consortium) -> int:
    """How many records that ``other`` judges on are learned from in ``one``; pools, where membership is asked."""
    judged = [other.test]
    if asks_membership(spec):
        judged += [site.records.non_members for site in other.sites]
    learned = Records.joined([site.records.train for site in one.sites])
    return sum(int(torch.isin(records.ids, learned.ids).sum()) for records in judged)


def _check_origin(spec: TrainedModelSpec) -> None:
    """A model of Consilium's has its recipe beside it, which names its data and its seed."""
    recipe = _recipe(Path(spec.model.path).expanduser())
    if not same_source(spec, recipe):
        return
    data, seed, table = recipe["data"], recipe["seed"], json.loads(json.dumps(spec.data.configuration()))
    strange = [other for other in spec.seeds if other != seed]
    if strange:
        raise Refused(
            f"the model was trained on seed {seed}'s division of these data (recipe.json beside it says so), "
            f"not on that of seed {strange[0]}",
            remedy=f"write seeds = [{seed}]",
            where="seeds",
        )
    odd = [knob for knob, value in table.items() if data.get(knob) != value]
    if odd and asks_membership(spec):
        raise Refused(
            f"the model was trained with {odd[0]} = {data.get(odd[0])!r} (recipe.json beside it says so), not "
            f"{table[odd[0]]!r}: members and non-members are others",
            remedy="divide the data as its training did, or leave out the membership attacks",
            where=f"data.{odd[0]}",
        )


def _recipe(weights: Path) -> Mapping[str, Any]:
    """The recipe beside ``weights``; empty where there is none to be read."""
    try:
        return read_json(weights.with_name("recipe.json"))
    except (OSError, ValueError):
        return {}

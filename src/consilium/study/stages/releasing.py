"""The model of a cell as it is handed out: defended, stored, and read back from its file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from consilium.core.random import Stream
from consilium.core.seal import file_digest, sealed
from consilium.study.evaluate.release import Released, release, unbroken
from consilium.study.evaluate.sample_answers import check_sample_answers, sample_answers
from consilium.study.evaluate.seals import recipe_of
from consilium.study.plan.checks.earlier_training import stated_inputs
from consilium.study.plan.nodes import CellNode
from consilium.study.spec.arms import Arm
from consilium.study.store.error_summary import error_summary
from consilium.study.store.store import Store, write_json

from .context import StageContext
from .origin_choice import origin_of
from .stage import Stage

__all__ = ["ReleaseStage", "release_key", "release_model", "release_stream"]


def release_key(model: str) -> str:
    """The key of the stage that makes the model ``model``."""
    return f"release-{model}"


@dataclass(frozen=True, eq=False)
class ReleaseStage(Stage):
    """Makes ``models/<digest>`` of a cell that others craft on, before any of them does."""

    cell: CellNode = field(kw_only=True)

    @property
    def arm(self) -> Arm:
        """That of its cell."""
        return self.cell.arm

    def done(self, context: StageContext) -> bool:
        """The model and its recipe are there."""
        return context.store.has_model(self.cell.model)

    def run(self, context: StageContext) -> None:
        """A failure is recorded where the model is needed: in its own cell, and in each attack that crafts on it."""
        try:
            context.require_training(self.cell)
            context.released(self.cell.digest)
        except (Exception, SystemExit) as error:
            error_summary(error)  # asks first whether somebody wants to stop

    def fail(self, context: StageContext, error: str) -> None:
        """Likewise."""
        context.say(f"the model of {self.cell.label} was not released: {error}")

    def failure(self, context: StageContext) -> str:
        """That there is no model."""
        return "" if self.done(context) else "the model was not released"

    def outputs(self, store: Store) -> tuple[Path, ...]:
        """The stored model."""
        return (store.model(self.cell.model) / "model.safetensors",)


def release_stream(cell: CellNode) -> Stream:
    """Where what is random in the defences of its model is drawn."""
    return Stream(cell.seed).child("release", cell.model)


def release_model(context: StageContext, cell: CellNode) -> Released:
    """The model of ``cell``; stored, with its recipe, unless it is there."""
    context.require_training(cell)
    folder, data, origin = context.store.model(cell.model), context.data(cell.seed), origin_of(context, cell)
    path, recipe = folder / "model.safetensors", recipe_of(folder)
    unbroken(path, recipe.get("sha256"))
    plain = context.network(cell).module_at(*origin.weights()).cpu()
    model = release(plain, cell.arm.model, cell.arm.answer, data.public, data.task, path, release_stream(cell))
    about = {"shape": list(data.shape), "classes": list(data.classes), "sha256": file_digest(path)}
    about |= {"inputs": stated_inputs(data.inputs)}
    about |= {"tokens": data.inputs.tokens} if data.inputs.tokens else {}
    if "sample_answers" in recipe and recipe.get("sha256") == about["sha256"]:  # of the same weights: they stay
        check_sample_answers(model.module, data.shape, cell.arm.model, recipe)
        about["sample_answers"] = recipe["sample_answers"]
    else:
        about |= sample_answers(model.module, data.shape, data.inputs.tokens)
    if (personal := origin.personal()) is not None:
        about["sites"] = personal.store(recipe.get("sites", {}))
    record = sealed({**cell.model_recipe, **about})
    if recipe != record:  # else a cell that crafts on it elsewhere would write what is there
        context.guard()
        write_json(folder / "recipe.json", record)
    return model

"""The model of a cell as it is handed out: defended, stored, and read back from its file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from torch import Tensor

from consilium.core.errors import Failed
from consilium.core.random import Stream
from consilium.core.seal import file_digest, sealed
from consilium.study.build.factory import algorithm, released
from consilium.study.evaluate.personalised import Personal
from consilium.study.evaluate.release import Released, release, unbroken
from consilium.study.evaluate.sample_answers import sample_answers
from consilium.study.evaluate.seals import recipe_of
from consilium.study.plan.plan import CellNode
from consilium.study.spec.spec import FederationSpec
from consilium.study.store.error_summary import error_summary
from consilium.study.store.store import Store, write_json

from .context import StageContext
from .stage import Stage

__all__ = ["ReleaseStage", "personal_models", "release_key", "release_model"]


def release_key(model: str) -> str:
    """The key of the stage that makes the model ``model``."""
    return f"release-{model}"


@dataclass(frozen=True, eq=False)
class ReleaseStage(Stage):
    """Makes ``models/<digest>`` of a cell that others craft on, before any of them does."""

    cell: CellNode = field(kw_only=True)

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


def release_model(context: StageContext, cell: CellNode) -> Released:
    """The model of ``cell``; stored, with its recipe, unless it is there."""
    context.require_training(cell)
    folder, data = context.store.model(cell.model), context.data(cell.seed)
    path, recipe = folder / "model.safetensors", recipe_of(folder)
    unbroken(path, recipe.get("sha256"))
    plain = context.network(cell.seed).module_at(*_weights(context, cell)).cpu()
    stream = Stream(cell.seed).child("release", cell.model)
    model = release(plain, cell.arm.model, cell.arm.answer, data.public, data.task, path, stream)
    about = {"shape": list(data.shape), "classes": list(data.classes), "sha256": file_digest(path)}
    about |= sample_answers(model.module, data.shape)
    if (personal := personal_models(context, cell)) is not None:
        about["sites"] = personal.store(recipe.get("sites", {}))
    record = sealed({**cell.model_recipe, **about})
    if recipe != record:  # else a cell that crafts on it elsewhere would write what is there
        context.guard()
        write_json(folder / "recipe.json", record)
    return model


def personal_models(context: StageContext, cell: CellNode) -> Personal | None:
    """The sites' own models, where the algorithm makes some."""
    federation = context.plan.spec.federation
    if cell.training is None or not (cell.arm.algorithm or cast(FederationSpec, federation).algorithm).personal:
        return None
    net, data = context.network(cell.seed), context.data(cell.seed)
    honest = frozenset(context.asked.honest(cell))
    state, site_states = context.checkpoint(cell.training, str(net.start()[0].device))
    return Personal(
        algorithm(context.plan.spec, cell.arm, net),
        state.server,
        site_states,
        net,
        tuple(site for site in data.sites if site.id in honest),
        cell.arm,
        data.public,
        data.task,
        context.store.model(cell.model),
        Stream(cell.seed).child("release", cell.model),
        frozenset(context.asked.always_honest(cell)),
    )


def _weights(context: StageContext, cell: CellNode) -> tuple[Tensor, Tensor]:
    net = context.network(cell.seed)
    if cell.training is None:
        return net.start()
    if (personal := personal_models(context, cell)) is not None:
        return personal.weights()
    state, _ = context.checkpoint(cell.training)
    weights = released(context.plan.spec, cell.arm, net, state.server)
    if weights is None:
        raise Failed("the algorithm has no model for everyone, and none for a site either")
    return weights

"""A released model and the records it was judged on, from its cell: for anyone who wants to check a figure.

model = consilium.load("out/quickstart/cells/1f2e...")
test = consilium.test_set("out/quickstart/cells/1f2e...")
accuracy = (model(test.x).argmax(1) == test.y).float().mean()
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from consilium.core.catalogue import nearest
from consilium.core.defence import AnswerDefence, ModelDefence
from consilium.core.errors import ConsiliumError, Refused
from consilium.core.inputs import blank_input
from consilium.core.plain import Json
from consilium.core.random import Stream
from consilium.core.records import Records
from consilium.core.seal import file_digest
from consilium.core.tensor_files import read_tensors
from consilium.learn.architecture import Architecture
from consilium.learn.models.file import File
from consilium.learn.models.module import Module
from consilium.learn.models.stored_module import StoredModule
from consilium.study.build.factory import divided
from consilium.study.build.pretrained import stored_architecture
from consilium.study.build.probe import built
from consilium.study.evaluate.personalised import site_file
from consilium.study.evaluate.release import restore
from consilium.study.evaluate.sample_answers import check_sample_answers
from consilium.study.evaluate.seals import altered_evidence, is_recipe_of, known_cells, other_cell, table
from consilium.study.evaluate.training_files import training_trouble
from consilium.study.plan.stage_keys import data_digest
from consilium.study.spec.code_tables import code_folder, with_input
from consilium.study.spec.data_table import division_of
from consilium.study.spec.spec import CanarySpec
from consilium.study.spec.toml_binding import CodePath, as_table, entry, is_code, value
from consilium.study.store.error_summary import error_summary
from consilium.study.store.store import read_stored

__all__ = ["load", "test_set"]


def load(cell: str | Path, *, site: str | None = None, allow_code: bool = False) -> nn.Module:
    """The released model of a cell: x ``(n, *shape)`` in [0, 1] to logits as they are answered.

    A personalised algorithm leaves a model at each site: ``site`` names one of them.  A model that is a user's own code
    is imported only with ``allow_code``; pickle is never read.  Refused where the file is not the one that was
    stored and judged, by the seals of the recipe and of the evidence.
    """
    evidence, recipe, folder = _recipe(cell)
    with _named(folder / "recipe.json"):
        parts = _parts(recipe, code_folder(folder.parent.parent), allow_code)
        stored = folder / "model.safetensors" if site is None else _site_file(recipe, folder, site)
        artefact = read_tensors(stored)
        _check(stored, recipe, evidence, site)
    model = _restored(parts, artefact)
    shared = model if site is None else _restored(parts, read_tensors(folder / "model.safetensors"))
    with _named(folder / "recipe.json"), _told_as_model():
        check_sample_answers(shared, parts.shape, parts.models, recipe)
    return model


@dataclass(frozen=True, eq=False)
class _Parts:
    """A model's description in its recipe."""

    architecture: Architecture
    shape: tuple[int, ...]
    tokens: int
    outputs: int
    stream: Stream
    models: Sequence[ModelDefence]
    answers: Sequence[AnswerDefence]


def _parts(recipe: Mapping[str, Any], code: Path, allow_code: bool) -> _Parts:
    """``code`` is the folder of the code that the study had of its author."""
    models = [_model_defence(_allowed(d, code, allow_code)) for d in recipe["defences"]]
    answers = [entry(_allowed(d, code, allow_code), "recipe", "defend/answer") for d in recipe["answers"]]
    stream, shape = Stream(recipe["seed"]).child("init"), tuple(recipe["shape"])
    architecture = _architecture(with_input(recipe["model"], (code.parent,)), allow_code)
    outputs = division_of(as_table(recipe["data"], "data")).task.answer_shape(len(recipe["classes"]), shape)[0]
    return _Parts(architecture, shape, int(recipe.get("tokens", 0)), outputs, stream, models, answers)


def _model_defence(table: Mapping[str, Any]) -> ModelDefence:
    defence = entry(table, "recipe", "defend/model", "defend/detection")
    assert isinstance(defence, ModelDefence)  # both rooms hold nothing else
    return defence


def _allowed(table: Mapping[str, Any], code: Path, allow_code: bool) -> Mapping[str, Any]:
    """``table``, with its file as it was used where it is of a user's own class."""
    if not is_code(table):
        return table
    if not allow_code:
        reason = f"loading this model runs the code of {table['path']}"
        raise Refused(reason, remedy="pass allow_code=True if you trust it")
    return {**table, "path": CodePath(table["path"], (code / table["sha256"],)), "allow-code": True}


def _restored(parts: _Parts, artefact: Mapping[str, Tensor]) -> nn.Module:
    """The model, from what is stored."""
    plain = built(parts.architecture, parts.shape, parts.outputs, parts.stream, parts.tokens)
    with _told_as_model():
        model = restore(plain.eval(), parts.models, parts.answers, artefact, blank_input(parts.shape, parts.tokens))
        return model.requires_grad_(False)


@contextmanager
def _told_as_model() -> Iterator[None]:
    """What the code of a user's model raises is a refusal of the model."""
    try:
        yield
    except ConsiliumError:
        raise
    except BaseException as error:  # a user's module may raise anything
        raise Refused(
            f"the model's own code fails: {error_summary(error)}",
            remedy="give it the code that it was trained with",
            where="model",
        ) from error


def test_set(cell: str | Path) -> Records:
    """The records that the cell was judged on; refused if the data are not the same any more."""
    evidence, recipe, folder = _recipe(cell)
    with _named(folder / "recipe.json"):
        stored = with_input(recipe["data"], (folder.parent.parent,))
        return _gathered({**recipe, "data": stored}, _planting(evidence))


def _planting(evidence: Mapping[str, Json]) -> CanarySpec | None:
    """How an audit's canaries were planted in the training of the cell; None without an audit."""
    resolved = evidence.get("resolved")
    training = resolved.get("training") if isinstance(resolved, Mapping) else None
    planting = training.get("canaries") if isinstance(training, Mapping) else None
    return value(CanarySpec, planting, "audit") if isinstance(planting, Mapping) else None


def _gathered(recipe: Mapping[str, Any], canaries: CanarySpec | None) -> Records:
    data_set = divided(division_of(as_table(recipe["data"], "data")), canaries, recipe["seed"])
    if data_digest(data_set) != recipe["fingerprint"]:
        raise Refused(
            f"the data of {data_set.name} are not those that the cell was judged on", remedy="find the file it names"
        )
    return data_set.test


def _recipe(cell: str | Path) -> tuple[dict[str, Json], dict[str, Json], Path]:
    """The cell's evidence, the recipe of its model, and the folder of that."""
    folder = Path(cell)
    evidence = read_stored(folder / "evidence.json")
    name = None if evidence is None else evidence.get("model")
    if evidence is None or not isinstance(name, str):
        raise Refused(f"{folder} is no cell: it has no evidence.json", remedy="give OUT/STUDY/cells/DIGEST")
    study, digest = folder.resolve().parent.parent, folder.resolve().name
    if other := other_cell(evidence, digest):
        remedy = "put it back, or run the study again: it writes this cell's file again"
        raise Refused(f"{folder / 'evidence.json'} is that of another cell, {other}", remedy=remedy)
    if altered_evidence(evidence, known_cells(study).get(digest)):
        remedy = "run the study again: it makes what was changed again"
        raise Refused(f"{folder / 'evidence.json'} was changed after it was written", remedy=remedy)
    model = folder.parent.parent / "models" / name
    recipe = read_stored(model / "recipe.json")
    if recipe is None:
        reason = f"the model of {folder} is not there: {model / 'recipe.json'} is gone"
        raise Refused(reason, remedy="run the study again: it makes what is missing")
    if not is_recipe_of(recipe, model):
        remedy = "put it back, or delete it and run the study again: the model is stored again"
        reason = f"{model / 'recipe.json'} is that of another model, or was changed after it was written"
        raise Refused(reason, remedy=remedy)
    _check_training(study, evidence)
    return evidence, recipe, model


def _check_training(study: Path, evidence: Mapping[str, Any]) -> None:
    """Refuse a model whose training left other files; one that is passed on without its training is taken."""
    place, seals = study / "trainings" / Path(str(evidence.get("training"))).name, table(evidence, "trained")
    for name, why in (training_trouble(place, [seals]) if seals and place.is_dir() else {}).items():
        if (place / name).exists():
            remedy = "put it back, or run the study again: it lists what can be made again"
            raise Refused(f"{place / name} {why}", remedy=remedy)


def _check(stored: Path, recipe: Mapping[str, Any], evidence: Mapping[str, Any], site: str | None) -> None:
    """Refuse a file that is not the one of the recipe, or of the evidence where that names it."""
    digest = file_digest(stored)
    for record in (recipe, table(evidence, "released")):
        wanted = record.get("sha256") if site is None else table(record, "sites").get(site)
        if wanted not in (None, digest):
            remedy = "delete it and run the study again: that model is stored again"
            raise Refused(f"{stored} is not the model that was stored and judged", remedy=remedy)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """A recipe with a field that is missing, or of another kind, is called by name."""
    try:
        yield
    except (KeyError, TypeError, AttributeError) as error:
        raise Refused(f"{path} is not a model's recipe: {error}", remedy="delete it and run the study again") from error


def _site_file(recipe: Mapping[str, Any], folder: Path, site: str) -> Path:
    known = list(recipe.get("sites") or ())
    if site not in known:
        reason = f"site {site!r} has no personal model in this cell"
        raise Refused(reason, remedy=nearest(site, known) if known else "leave out site: everyone has the same model")
    return site_file(folder, site)


def _architecture(table: Mapping[str, Any], allow_code: bool) -> Architecture:
    architecture = entry(table, "recipe", "learn/models")
    if isinstance(architecture, File):
        architecture = stored_architecture(architecture)
    code = architecture.custom_classes() if isinstance(architecture, StoredModule) else ()
    names = [architecture.path] if isinstance(architecture, Module) else [*code]
    if names and not allow_code:
        reason = f"loading this model runs the code of {names[0]}"
        raise Refused(reason, remedy="pass allow_code=True if you trust it")
    return architecture

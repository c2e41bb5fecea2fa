"""A study as a server describes it to a site, and as the site reads it: data in both directions, never code.

The study's own tables are sent, so both ends build the same objects from the catalogue that is installed there.  What
the site does not need is left out: attacks, seeds of other trainings, the question.  A model that is a user's own
module names an import path, and a site runs it only where its limits allow code.  Frozen parameters are not sent:
a site that starts from the same weights has them, and ``constants`` is their mark at the server, to compare.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from consilium.core.errors import Refused
from consilium.core.inputs import Inputs
from consilium.core.plain import Json
from consilium.core.records import Consortium
from consilium.core.task import Task
from consilium.study.spec.arms import Arm, arms
from consilium.study.spec.fine_tuning import is_function
from consilium.study.spec.parse import parse
from consilium.study.spec.spec import TrainingSpec
from consilium.study.stages.manifest import given

from .messages import StudyRequest
from .schema import Schema, check_declared, read_schema

__all__ = ["DescribedStudy", "describe", "runs_code", "understand"]

_TOLD = ("name", "data", "model", "federation", "vary", "threads", "max-epsilon", "unlawful")
_PLAN = {"tables", "arm", "seed", "training", "shape", "classes", "inputs", "roster", "constants"}


@dataclass(frozen=True, eq=False)
class DescribedStudy:
    """A study as a site reads it: one arm and one seed of it, and what the model's inputs and answers are."""

    spec: TrainingSpec
    arm: Arm
    seed: int
    training: str
    shape: tuple[int, ...]
    classes: tuple[str, ...]
    roster: tuple[str, ...]
    inputs: Inputs
    constants: str

    @property
    def task(self) -> Task:
        """What is asked of each record."""
        return self.spec.data.task

    @property
    def schema(self) -> Schema:
        """What the study's inputs and classes are, in all that sites must agree on."""
        return Schema(self.inputs, self.shape, self.classes)


def describe(
    spec: TrainingSpec,
    arm: Arm,
    seed: int,
    training: str,
    data: Consortium,
    sites: Sequence[str],
    constants: str = "",
) -> StudyRequest:
    """The request for one ``training`` among ``sites``; refused where the inputs' meaning cannot be sent."""
    check_declared(data)
    federation = arm.federation(spec)
    tables = {name: value for name, value in given(spec).items() if name in _TOLD}
    return StudyRequest(
        study=spec.name,
        rounds=federation.shape.rounds,
        sites=len(sites),
        local_epochs=federation.shape.local_epochs,
        batch=federation.shape.batch,
        algorithm=federation.algorithm.configuration(),
        model=arm.study(spec).start.configuration(),
        defences=tuple(defence.configuration() for defence in arm.defences),
        code=runs_code(arm.study(spec)),
        plan={
            "tables": tables,
            "arm": arm.name,
            "seed": seed,
            "training": training,
            "shape": list(data.shape),
            "classes": list(data.classes),
            "inputs": data.inputs.to_json(),
            "roster": list(sites),
            "constants": constants,
        },
    )


def understand(request: StudyRequest) -> DescribedStudy:
    """The requested study; refused where the fields that the limits check differ from the study's tables.

    Raises Refused: the request is malformed, or its summary differs from its study.
    """
    plan = request.plan
    if set(plan) != _PLAN or not isinstance(plan["tables"], Mapping):
        raise Refused("the request describes no study", remedy="run one release everywhere", where="request")
    spec = parse({**plan["tables"], "seeds": [plan["seed"]]})
    named, name, seed, roster = {arm.name: arm for arm in arms(spec)}, plan["arm"], plan["seed"], plan["roster"]
    if not isinstance(spec, TrainingSpec) or not isinstance(name, str) or name not in named:
        raise Refused("the request names no arm of its study", remedy="run one release everywhere", where="request")
    if not isinstance(seed, int) or not isinstance(roster, list):
        raise Refused("the request describes no study", remedy="run one release everywhere", where="request")
    schema = read_schema(plan)
    study = DescribedStudy(
        spec,
        named[name],
        seed,
        str(plan["training"])[:64],
        schema.shape,
        schema.classes,
        tuple(str(site) for site in roster),
        schema.inputs,
        str(plan["constants"])[:64],
    )
    _check_same(request, study)
    return study


def runs_code(study: TrainingSpec) -> bool:
    """Whether building the model runs a user's own code: the module's, or that of a function for its weights."""
    return study.model.kind() == "module" or is_function(study.fine_tuning.weights)


def _check_same(request: StudyRequest, study: DescribedStudy) -> None:
    """Refuse a request whose summary (which the limits check) differs from its study (which is trained)."""
    federation = study.arm.federation(study.spec)
    planned: dict[str, Json] = {
        "rounds": federation.shape.rounds,
        "local_epochs": federation.shape.local_epochs,
        "batch": federation.shape.batch,
        "algorithm": federation.algorithm.configuration(),
        "model": study.arm.study(study.spec).start.configuration(),
        "defences": [defence.configuration() for defence in study.arm.defences],
        "sites": len(study.roster),
        "study": study.spec.name,
        "code": runs_code(study.arm.study(study.spec)),
    }
    wording = request.to_json()
    for name, value in planned.items():
        if wording[name] != value:
            raise Refused(
                f"the request gives two values for {name}", remedy="run one release everywhere", where="request"
            )

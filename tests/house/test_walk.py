"""The walk of one training, traced: from `run` to an update it goes down through the folders and enters each once."""

from __future__ import annotations

import sys
from functools import cache
from itertools import groupby, pairwise
from pathlib import Path

import pytest

import consilium
from consilium import Study
from consilium.study.stages.training import TrainStage

SOURCE = Path(consilium.__file__).parent
PAGE = Path(__file__).parents[2] / "docs/explanation/architecture.md"
DOWN = ("api", "study/run", "study/executors", "study/stages", "federate", "federate/round", "federate/engines")
"""Whatever a training does at its sites is done below these."""
WALKS = {
    "local work": (*DOWN, "federate/client"),
    "a step of the algorithm": (*DOWN, "federate/client", "federate/algorithms"),
    "per-example gradients": (*DOWN, "federate/client", "defend/training", "learn/per_example"),
    "the site half of a defence": (*DOWN, "federate/client", "defend/update"),
}
MERGED = (*DOWN[:6], "defend/update")
"""Where the server reads an update: through the server half of the defence."""
CALLBACKS = ("federate", "study/stages")
"""The training calls what it was given: ``progress``, ``stop`` and ``guard``.  Nothing else leads back up."""


@cache
def folder(file: str) -> str | None:
    """The folder of a module of the package; None for any other, and for core, which every folder calls."""
    path = Path(file)
    if SOURCE not in path.parents:
        return None
    name = path.parent.relative_to(SOURCE).as_posix()
    return None if name == "core" else name


def walk(frame) -> tuple[str, ...]:
    """The folders on the stack of a call, outermost first, each as often as it is entered."""
    names = []
    while frame is not None:
        names.append(folder(frame.f_code.co_filename))
        frame = frame.f_back
    return tuple(name for name, _ in groupby(name for name in reversed(names) if name is not None))


def entered_again(chain) -> list[str]:
    """Folders of ``study`` and ``federate`` that the walk enters more than once; a callback ends it."""
    rooms = [name for name, _ in groupby(name for name in chain if name.startswith(("study", "federate")))]
    for at, pair in enumerate(pairwise(rooms)):
        if pair == CALLBACKS:
            rooms = rooms[: at + 1]
            break
    return sorted({name for name in rooms if rooms.count(name) > 1})


@pytest.fixture(scope="module")
def walks(tmp_path_factory):
    """Every walk of four small trainings, with what was called at its end."""
    walks, run = {}, TrainStage.run

    def note(frame, event, _):
        if event == "call" and folder(frame.f_code.co_filename) is not None:
            walks.setdefault(walk(frame), frame.f_code.co_qualname)

    def traced(stage, context):
        sys.setprofile(note)
        try:
            run(stage, context)
        finally:
            sys.setprofile(None)

    study = {
        "name": "walk",
        "seeds": [0],
        "threads": 1,
        "data": {"kind": "digits", "sites": 2, "partition": "iid"},
        "model": {"kind": "logistic"},
        "federation": {
            "kind": "fed-avg", "engine": "loop", "rounds": 2, "local-epochs": 1, "batch": 256, "lr": 0.1
        },
        "vary": {
            "privacy": [{"kind": "dp-sgd", "epsilon": 8.0, "delta": 1e-3, "clip": 1.0}],
            "compression": [{"kind": "top-k", "share": 0.1}],
        },
        "attacks": [{"kind": "loss-threshold"}],
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainStage, "run", traced)
        outcome = Study.of(study).run(tmp_path_factory.mktemp("walk"), quiet=True, executor="serial").outcome
    assert outcome.trained == 4 and not outcome.failed
    return walks


def test_a_training_enters_each_folder_once(walks):
    again = {(chain, *entered_again(chain)): name for chain, name in walks.items() if entered_again(chain)}
    assert again == {}


@pytest.mark.parametrize("what", WALKS)
def test_the_walk_is_the_one_of_the_architecture(walks, what):
    assert WALKS[what] in walks


def test_the_server_reads_updates_above_the_engine(walks):
    assert MERGED in walks
    assert not any("federate/engines" in chain and chain[-1] == "federate/round" for chain in walks)


def test_the_page_shows_it():
    lines = [line.split() for line in PAGE.read_text().splitlines()]
    for name in {name for chain in (*WALKS.values(), MERGED) for name in chain}:
        assert any(line[:1] == [name] for line in lines), name


@pytest.mark.parametrize(
    ("chain", "again"),
    [
        ((*DOWN, "federate/client"), []),
        ((*DOWN, "federate/round"), ["federate/round"]),  # as it was: the engine drove, and the merge pulled from it
        (("study/stages", "federate", "learn", "federate"), []),  # what learn calls was given to it
        (("study/stages", "federate", "study/stages", "study/evaluate"), []),  # progress
        (("study/stages", "study/executors", "study/stages"), ["study/stages"]),
    ],
)
def test_a_second_entry_is_noticed(chain, again):
    assert entered_again(chain) == again

"""The report's sentences: the question, the statement on privacy that opens the page, each claim in full.

The wording is fixed (LAWS 13, 14): what a claim of differential privacy covers is stated with it, every time, and
adjectives that claim more are not used.
"""

from __future__ import annotations

from consilium.core.rounding import round_down
from consilium.evidence.privacy import ClaimEvidence
from consilium.report.answer.wording import join_words
from consilium.report.load.numbers import number
from consilium.report.load.records import StudyRecord

__all__ = ["claim_sentence", "privacy_statement", "question", "right_answer"]

_REPLAYABLE = (
    "replayable: the claim is of the method. It does not protect this model's records from whoever knows the noise "
    "seed, which is in the evidence and from which the noise can be recomputed"
)
_RECOMPUTED = (
    "Do not release these models as private: their noise can be recomputed from the seed. Their ε says what the method "
    "guarantees with noise that nobody can recompute, which sites on their own machines draw (a deployment)."
)
_UNNAMED = {"table": "their tables", "npz": "their arrays", "image-folder": "their pictures"}
"""Sources whose name says nothing of the data."""


def question(study: StudyRecord) -> str:
    """The study's question in one sentence; as the study words it, if it does."""
    wording = study.question or study.study.get("question") or study.study.get("description")
    if wording:
        return str(wording)
    axes = [f"{axis} ({join_words([x for x in labels if x != 'none'], 'or')})" for axis, labels in study.axes.items()]
    sites, kind, name = len(study.data.sites), _kind(study, "model"), study.data.name
    data = _UNNAMED.get(name, name) or "their records"
    model = f"one model ({kind})" if kind and kind != "module" else "one model"
    who = (
        f"{sites} sites train {model} on {data}"
        if sites > 1
        else f"{model} is trained on {data.removeprefix('their ')}"
    )
    if not axes:
        return f"What can an adversary take from it or do to it when {who}?"
    if len(axes) == 1:
        return f"What does {axes[0]} gain, and what does it cost, when {who}?"
    return f"What do {join_words(axes)} gain and cost, alone and together, when {who}?"


def right_answer(study: StudyRecord) -> str:
    """When an answer counts as right, where the task is another than one class a record; else empty."""
    data = study.resolved.get("data")
    task = data.get("task") if isinstance(data, dict) else None
    if not isinstance(task, dict) or task.get("kind") in (None, "single-label"):
        return ""
    knobs = ", ".join(f"{name} = {value}" for name, value in task.items() if name != "kind" and value is not None)
    return f"Accuracy counts the records that are right as the task {task['kind']} has it{f' ({knobs})' * bool(knobs)}."


def privacy_statement(study: StudyRecord) -> tuple[str, ...]:
    """What the claims on this page cover and what they do not, in a few sentences."""
    done = [cell for cell in study.evidence if cell.judged]
    bare = [cell for cell in done if cell.privacy.epsilon is None]
    claimed = len(done) - len(bare)
    noise = [claim.noise for cell in done for claim in cell.privacy.claims]
    texts = [_RECOMPUTED] if any(mode.startswith("replayable") for mode in noise) else []
    if not claimed:
        return ("No model here claims differential privacy: no finite epsilon bounds what they reveal of a record.",)
    texts.append("A claim of differential privacy holds for one released model, not for a folder of them.")
    models = f"This folder holds the evidence of {len(done)} model{'s' * (len(done) != 1)} of the same records"
    if bare:
        texts.append(f"{models}; {_without(len(bare))} no epsilon. Taken together they have no finite epsilon.")
    elif claimed > 1:
        texts.append(f"{models}. What they cost together was not computed, and no finite epsilon is claimed for it.")
    texts.append("Releasing one model keeps its own claim only if the others, and this folder, stay unreleased.")
    return tuple(texts)


def _without(count: int) -> str:
    return f"{count} of them {'claims' if count == 1 else 'claim'}"


def claim_sentence(claim: ClaimEvidence) -> str:
    """One claim in full: epsilon, delta, unit, adjacency, against whom, sampler, accountant and noise."""
    site = claim.site
    site = f"{site.capitalize()}: " if site == "every site" else f"Site {site}: " if site else ""
    epsilon, delta = _written(claim.epsilon), _written(claim.delta)
    head = f"{site}(ε = {epsilon}, δ = {delta})-differential privacy of one {claim.unit or 'unnamed unit'}"
    head += f", {claim.adjacency or 'adjacency not stated'}, against {claim.against or 'an unnamed adversary'}."
    return f"{head} {_mechanism(claim)} Noise is {_noise(claim.noise)}."


def _mechanism(claim: ClaimEvidence) -> str:
    """How it was done and who counted; what a claim leaves open is left out."""
    sigma = None if claim.noise_multiplier is None else round_down(claim.noise_multiplier, 6)
    numbers = (claim.n, claim.batch_size, sigma, claim.steps)
    names = ("n", "expected batch", "noise multiplier", "steps")
    known = [f"{name} {_count(value)}" for name, value in zip(names, numbers, strict=True) if value is not None]
    text = ", ".join([claim.sampler or "sampler not stated", *known])
    return f"{text[:1].upper()}{text[1:]}; accountant {claim.accountant or 'not stated'}."


def _noise(mode: str) -> str:
    if mode.startswith("replayable"):
        return _REPLAYABLE
    return "secret: its key stream is not in the evidence" if mode == "secret" else mode or "of an unstated mode"


def _count(value: float | str) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _written(value: float | None) -> str:
    return "?" if value is None else number(value, "epsilon")


def _kind(study: StudyRecord, what: str) -> str:
    for source in (study.resolved, study.study):
        entry = source.get(what)
        if isinstance(entry, dict) and entry.get("kind"):
            return str(entry["kind"])
    return ""

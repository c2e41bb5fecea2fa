"""One cell as the page shows it: claims as sentences, findings by aim, costs, configuration, what it ran on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from consilium.core.count_words import count_words
from consilium.core.finding import Measure
from consilium.evidence.round import RoundEvidence
from consilium.evidence.study import DataEvidence
from consilium.evidence.why import WHY
from consilium.report.analyse.aggregation import MergeView, merge_view
from consilium.report.analyse.audits import Audit, audits
from consilium.report.analyse.many_sites import MANY, Presence, presence
from consilium.report.analyse.robustness.less_noise import less_noise_note
from consilium.report.analyse.roc import threshold_rates
from consilium.report.load.numbers import interval, number, style_of
from consilium.report.load.records import CellRecord, FindingRecord, StudyRecord

from .claim_text import claim_sentence
from .gallery import Example, allowance, examples, no_pictures

__all__ = ["CellView", "FindingView", "Line", "cell_views"]

_AIMS = ("evasion", "poisoning", "membership", "attribute", "reconstruction", "extraction", "linkage", "shift")

_NAMES = {
    "auroc": "AUROC",
    "brier_score": "Brier score",
    "generalisation_gap": "generalisation gap of the accuracy",
    "generalisation_gap_loss": "generalisation gap of the loss",
    **{
        f"margin_{pool}_q{q}": f"logit margin, {pool.replace('_', '-')}, {int(q)} % quantile"
        for pool in ("members", "non_members")
        for q in ("05", "25", "50", "75", "95")
    },
    "robust_accuracy": "robust accuracy, at most",
    "balanced_robust_accuracy": "balanced robust accuracy, at most",
    "success_rate": "success rate, at least",
    **{
        f"{name}_{who}": f"{label}, attacker {knows}"
        for name, label in (
            ("detection_auc", "AUC of the detector"),
            ("detection_tpr_at_fpr_5", "TPR of the detector at 5 % FPR"),
        )
        for who, knows in (("plain", "does not know it"), ("adaptive", "knows it"))
    },
    "false_positive_rate": "clean records rejected",
    "robust_accuracy_with_rejection": "robust accuracy with rejection, at most",
    "robust_accuracy_with_rejection_plain": "robust accuracy with rejection, attacker does not know the detector",
    "auc": "AUC",
    "mean_linf": "mean L∞ of the change",
    "mean_l2": "mean L2 of the change",
    "tpr_at_fpr_1": "TPR at 1 % FPR",
    "tpr_at_fpr_0.1": "TPR at 0.1 % FPR",
    "advantage_bound": "advantage, at most by the claim",
    "auc_bound": "AUC, at most by the claim",
    "tpr_at_fpr_1_bound": "TPR at 1 % FPR, at most by the claim",
    "tpr_at_fpr_0.1_bound": "TPR at 0.1 % FPR, at most by the claim",
    "audited_epsilon": "audited ε (no assumption)",
    "audited_epsilon_gaussian": "audited ε (Gaussian taken for granted)",
    "canary_auc": "AUC on canaries",
}


_WITHOUT_CHANCE = ("mean_linf", "mean_l2")
"""Sizes of a change: 0 is no change, and nobody's guess."""


@dataclass(frozen=True)
class Line:
    """A measure written out; ``why`` it is one to look at."""

    name: str
    value: str
    between: str
    chance: str
    n: str
    reason: str
    why: str = ""

    @property
    def missing(self) -> bool:
        """True where there is no figure, but a reason."""
        return self.value == number(None) and bool(self.reason)


@dataclass(frozen=True)
class FindingView:
    """A finding with its measures written out and, unless shared, its images; ``threshold`` is the value behind an
    advantage, and how it differs from the AUC; ``no_pictures`` why there are none.
    """

    record: FindingRecord
    lines: tuple[Line, ...]
    knobs: str
    examples: tuple[Example, ...]
    threshold: str = ""
    no_pictures: str = ""


@dataclass(frozen=True)
class CellView:
    """Everything the template needs of one cell."""

    record: CellRecord
    code: str
    claims: tuple[str, ...]
    largest: str
    audits: tuple[Audit, ...]
    utility: tuple[Line, ...]
    mediators: tuple[Line, ...]
    cost: tuple[Line, ...]
    findings: tuple[tuple[str, tuple[FindingView, ...]], ...]
    documents: tuple[tuple[str, str], ...]
    presence: tuple[Presence, ...]
    merge: MergeView | None
    aborted: tuple[str, ...]
    judged: str
    refused: tuple[str, ...]
    notes: tuple[str, ...]
    flags: tuple[str, ...]
    less_noise: str


def cell_views(study: StudyRecord, codes: Mapping[str, str], *, share: bool) -> tuple[CellView, ...]:
    """All cells in the order of the study; with ``share`` no example of a record is read at all."""
    most = 0 if share else allowance(study.evidence, study.data.shape)
    return tuple(_view(study, cell, codes.get(cell.arm, "?"), most) for cell in study.evidence)


def _view(study: StudyRecord, cell: CellRecord, code: str, most: int) -> CellView:
    rounds = study.rounds.get(cell.training or "", ())
    return CellView(
        record=cell,
        code=code,
        claims=_claims(cell),
        presence=presence(rounds, len(study.data.sites)),
        merge=merge_view(cell),
        aborted=tuple(f"Round {r.round}: aborted, {r.aborted}" for r in rounds if r.aborted),
        judged=_assessment_note(rounds, len(study.data.sites)),
        largest=_largest(cell),
        audits=audits(cell),
        utility=tuple(_line(measure) for measure in cell.utility),
        mediators=tuple(_line(measure) for measure in cell.mediators),
        cost=(*(_line(measure) for measure in cell.cost), *_spent(cell)),
        findings=tuple(_by_aim(cell, study.data, most)),
        documents=tuple(_documents(cell)),
        refused=_first([f"Round {r.round}: {one.site}: {one.reason}" for r in rounds for one in r.refused]),
        flags=cell.red_flags,
        less_noise=less_noise_note(study, cell),
        notes=tuple(note for note in cell.notes if note not in study.data.notes and not note.startswith("data: ")),
    )


def _claims(cell: CellRecord) -> tuple[str, ...]:
    """A sentence a claim; one for all claims with equal text if there are many."""
    claims = cell.privacy.claims
    if len(claims) <= MANY:
        return tuple(claim_sentence(claim) for claim in claims)
    alike: dict[str, list[str]] = {}
    for claim in claims:
        alike.setdefault(claim_sentence(replace(claim, site="")), []).append(claim.site)
    return tuple(
        f"{count_words(len(sites), 'site')}, such as {sites[0]}: {sentence}" for sentence, sites in alike.items()
    )


def _assessment_note(rounds: Sequence[RoundEvidence], sites: int) -> str:
    """Who judged the model after the last round, where it was not every site after every round."""
    if not rounds or all(len([p for p in r.sites if p.accuracy is not None]) == sites for r in rounds):
        return ""
    answers = [p for p in rounds[-1].sites if p.accuracy is not None]
    after = sum(bool(r.sites) for r in rounds)
    others = ": the others have too few to judge on, or no consent" if len(answers) < len(rounds[-1].sites) else ""
    return (
        f"After {after} of {count_words(len(rounds), 'round')}; after the last, {len(rounds[-1].sites)} of "
        f"{count_words(sites, 'site')} were queried "
        f"and {len(answers)} answered, for {count_words(sum(p.n for p in answers), 'record')}{others}."
    )


def _first(lines: Sequence[str]) -> tuple[str, ...]:
    more = len(lines) - MANY
    return (*lines[:MANY], *([f"and {more} more, in rounds.jsonl"] if more > 0 else []))


def _largest(cell: CellRecord) -> str:
    """The sentence of the claim that ``privacy.epsilon`` is the epsilon of."""
    fitting = [claim for claim in cell.privacy.claims if claim.unit == cell.privacy.unit]
    sizes = [float(claim.epsilon) for claim in fitting if claim.epsilon is not None]
    return claim_sentence(fitting[sizes.index(max(sizes))]) if sizes and len(sizes) == len(fitting) else ""


def _by_aim(cell: CellRecord, data: DataEvidence, most: int) -> list[tuple[str, tuple[FindingView, ...]]]:
    aims_here = dict.fromkeys(finding.aim for finding in cell.attacks)
    aims = sorted(aims_here, key=lambda aim: _AIMS.index(aim) if aim in _AIMS else len(_AIMS))
    return [(aim, tuple(_finding(finding, data, most) for finding in cell.aimed(aim))) for aim in aims]


def _finding(finding: FindingRecord, data: DataEvidence, most: int) -> FindingView:
    parameters = {name: value for name, value in finding.configuration.items() if name != "kind" and value is not None}
    knobs = ", ".join(f"{name} = {_compact(value)}" for name, value in parameters.items())
    evades = finding.aim == "evasion"
    shown = examples(finding, data.classes, most) if evades else ()
    why = no_pictures(finding, data.shape, share=not most) if evades and not shown else ""
    lines = tuple(_line(measure) for measure in finding.measures)
    return FindingView(finding, lines, knobs, shown, _threshold(finding), why)


def _threshold(finding: FindingRecord) -> str:
    rates = threshold_rates(finding) if finding.aim == "membership" else None
    if rates is None:
        return ""
    return (
        f"Advantage: at one threshold, set on other records, {rates[0]:.1%} of members (true positive rate) and "
        f"{rates[1]:.1%} of non-members (false positive rate) are taken for members. AUC: over all thresholds. So one "
        "may lie above chance where the other does not."
    )


def _line(measure: Measure) -> Line:
    style = style_of(measure)
    return Line(
        name=_NAMES.get(measure.name) or measure.name.replace("_", " "),
        value=number(measure.value, style),
        between=interval(measure.low, measure.high, style),
        chance="" if measure.chance is None or measure.name in _WITHOUT_CHANCE else number(measure.chance, style),
        n=_size(measure),
        reason=_below_chance(measure) or measure.reason,
        why=WHY.get(measure.name.partition("[")[0], ""),
    )


def _size(measure: Measure) -> str:
    """Records, and the patients that they are of where some have several."""
    of = f" of {count_words(measure.unit_count, 'patient')}" if measure.unit_count else ""
    return f"{measure.n:,}{of}" if measure.n else ""


def _below_chance(measure: Measure) -> str:
    """A figure of membership whose whole interval lies below chance."""
    if measure.name not in ("advantage", "auc") or measure.high is None or measure.chance is None:
        return ""
    if measure.high >= measure.chance:
        return ""
    return "wholly below chance: who inverts the guess is above it by as much, so this is leakage too"


def _spent(cell: CellRecord) -> list[Line]:
    """Seconds per stage, as cost."""
    return [Line(f"{what} time", number(value, "seconds"), "", "", "", "") for what, value in cell.seconds.items()]


def _documents(cell: CellRecord) -> list[tuple[str, str]]:
    """What is shown as written, under a heading each; what the evidence does not hold is left out."""
    names = (
        ("Configuration as given", ("given",)),
        ("Configuration as resolved", ("resolved",)),
        ("Code, packages and seeds", ("code", "packages", "seeds", "engine")),
        ("Hardware", ("hardware",)),
        ("Digests", ("training", "model")),
    )
    documents = [(title, {key: getattr(cell, key) for key in keys if getattr(cell, key)}) for title, keys in names]
    return [(title, _json(content[keys[0]] if len(keys) == 1 else content))
            for (title, content), (_, keys) in zip(documents, names, strict=True) if content]  # fmt: skip


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)

"""The sign-off sheet: one page of Markdown that a site's officer reads and signs before the site joins.

    study | what leaves the site | what is promised about privacy | what its limits say | code | keys | signatures

An epsilon is put in odds too.  Whoever guesses, with even odds beforehand, whether one record took part is right with
probability at most (e^epsilon + delta) / (e^epsilon + 1).

Source: Kairouz et al. 2015, The Composition Theorem for Differential Privacy, arXiv 1311.0776 (theorem 2.1)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from importlib.metadata import version

from consilium.core.count_words import count_words
from consilium.core.plain import Json
from consilium.core.rounding import round_up
from consilium.core.terminal import one_line
from consilium.deploy.site.policy import SiteLimits
from consilium.measure.accounting.privacy import Claim

from .terms import SiteTerms, TrainingTerms

__all__ = ["greatest_certainty", "sheet"]

_LEDGER = (
    "What earlier studies have spent stands in the site's ledger alone: the budget is judged there, on its own "
    "records, before the first round."
)
_ROLES = ("responsible for the records", "data protection officer", "operator of the site")


def sheet(terms: SiteTerms, keys: Sequence[str] = ()) -> str:
    """The page of ``terms``; ``keys`` are lines about certificates and keys."""
    request = terms.trainings[0].request
    parts = [
        f"# {_text(terms.site)} in the study {_text(request.study)}: sign-off sheet",
        *_study(terms),
        "## What leaves the site",
        *_sent(terms),
        "## What is promised about privacy",
        *_promises(terms),
        "## What this site's limits say",
        *_limits(terms),
        "## Which code runs",
        *_code(terms),
        "## Certificates and keys",
        *(keys or ("- not named on this sheet: compare fingerprints by telephone before the site joins",)),
        "## Signatures",
        "| role | name | date | signature |",
        "|---|---|---|---|",
        *(f"| {role} | | | |" for role in _ROLES),
    ]
    return _spaced(parts)


def greatest_certainty(epsilon: float, delta: float) -> float:
    """The largest probability of a right guess whether one unit took part, at even odds beforehand."""
    return min(1.0, (1 + delta * math.exp(-epsilon)) / (1 + math.exp(-epsilon)))


def _study(terms: SiteTerms) -> Iterator[str]:
    yield f"- digest of the study: `{terms.digest}`"
    yield f'- takes part only in this study, word for word: `studies = ["{terms.digest}"]` in the site\'s limits'
    yield f"- sites: {', '.join(_text(name) for name in terms.sites)}"
    patients = f" of {terms.counts.patients} patients" if terms.counts.patients else ""
    yield f"- worked out for {terms.counts.records} training records{patients} at every site"
    yield f"- {count_words(len(terms.trainings), 'training')} on the same records, each described below"


def _sent(terms: SiteTerms) -> Iterator[str]:
    yield "No record, attribute, name or file leaves. What leaves is"
    yield "- once: the numbers of training and validation records and of patients, and a digest of columns and classes"
    yield "- after each round of each training: one update, as below"
    yield f"- {_assessments(terms.limits)}"
    yield "- in place of any of these: one line with the reason of a refusal"
    yield "| training | algorithm | rounds | epochs a round | numbers in an update | bytes a round | bytes in all |"
    yield "|---|---|---|---|---|---|---|"
    for one in terms.trainings:
        request = one.request
        cells = (one.request.algorithm["kind"], request.rounds, request.local_epochs)
        sizes = (f"{one.numbers:,}", f"{one.bytes:,}", f"{one.bytes * request.rounds:,}")
        yield f"| {_name(one)} | {' | '.join(map(str, (*cells, *sizes)))} |"
    yield "Bytes are those of float32 before any compression that an arm names, and without the frame of a message."


def _assessments(limits: SiteLimits | None) -> str:
    known = limits or SiteLimits()
    if not known.assess:
        return "never: accuracy or loss on this site's records (`assess = false`)"
    most = f"at most {known.max_assessments:,} times over all studies"
    return f"accuracy and loss on {known.minimum_count} validation records or more, {most}"


def _promises(terms: SiteTerms) -> Iterator[str]:
    for one in terms.trainings:
        if not one.claims:
            yield f"- **{_name(one)}: no differential privacy.** {_OPEN}"
        for claim in one.claims:
            yield f"- **{_name(one)}**: {_promise(claim)}"
    if len(terms.trainings) > 1:
        yield f"- **All {len(terms.trainings)} trainings together**: {_together(terms)}"


_OPEN = "The server can read each update, and may find records in it; nothing bounds what the models show."


def _promise(claim: Claim) -> str:
    whom = f"against {claim.against}"
    numbers = f"epsilon = {round_up(claim.epsilon)}, delta = {round_up(claim.delta)} per {claim.unit}"
    if claim.unit == "label":
        return f"{numbers} ({claim.adjacency}), {whom}: labels are exchanged at random before training."
    return f"{numbers} ({claim.adjacency}), {whom}. {_odds(claim.epsilon, claim.delta, claim.unit)}"


def _odds(epsilon: float, delta: float, unit: str) -> str:
    percent = math.ceil(1000 * greatest_certainty(epsilon, delta)) / 10
    whose = {"example": "record", "patient": "patient's records", "site": "site's records"}.get(unit, unit)
    return f"Whoever guesses whether one {whose} took part, at even odds, is right in at most {percent:g} of 100 cases."


def _together(terms: SiteTerms) -> str:
    total = terms.together()
    if total is None:
        return "no common bound, since not all of them have differential privacy of one unit."
    epsilon, delta, unit = total
    numbers = f"epsilon = {round_up(epsilon)}, delta = {round_up(delta)} per {unit}"
    return f"{numbers} (add-or-remove-one). {_odds(epsilon, delta, unit)}"


def _limits(terms: SiteTerms) -> Iterator[str]:
    if terms.limits is None:
        yield "- none are given: those of a site without a file hold, with **no budget and nothing required**"
    else:
        yield f"- {_budget(terms.limits)}"
    for one in terms.trainings:
        verdict = (
            "allowed, of records that have spent nothing yet"
            if one.refusal is None
            else f"**refused**: {_text(str(one.refusal))}"
        )
        yield f"- {_name(one)}: {verdict}"
    yield f"- {_LEDGER}"


def _budget(limits: SiteLimits) -> str:
    budget = limits.budget
    if budget.epsilon is None:
        return "no budget of epsilon: studies without differential privacy are allowed"
    bound = f"epsilon = {budget.epsilon:g}, delta = {budget.delta:g} per {budget.unit} ({budget.adjacency})"
    return f"budget over all studies: {bound}; a study without differential privacy is refused"


def _code(terms: SiteTerms) -> Iterator[str]:
    yield f"- Consilium {version('consilium')}, as it is installed at the site; no code travels in either direction"
    models = [one.request.model for one in terms.trainings]
    for path in sorted({str(model["path"]) for model in models if model.get("kind") == "module"}):
        yield f"- **a user's own code**: the model `{_text(path)}`, installed at the site; needs `allow-code = true`"
    for weights in sorted(
        {str(table["weights"]) for table in map(_model_table, terms.trainings) if "weights" in table}
    ):
        yield f"- the model starts from `{_text(weights)}`, which must be the same at every site"
    for mark in sorted({str(one.request.plan["constants"]) for one in terms.trainings} - {""}):
        yield f"- frozen parameters are never sent; their digest must be `{mark}` here"


def _model_table(one: TrainingTerms) -> dict[str, Json]:
    """The study's own table of the model, in which the place of the weights stands."""
    tables = one.request.plan["tables"]
    model = tables.get("model") if isinstance(tables, dict) else None
    return model if isinstance(model, dict) else {}


def _name(one: TrainingTerms) -> str:
    return f"{_text(one.arm)} (seed {one.seed})"


def _text(words: str) -> str:
    """On one line, and no cell or mark of Markdown."""
    return one_line(words).replace("|", "/").replace("`", "'").replace("<", "(")


def _spaced(lines: Sequence[str]) -> str:
    """An empty line wherever a heading, a list, a table or a paragraph begins."""
    page, before = list[str](), ""
    for line in lines:
        kind = line[0] if line[0] in "#|-" else "text"
        if page and (kind != before or kind == "#"):
            page.append("")
        page.append(line)
        before = kind
    return "\n".join(page) + "\n"

"""What may be claimed of a training: planned from the schedule before it, and from the ledger after it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache
from typing import Any

from consilium.core.charge import Adjacency, Charge, Composed
from consilium.core.errors import Refused
from consilium.core.gradient import GradientRule, Schedule
from consilium.core.records import Consortium
from consilium.evidence.privacy import ClaimEvidence, PrivacyEvidence
from consilium.measure.accounting.privacy import CENTRAL, UNITS, Claim, claims, maximum
from consilium.study.build.factory import gradient_rule, schedule
from consilium.study.spec.arms import Arm
from consilium.study.spec.spec import TrainingSpec

__all__ = ["EVERY_SITE", "affordable", "central_claims", "claim_notes", "made_claims", "planned_claims",
           "privacy_record"]  # fmt: skip

EVERY_SITE = "every site"
"""Whose claim it is where the server's noise covers all sites alike."""


_PUBLIC = "Each site's number of training records is taken as public (LAWS 9), and of units: n-public = true."
_CENTRAL = (
    "The claim per site trusts the server, which sees each update and adds the noise. Who took part in a round must "
    "stay with it: rounds.jsonl and the sites' own assessments are not covered (LAWS 15)."
)
_LESS_NOISE = (
    "A corrupted site obeys no site half of a defence (LAWS 4): it does not clip, adds no noise, randomises no label. "
    "So this model holds less noise than its clean twin and may answer better; that is no gain of the infection."
)
_DELTA = 1e-5
"""Of a claim whose mechanism names none."""
_MANY = 100
"""Claims above which sites of the same claim share a sentence."""


def planned_claims(spec: TrainingSpec, arm: Arm, data: Consortium) -> tuple[Claim, ...]:
    """One claim per site and unit if every site takes part in every round: an upper bound when C < 1.

    Under a budget a site is charged for the rounds that it allows.  Where everybody takes part in every round, the
    first site to reach its budget ends the training for all.
    """
    federation = arm.federation(spec)
    rule = gradient_rule(arm)
    work = schedule(federation, rule)
    most, central = affordable(rule, work, data), central_claims(spec, arm, data)
    together = min(most.values(), default=work.rounds)
    if central:  # one claim for all, of the rounds that are planned
        together = min(together, *(claim.steps for claim in central))
    ledgers: dict[str, tuple[Charge, ...]] = {}
    for site in data.sites:
        n = rule.count(site.records.train)
        charge = rule.charge(n, work, most[site.id] if federation.shape.not_everyone else together)
        ledgers[site.id] = () if charge is None else (charge,)
    return (*made_claims(arm, data, ledgers, honest=tuple(ledgers)), *central)


def affordable(rule: GradientRule, work: Schedule, data: Consortium) -> dict[str, int]:
    """How many whole rounds each site's budget allows; all of them without one.

    Raises Refused: a site cannot meet its target; the error names the site.
    """
    most: dict[str, int] = {}
    for site in data.sites:
        try:
            n = rule.count(site.records.train)
            rule.charge(n, work, 1)
            most[site.id] = rule.most_rounds(n, work)
        except Refused as error:
            raise error.at(site.id) from None
    return most


def central_claims(spec: TrainingSpec, arm: Arm, data: Consortium) -> tuple[Claim, ...]:
    """What the server's noise claims of every site: charged on planned participations, aborted rounds too (LAWS 15)."""
    federation = arm.federation(spec)
    among = federation.cohort(len(data.sites))
    central: list[Claim] = []
    for defence in arm.merge:
        promise = defence.promise(among)
        if promise is not None:
            central += claims(
                EVERY_SITE,
                (Composed(promise.charge, promise.rounds),),
                n=len(data.sites),
                delta=promise.delta,
                adjacency=promise.adjacency,
                against=CENTRAL,
                sampler=promise.sampler,
            )
    return tuple(central)


def made_claims(
    arm: Arm,
    data: Consortium,
    ledgers: Mapping[str, Sequence[Charge]],
    honest: Sequence[str],
    deployed: Mapping[str, Any] | None = None,
) -> tuple[Claim, ...]:
    """Claims from what each honest site's ledger says was done; a claim covers honest sites only (LAWS 15).

    ``deployed`` is the engine's record where the sites are machines: their noise is secret, and ``records`` there says
    how many training records each declared.
    """
    rule, classes = gradient_rule(arm), len(data.classes)
    labels = tuple(charge for d in arm.data if (charge := d.charge(classes)) is not None)
    site_claims: list[Claim] = []
    covered, declared = frozenset(honest), {} if deployed is None else deployed.get("records", {})
    for site in data.sites:
        if site.id not in covered:
            continue
        n = int(declared.get(site.id, len(site.records.train)))
        charges = tuple(ledgers.get(site.id, ()))
        units = n if rule.unit == "example" else rule.count(site.records.train)
        delta = rule.delta if rule.delta is not None else _DELTA
        site_claims += _claims(site.id, charges, units, delta, rule.adjacency, rule.sampler)
        site_claims += _claims(site.id, labels, n, _DELTA)
    return tuple(site_claims if deployed is None else (replace(claim, noise="secret") for claim in site_claims))


@cache
def _claims(
    site: str,
    charges: tuple[Charge, ...],
    n: int,
    delta: float,
    adjacency: Adjacency = "add-or-remove-one",
    sampler: str = "",
) -> tuple[Claim, ...]:
    return claims(site, charges, n=n, delta=delta, adjacency=adjacency, sampler=sampler) if charges else ()


def privacy_record(all_claims: Sequence[Claim], notes: Sequence[str]) -> PrivacyEvidence:
    """``evidence.privacy``: the maximum over sites of one unit, null without a claim (LAWS 13)."""
    unit = next((u for u in UNITS if maximum(all_claims, u) is not None), None)
    return PrivacyEvidence(
        epsilon=None if unit is None else maximum(all_claims, unit),
        record_epsilon=max(
            (c.record_epsilon for c in all_claims if c.unit == unit and c.record_epsilon is not None), default=None
        ),
        delta=max((c.delta for c in all_claims if c.unit == unit), default=None),
        unit=unit,
        adjacency=next((c.adjacency for c in all_claims if c.unit == unit), None),
        claims=tuple(ClaimEvidence(**asdict(c)) for c in all_claims),
        statements=tuple(_statements(all_claims)),
        notes=tuple(notes),
    )


def _statements(all_claims: Sequence[Claim]) -> Iterator[str]:
    """One sentence a site; of many sites one for all that have the same claim."""
    alike: dict[str, list[str]] = {}
    several = len(all_claims) > _MANY
    for claim in all_claims:
        statement = claim.statement()
        alike.setdefault(statement if several else f"{claim.site}: {statement}", []).append(claim.site)
    for statement, sites in alike.items():
        yield f"{len(sites)} sites (such as {sites[0]}): {statement}" if several else statement


def claim_notes(spec: TrainingSpec, all_claims: Sequence[Claim], corrupted: Sequence[str]) -> list[str]:
    """What a claim leaves out, in words."""
    if not all_claims:
        return ["No differential privacy: nothing bounds what this model tells about a record."]
    secret = all(claim.noise == "secret" for claim in all_claims)
    twins = "" if secret else "  Arms and infected twins of one seed draw the same noise: never compose them."
    apart = "assumed: sites do not compare" if secret else "checked within this data set and assumed outside it"
    notes = [
        "The claim is of this one model; a study's folder, with its other arms and seeds on the same records, has no "
        f"finite epsilon (LAWS 14).{twins}",
        *([_PUBLIC] if any(claim.n_public for claim in all_claims) else []),
        "Per-round assessments are means over validation records, never trained on; no claim covers those.",
        f"No unit is at two sites: {apart} (LAWS 8).",
        *([_CENTRAL] if any(claim.unit == "site" for claim in all_claims) else []),
    ]
    if corrupted:
        notes.append(f"The claim covers honest sites only; {', '.join(corrupted)} obeyed no defence (LAWS 15).")
    if corrupted and any(claim.unit != "site" for claim in all_claims):
        notes.append(_LESS_NOISE)
    if spec.federation.shape.not_everyone:
        notes.append(
            "Each site is charged for the steps it took, whether or not its update arrived; the noise was set for all "
            "rounds.  Who takes part is drawn without a look at any record."
        )
    return notes

"""The budget stop: before a round that would overspend, training ends with the model of the last lawful round.

A round is planned whole: a site's steps so far and those of the round to come must be within what its budget allows,
else nobody trains.  Sites that are not in the cohort pay nothing.  Deployed, each site also refuses by its own ledger.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from consilium.core.charge import Charge, Composed
from consilium.core.records import Consortium
from consilium.federate.client.participant import SiteState
from consilium.study.build.factory import colluders, gradient_rule, schedule

from .nodes import TrainingNode
from .privacy_claims import affordable

__all__ = ["budget_stop"]

_Stop = Callable[[int, Iterable[str], Mapping[str, SiteState]], str | None]


def budget_stop(node: TrainingNode, data: Consortium) -> _Stop | None:
    """Why round ``number`` among a cohort must not be trained, None if it may; None where there is no budget at all."""
    federation, rule = node.federation, gradient_rule(node.arm)
    work = schedule(federation, rule)
    bad = colluders(node.corruption, data.sites, node.seed)
    steps = {site.id: work.steps(rule.count(site.records.train)) for site in data.sites}
    most = {site: rounds * steps[site] for site, rounds in affordable(rule, work, data).items() if site not in bad}
    among = federation.cohort(len(data.sites))
    promised = [p.rounds for defence in node.arm.merge if (p := defence.promise(among)) is not None]
    last = min(promised, default=work.rounds)
    if last == work.rounds and all(n == work.rounds * steps[site] for site, n in most.items()):
        return None

    def stop(number: int, sites: Iterable[str], states: Mapping[str, SiteState]) -> str | None:
        stopped = f"stopped before round {number} of {work.rounds}, with the model of the last round within budget"
        if number > last:
            return f"{stopped}: every site would overspend"
        for site in sites:
            paid = _steps(states[site].ledger) if site in states else 0
            if site in most and paid + steps[site] > most[site]:
                return f"{stopped}: {site} has made {paid} of {most[site]} lawful steps, and a round has {steps[site]}"
        return None

    return stop


def _steps(ledger: tuple[Charge, ...]) -> int:
    return sum(charge.count if isinstance(charge, Composed) else 1 for charge in ledger)

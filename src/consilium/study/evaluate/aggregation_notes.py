"""What a training's merges were made of: each site's weight and share, and the rounds that made no model.

A share is that of a round in which every site takes part; the largest that any site had in a round stands beside it.
Numbers of records are those that the sites of a deployment declared: a lie about them is a larger share, which is why
both are printed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from consilium.core.errors import Failed
from consilium.core.records import Consortium
from consilium.evidence.merge import LargestShare, MergeEvidence, SiteWeight
from consilium.evidence.round import RoundReport
from consilium.federate.round.weights import fewest_sites, limited, shares, site_weights
from consilium.federate.train import merged
from consilium.study.build.factory import weighing
from consilium.study.spec.arms import Arm
from consilium.study.spec.spec import TrainingSpec

__all__ = ["check_rounds", "corruption_notes", "merge_notes", "merge_record"]

_NAMED = 100
"""Sites that are listed, those that count most; the others are counted."""


def merge_record(
    spec: TrainingSpec, arm: Arm, data: Consortium, engine: object, rounds: Sequence[RoundReport]
) -> MergeEvidence:
    """``evidence.merge``: the sites with records, weight and share, and the largest share of any round.

    ``engine`` is the engine's record: where the sites are machines it says what they declared for this training.
    """
    federation = arm.federation(spec)
    declared = engine.get("records", {}) if isinstance(engine, Mapping) else {}
    records = {site.id: int(declared.get(site.id, len(site.records.train))) for site in data.sites}
    weights, most = site_weights(records, weighing(federation)), federation.shape.max_share
    counted = limited(weights, most) if len(weights) >= fewest_sites(most) else weights
    parts = shares(counted)
    largest = [one for one in (r.get("largest_share") for r in rounds) if one]
    most_of_all = max(largest, key=lambda one: one["share"], default=None)
    return MergeEvidence(
        kind="+".join(defence.kind() for defence in arm.merge) or "weighted-mean",
        weights=weighing(federation),
        max_share=most,
        sites=tuple(
            SiteWeight(site, records[site], counted[site], parts[site])
            for site in sorted(parts, key=lambda site: -parts[site])[:_NAMED]
        ),
        others=max(0, len(parts) - _NAMED),
        largest_share=None if most_of_all is None else LargestShare(most_of_all["site"], most_of_all["share"]),
    )


def check_rounds(rounds: Sequence[RoundReport], say: Callable[[str], None]) -> None:
    """Say which rounds were lost to refused updates or broken models; with most of them lost nothing was trained.

    Raises Failed: more than half of the ``rounds`` were lost so, or none of them made a model.
    """
    lost = _lost(rounds)
    for note in merge_notes(rounds):
        say(note)
    if lost and 2 * len(lost) > len(rounds):
        raise Failed(
            f"{len(lost)} of {len(rounds)} rounds made no model (rounds {_numbers(lost)}): {_why(lost[-1])}",
            remedy="leave out the sites that are refused, or mend them, and train under another name",
        )
    if rounds and all(r.get("aborted") for r in rounds):
        raise Failed(
            f"none of {len(rounds)} rounds made a model, so what would be released is the untrained start: "
            f"{rounds[-1].get('aborted')}",
            remedy="use a larger fraction or availability, a smaller minimum-cohort, or more rounds",
        )


def merge_notes(rounds: Sequence[RoundReport]) -> list[str]:
    """Sentences for rounds that made no model: too few updates, refused ones or broken models; none without any."""
    lost, absences = (
        _lost(rounds),
        [r for r in rounds if r.get("aborted") and not (r.get("refused") or r.get("broken"))],
    )
    notes = []
    if absences:
        summary = f"{len(absences)} of {len(rounds)} rounds made no model, as too few sites sent an update"
        notes.append(f"{summary} (rounds {_numbers(absences)})")
    if not lost:
        return notes
    summary = f"{len(lost)} of {len(rounds)} rounds made no model and left the last good one (rounds {_numbers(lost)})"
    return [*notes, f"{summary}; the last because: {_why(lost[-1])}"]


def corruption_notes(rounds: Sequence[RoundReport], corrupted: Sequence[str], acting: Sequence[int] = ()) -> list[str]:
    """What kept the ``corrupted`` sites out of the merge in the rounds in which they act; all where none is named.

    An attack whose update never counted looks like a defence that holds.
    """
    acted = [r for r in rounds if not acting or r["round"] in acting]
    silent = [r for r in acted if not merged(r).intersection(corrupted)]
    notes = []
    if corrupted and silent:
        why = f"{len(silent)} of {len(acted)} rounds in which it acts (rounds {_numbers(silent)})"
        notes.append(f"The corruption is not in the model of {why}: no update of a corrupted site was merged.")
    refused = [(r["round"], one) for r in acted for one in r.get("refused", ()) if one["site"] in corrupted]
    for site in dict.fromkeys(one["site"] for _, one in refused):
        times = [(number, one["reason"]) for number, one in refused if one["site"] == site]
        notes.append(
            f"The server refused {site}, which is corrupted, in {len(times)} of {len(acted)} rounds; in round "
            f"{times[-1][0]} because: {times[-1][1]}"
        )
    return notes


def _lost(rounds: Sequence[RoundReport]) -> list[RoundReport]:
    """Rounds without a model in which something was refused; simulated absence alone is no fault."""
    return [r for r in rounds if r.get("aborted") and (r.get("refused") or r.get("broken"))]


def _why(lost: RoundReport) -> str:
    refused = [f"{one['site']}: {one['reason']}" for one in lost.get("refused", ())]
    return "; ".join([str(lost["aborted"]), *refused[:5]])


def _numbers(lost: Sequence[RoundReport]) -> str:
    named = ", ".join(str(r["round"]) for r in lost[:20])
    return named if len(lost) <= 20 else f"{named} and {len(lost) - 20} more"

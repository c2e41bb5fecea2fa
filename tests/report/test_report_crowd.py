"""Many sites are counted, not listed; who took part is added up; the page says who judged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from consilium.evidence.privacy import ClaimEvidence, PrivacyEvidence
from consilium.evidence.round import RefusedSite, RoundEvidence, SitePoint
from consilium.evidence.study import DataEvidence
from consilium.report.analyse.many_sites import MANY, bands, pools, presence
from consilium.report.load.records import CellRecord
from consilium.report.render.cell import _assessment_note, _claims
from consilium.report.render.figures import curves
from consilium.report.render.heatmap import partition_tiles


def data(counts, **pools):
    sites = tuple(f"site-{k}" for k in range(len(counts[0])))
    return DataEvidence("toy", "", True, (6,), ("a", "b"), sites, tuple(map(tuple, counts)), pools)


def crowd(sites=1000, seed=0):
    return np.random.default_rng(seed).integers(0, 30, (2, sites)).tolist()


def a_round(number=1, **changes):
    plain = {"seconds": 1.0, "bytes_up": 1.0, "bytes_down": 1.0, "mean_accuracy": None, "worst_accuracy": None}
    plain |= {"mean_loss": None, "cohort": ("a", "b"), "sites": (), "refused": ()}
    return RoundEvidence(round=number, **plain | changes)


def test_bands_hold_every_site_and_every_record() -> None:
    counts = np.array(crowd())
    made = bands(data(counts.tolist()))
    sizes = counts.sum(axis=0)
    assert sum(band.records for band in made) == sizes.sum()
    assert sum(band.sites for band in made) == (sizes > 0).sum()
    for band in made:
        of = (sizes >= band.low) & (sizes <= band.high)
        assert of.sum() == band.sites and band.labels == pytest.approx((counts[:, of] > 0).sum(axis=0).mean())


def test_few_sites_are_listed_and_many_are_not() -> None:
    few, many = data(crowd(MANY)), data(crowd(MANY + 1))
    assert bands(few) == () and len(partition_tiles(few)[0]) == MANY
    assert bands(many) and partition_tiles(many) == ()
    assert pools(data(crowd(3), train=[3, 0, 5], test=9)) == {"train": "3, 0, 5", "test": "9"}
    told = pools(data(crowd(200), train=[0] * 50 + [4] * 150))["train"]
    assert told == "600 at 200 sites, 0 to 4 each; 50 have none"


def test_presence_adds_up_what_rounds_say() -> None:
    rounds = [
        a_round(1, absent_count=3, dropped=("a",)),
        a_round(2, absent_count=1, late=("b",), aborted="1 of 2 updates"),
        a_round(3, refused=(RefusedSite("b", "not finite"),), slow=("a",)),
    ]
    made = {line.what: (line.total, line.least, line.most) for line in presence(rounds, 2)}
    assert made == {
        "asked": (6, 2, 2),
        "merged": (2, 0, 1),
        "slow": (1, 0, 1),
        "late": (1, 0, 1),
        "dropped": (1, 0, 1),
        "refused": (1, 0, 1),
        "absent": (4, 0, 3),
    }
    assert presence([a_round(1), a_round(2)], 2) == () == presence([], 2)
    assert [line.what for line in presence([a_round(1)], 5)] == ["asked", "merged"]


def test_who_judged_is_said_where_it_was_not_everybody_every_time() -> None:
    told, silent = SitePoint("a", 7, 0.5, 1.0), SitePoint("b", 0, None, None)
    assert _assessment_note([a_round(1, sites=(told, replace(told, site="b")))], 2) == ""
    said = _assessment_note([a_round(1), a_round(2, sites=(told, silent))], 9)
    assert said.startswith(
        "After 1 of 2 rounds; after the last, 2 of 9 sites were queried and 1 answered, for 7 records: the o"
    )
    assert _assessment_note([a_round(1), a_round(2, sites=(told,))], 9).endswith(
        "1 of 9 sites were queried and 1 answered, for 7 records."
    )


def test_many_sites_are_not_drawn_one_by_one() -> None:
    few = tuple(SitePoint(f"s{k}", 7, 0.5, 1.0) for k in range(MANY))
    assert len(curves([a_round(1, sites=few)])["sites"]) == MANY
    assert curves([a_round(1, sites=(*few, SitePoint("one more", 7, 0.5, 1.0)))])["sites"] == {}


def test_equal_claims_of_many_sites_share_a_sentence() -> None:
    claims = tuple(ClaimEvidence(f"site-{k}", "example", epsilon=1.0 + k % 3, delta=1e-5) for k in range(300))
    record = PrivacyEvidence(3.0, 3.0, 1e-5, "example", claims=claims)
    cell = CellRecord(privacy=record)
    assert len(_claims(cell)) == 3 and _claims(cell)[0].startswith("100 sites, such as site-0: (ε = 1")
    few = replace(cell, privacy=replace(record, claims=claims[:5]))
    assert len(_claims(few)) == 5 and "site-4" in _claims(few)[4]

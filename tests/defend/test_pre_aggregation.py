"""What changes the updates before a rule: nearest-neighbour mixing against byzfl, buckets by their definition."""

import pytest
import torch

from consilium.core.errors import Refused
from consilium.core.merge import Cohort
from consilium.core.random import Stream
from consilium.core.update import Update
from consilium.defend.merge.bucketing import Bucketing
from consilium.defend.merge.foolsgold import FoolsGold
from consilium.defend.merge.krum import Krum
from consilium.defend.merge.median import Median
from consilium.defend.merge.nearest_neighbour_mixing import NearestNeighbourMixing
from consilium.defend.merge.trimmed_mean import TrimmedMean
from consilium.federate.round.merge_chain import chained, cohorts_seen


def test_mixing_is_byzfls(merging):
    """byzfl 0.0.11: NNM(f=2) of the rows, then TrMean(f=2)."""
    step = NearestNeighbourMixing(2)
    mixed = step.before(Median().merge(), Stream(0)).changed(merging.updates(merging.GRID))
    first = [-1.2222222222222223, -1.1111111111111112, 0.8888888888888888, 2.888888888888889]
    fifth = [-5.555555555555555, -6.333333333333333, -3.3333333333333335, -2.2222222222222223]
    for k, values in ((0, first), (4, fifth)):
        torch.testing.assert_close(mixed[k].payload["delta"], torch.tensor(values).double())
    out = merging(step.before(TrimmedMean(2).merge(), Stream(0)), merging.GRID)
    torch.testing.assert_close(out, torch.tensor(first).double())


def test_mixing_helps_krum_where_honest_sites_differ(merging):
    """Half of the sites see one half of the world each: Krum takes one side, mixed updates hold both."""
    g = torch.Generator().manual_seed(1)
    side = torch.tensor([1.0, -1.0]).repeat(5)[:, None]
    honest = 2 * side * torch.ones(10, 50) + 0.5 * torch.randn(10, 50, generator=g)
    rows = torch.cat([honest, torch.full((1, 50), 500.0)])
    plain = merging(Krum(1), rows)
    mixed = merging(NearestNeighbourMixing(1).before(Krum(1).merge(), Stream(0)), rows)
    truth = honest.mean(0)
    assert float((mixed - truth).norm()) < 0.2 * float((plain - truth).norm())


def test_buckets_are_means_of_a_few_and_no_update_is_in_two(merging):
    """Sum of the means by their sizes is the sum of the updates, in one draw as in another."""
    rows = torch.randn(7, 5, generator=torch.Generator().manual_seed(3))
    for seed in range(5):
        buckets = Bucketing(3).before(Median().merge(), Stream(seed)).changed(merging.updates(rows))
        assert [b.weight for b in buckets] == [3.0, 3.0, 1.0]
        total = sum(b.weight * b.payload["delta"] for b in buckets)
        torch.testing.assert_close(total, rows.sum(0), rtol=1e-5, atol=1e-5)
        assert any(torch.equal(buckets[2].payload["delta"], row) for row in rows)


def test_buckets_are_drawn_anew_in_each_round_from_an_address(merging):
    rows = torch.randn(8, 5, generator=torch.Generator().manual_seed(3))
    step = Bucketing(2).before(Median().merge(), Stream(4, ("merge",)))
    drawn = [[b.payload["delta"] for b in step.changed(merging.updates(rows, round=r))] for r in (1, 1, 2, 3, 4)]
    assert all(map(torch.equal, drawn[0], drawn[1]))
    assert not all(all(map(torch.equal, drawn[0], other)) for other in drawn[2:])


def test_the_rule_behind_buckets_sees_fewer_and_needs_more_sites():
    pairs = cohorts_seen((Bucketing(2), Krum(1)), Cohort(9, 3))
    assert [cohort.expected for _, cohort in pairs] == [9, 5]
    Krum(1).check_cohort(pairs[1][1])
    with pytest.raises(Refused, match=r"krum with byzantine = 1 needs 2f \+ 3 = 5 updates a round, and 4 are expected"):
        Krum(1).check_cohort(cohorts_seen((Bucketing(2), Krum(1)), Cohort(8, 3))[1][1])
    assert chained((Bucketing(2), Krum(1)), Cohort(9, 3), Stream(0)).least == 9


def test_a_round_of_too_few_is_refused_and_nine_make_five_buckets(merging):
    rule = chained((Bucketing(2), Krum(1)), Cohort(9, 3), Stream(0))
    with pytest.raises(Refused, match="8 updates came, and this merge needs 9"):
        merging(rule, torch.randn(8, 3))
    assert torch.isfinite(merging(rule, torch.randn(9, 3))).all()


def test_what_cannot_be_is_refused():
    with pytest.raises(Refused, match="one mean of the 4 updates that a round expects"):
        Bucketing(4).check_cohort(Cohort(4, 1))
    with pytest.raises(Refused, match="remembers each site cannot stand behind bucketing"):
        Bucketing().before(FoolsGold().merge(), Stream(0))
    with pytest.raises(Refused, match="size: 1 is out of range"):
        Bucketing(1)
    with pytest.raises(Refused, match=r"2f \+ 1 = 5 updates a round, and 4 are expected"):
        NearestNeighbourMixing(2).check_cohort(Cohort(4, 1))


def test_the_broadcast_and_the_parts_of_the_rule_behind_pass_through():
    class Asking(type(Median().merge())):
        def broadcast_memory(self, memory):
            return {"asked": torch.ones(1)}

        def expects(self):
            return {"more": (1,)}

    step = Bucketing().before(Asking(), Stream(0))
    assert step.broadcast_memory({}).keys() == {"asked"} and step.expects() == {"more": (1,)}
    assert step.reads == "each" and not step.streams


def test_a_site_that_sends_nonsense_is_in_no_bucket_and_no_neighbourhood():
    rows = [[1.0, 2.0]] * 6 + [[float("nan"), float("inf")]]
    updates = [Update(f"{i}", 1, 1.0, {"delta": torch.tensor(row)}) for i, row in enumerate(rows)]
    for step in (Bucketing(2), NearestNeighbourMixing(1)):
        out = step.before(Median().merge(), Stream(0)).merge(updates, {})[0]
        torch.testing.assert_close(out.payload["delta"], torch.tensor([1.0, 2.0]))
        assert out.count == 7

"""The pools of LAWS 17: apart by unit, drawn by address, complete; and a planted breach does not pass."""

from dataclasses import replace

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from consilium.core.catalogue import cards
from consilium.core.errors import Failed, Refused
from consilium.core.random import Stream
from consilium.data.dataset import TEST, TRAIN, VALIDATION
from consilium.data.division import sites as sites_module
from consilium.data.division import splits as splits_module
from consilium.data.division.apart import check_apart
from consilium.data.division.sites import gather, label_counts
from consilium.data.division.splits import Units
from consilium.data.partitions.by_key import ByKey
from consilium.data.partitions.dirichlet import Dirichlet
from consilium.data.partitions.iid import IID
from consilium.data.partitions.shards import Shards
from consilium.data.partitions.sizes import Sizes
from consilium.data.sources.digits import Digits
from consilium.learn.tasks.single_label import SingleLabel

SHARES = {"public": 0.1, "validation": 0.2, "test": 0.2, "non_members": 0.25}


def run(source, partition=None, *, sites=2, seed=0, **shares):
    return gather(
        source, partition or IID(), SingleLabel(), sites=sites, stream=Stream(seed, ("data",)), **{**SHARES, **shares}
    )


def pools(consortium):
    """Every pool by name."""
    found = {"test": consortium.test, "public": consortium.public}
    for site in consortium.sites:
        found |= {f"{site.id} {name}": pool for name, pool in vars(site.records).items()}
    return found


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 25), st.integers(0, 2), st.integers(0, 200)), min_size=60, max_size=120),
    given_split=st.booleans(),
    partition=st.sampled_from([IID(), Shards(), Dirichlet(alpha=2.0, minimum=1)]),
    seed=st.integers(0, 5),
)
def test_no_unit_stands_in_two_pools_and_no_record_is_lost(held, rows, given_split, partition, seed):
    units, y, x = zip(*rows, strict=True)
    split = [[TRAIN, TRAIN, VALIDATION, TEST][u % 4] for u in units] if given_split else None
    source = held([[v / 200] for v in x], y, units=units, split=split, classes="abc")
    try:
        consortium = run(source, partition, seed=seed)
    except Refused:
        assume(False)
    found = pools(consortium)
    seen = [set(pool.units.tolist()) for pool in found.values()]
    assert sum(len(units) for units in seen) == len(set().union(*seen))
    inputs = torch.cat([pool.x for pool in found.values()])
    assert len(torch.unique(inputs)) == len(inputs) == len(rows) - sum(consortium.removed.values())
    for pool in found.values():
        assert pool.y.tolist() == [y[i] for i in pool.ids.tolist()]


def by_record(y, units, share, generator):
    """A splitter that forgets units."""
    return torch.rand(len(y), generator=generator) < share


@pytest.mark.parametrize("module", [sites_module, splits_module])
def test_a_splitter_that_forgets_units_is_caught(held, monkeypatch, module):
    source = held(y=[0, 1] * 60, units=[k // 4 for k in range(120)])
    run(source)
    monkeypatch.setattr(module, "pick_records", by_record)
    with pytest.raises(Failed, match=r"toy: unit \d+ stands in .+ and .+"):
        run(source)


def test_units_left_in_two_given_splits_are_caught(held, monkeypatch):
    monkeypatch.setattr(sites_module, "untangle", lambda dataset: (dataset, {}))
    source = held(y=[0, 1] * 20, split=([TRAIN] * 30) + [TEST] * 10, units=[k % 30 for k in range(40)])
    with pytest.raises(Failed, match=r"stands in test and "):
        run(source)


def test_a_record_twice_in_one_pool_is_caught(held):
    consortium = run(held(y=[0, 1] * 20))
    check_apart(consortium)
    twice = consortium.test.select(torch.tensor([0, 1, 1]))
    with pytest.raises(Failed, match="toy: a record stands twice in one pool"):
        check_apart(replace(consortium, test=twice))


def test_shares_are_of_what_they_say(held):
    consortium = run(held(y=[0, 1] * 500), sites=2)
    assert (len(consortium.test), len(consortium.public)) == (200, 80)
    for site in consortium.sites:
        sizes = [len(p) for p in (site.records.train, site.records.validation, site.records.non_members)]
        assert sizes == [360 - 72 - 90, 72, 90]
    counts = torch.tensor(label_counts(consortium))
    oracle = [[int((site.records.train.y == k).sum()) for site in consortium.sites] for k in range(2)]
    assert counts.tolist() == oracle and counts.sum(dim=0).tolist() == [198, 198]


def test_given_splits_are_kept_and_validation_is_divided_over_the_sites(held):
    split = [TRAIN] * 60 + [VALIDATION] * 20 + [TEST] * 20
    consortium = run(held(y=[0, 1] * 50, split=split))
    assert consortium.test.ids.tolist() == list(range(80, 100))
    validation = torch.cat([site.records.validation.ids for site in consortium.sites])
    assert sorted(validation.tolist()) == list(range(60, 80))
    assert max(consortium.public.ids.tolist()) < 60


def test_every_step_draws_from_its_own_stream(held):
    source = held(y=[0, 1] * 100)
    one, other = run(source, non_members=0.1), run(source, non_members=0.4, validation=0.1)
    assert torch.equal(one.test.ids, other.test.ids) and torch.equal(one.public.ids, other.public.ids)
    for a, b in zip(one.sites, other.sites, strict=True):
        assert {*torch.cat([p.ids for p in vars(a.records).values()]).tolist()} == {
            *torch.cat([p.ids for p in vars(b.records).values()]).tolist()
        }


def test_two_sites_draw_apart(held):
    twins = run(held(y=[0, 1] * 100, split=[TRAIN] * 160 + [TEST] * 40, keys=[0] * 80 + [1] * 120), ByKey(), public=0.0)
    chosen = [sorted(k - 80 * n for k in s.records.non_members.ids.tolist()) for n, s in enumerate(twins.sites)]
    assert len(chosen[0]) == len(chosen[1]) == 20 and chosen[0] != chosen[1]


def test_the_seed_decides_and_the_global_generator_is_left_alone(held):
    state = torch.random.get_rng_state()
    source = held(y=[0, 1] * 100)
    first, again, other = (pools(run(source, seed=seed)) for seed in (0, 0, 1))
    assert all(torch.equal(first[name].ids, again[name].ids) for name in first)
    assert not torch.equal(first["test"].ids, other["test"].ids)
    assert torch.equal(state, torch.random.get_rng_state())


def test_natural_sites_bear_their_names(held):
    more = {"keys": [0, 1, 2] * 40, "key_names": ("St. Mary's", "Zürich", "c/d")}
    named = run(held(y=[0, 1] * 60, **more), ByKey(), sites=3)
    assert [site.id for site in named.sites] == ["site-St.-Mary-s", "site-Zürich", "site-c-d"]
    grouped = run(held(y=[0, 1] * 75, keys=[0, 1, 1, 2, 1] * 30, key_names=more["key_names"]), ByKey())
    assert sorted(site.id for site in grouped.sites) == ["site-St.-Mary-s+1", "site-Zürich"]
    bare = run(held(y=[0, 1] * 60, keys=[7, 9] * 60), ByKey(), sites=2)
    assert [site.id for site in bare.sites] == ["site-7", "site-9"]
    alike = run(held(y=[0, 1] * 60, keys=[0, 1] * 60, key_names=("a b", "a/b")), ByKey(), sites=2)
    assert [site.id for site in alike.sites] == ["site-0", "site-1"]


def test_a_unit_named_at_two_sites_stands_where_most_of_its_records_are(held):
    units = [k // 3 for k in range(120)]
    source = held(y=[0, 1] * 60, units=units, keys=[0, 0, 1] * 20 + [1, 1, 0] * 20)
    consortium = run(source, ByKey(), shared_patients=True)
    at = {unit: site.id for site in consortium.sites for unit in site.records.train.units.tolist()}
    assert all(site == ("site-0" if unit < 20 else "site-1") for unit, site in at.items())


def test_what_the_source_says_is_handed_on(held):
    consortium = run(held(y=[0, 1] * 50, notes=("read me",), fitted_on_private=True, classes=("well", "ill")))
    assert consortium.fitted_on_private
    assert consortium.notes == (
        "read me",
        "the source gives no test split: 0.2 of its units were held out",
        "the source names no patients: each record is its own unit",
    )
    split = [TRAIN] * 30 + [TEST] * 10
    assert run(held(y=[0, 1] * 20, split=split, units=[k // 2 for k in range(40)])).notes == ()
    assert (consortium.name, consortium.provenance, consortium.bundled) == ("toy", "made here", True)
    assert (consortium.classes, consortium.shape) == (("well", "ill"), (1,))


def test_a_test_set_of_one_class_is_refused(held):
    with pytest.raises(Refused, match=r"toy: the test set holds one class only \('1'\): accuracy on it means nothing"):
        run(held(y=[0, 1] * 20 + [1] * 5, split=[TRAIN] * 40 + [TEST] * 5))


def test_a_training_pool_of_one_class_is_refused(held):
    with pytest.raises(Refused, match=r"the training pool holds one class only"):
        run(held(y=[1] * 20 + [0, 1] * 5, split=[TRAIN] * 20 + [TEST] * 10))


@pytest.mark.parametrize(("place", "name"), [(VALIDATION, "validation"), (TEST, "test")])
def test_a_class_that_is_judged_and_never_trained_is_refused_by_name(held, place, name):
    y, split = [0, 1] * 25 + [2], [TRAIN] * 40 + [TEST] * 10 + [place]
    with pytest.raises(Refused, match=rf"toy: class 'c' has records in the {name} split \(1\) and none to train on"):
        run(held(y=y, split=split, classes="abc"))


def test_a_class_whose_training_records_were_all_copies_of_test_records_is_refused(held):
    y, split = [0, 1] * 25 + [2, 2], [TRAIN] * 40 + [TEST] * 10 + [TRAIN, TEST]
    x = [[k / 100] for k in range(50)] + [[1.0]] * 2
    with pytest.raises(Refused, match="class 'c' has records in the test split"):
        run(held(x, y, split=split, classes="abc"))


def test_a_class_that_the_test_set_lacks_is_said(held):
    y, split = [0, 1, 2, 0, 1] * 8 + [0, 1] * 5, [TRAIN] * 40 + [TEST] * 10
    notes = run(held(y=y, split=split, classes="abc")).notes
    assert "the test set has no record of 'c': no figure on it speaks of them" in notes
    assert not any("has no record" in note for note in run(held(y=[0, 1, 2] * 20, classes="abc")).notes)


def test_a_site_that_only_validates_is_refused_by_name(held):
    split = [TRAIN] * 40 + [VALIDATION] * 10 + [TEST] * 10
    with pytest.raises(Refused, match=r"site-1 has no training records \(0 in its pool\)"):
        run(held(y=[0, 1] * 30, split=split, keys=[0] * 40 + [1] * 10 + [0] * 10), ByKey())


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ({"test": 0.0}, "the test set is empty. Hold out a share"),
        ({"test": 1.0}, "test: 1.0 is out of range"),
        ({"public": -0.1}, "public: -0.1 is out of range"),
        ({"validation": float("nan")}, "validation: nan is out of range"),
        ({"non_members": 0.6, "validation": 0.5}, "non-members: 0.6 is out of range"),
        ({"sites": 0}, "sites: 0 is out of range"),
        ({"sites": 99}, "cannot be divided over 99 sites"),
    ],
)
def test_shares_out_of_range_are_refused(held, shares, said):
    with pytest.raises(Refused) as refusal:
        run(held(y=[0, 1] * 20), **shares)
    assert said in str(refusal.value)


def test_nothing_may_be_asked_for():
    consortium = run(Digits(), public=0.0, validation=0.0, non_members=0.0)
    assert len(consortium.public) == 0
    assert all(len(site.records.validation) == len(site.records.non_members) == 0 for site in consortium.sites)


def test_a_study_can_give_every_knob_in_one_table():
    own = {"sites", "public", "validation", "test", "non-members", "partition", "kind"}
    sources = {knob for card in cards("data/sources") for knob in card.knobs}
    partitions = {knob for card in cards("data/partitions") for knob in card.knobs}
    assert not (own & sources or own & partitions or sources & partitions)


def test_the_real_file_in_pools(real):
    from consilium.data.sources.pneumonia_mnist import PneumoniaMNIST

    consortium = run(PneumoniaMNIST(), Dirichlet(), sites=3, public=0.05, validation=0.1)
    assert consortium.removed == {"train": 18, "test": 3, "train/validation": 8}
    assert len(consortium.test) == 621
    assert sum(len(pool) for pool in pools(consortium).values()) == 4708 + 524 + 624 - 29
    assert sum(len(site.records.validation) for site in consortium.sites) == 524
    assert "rebuilt from public copies" in consortium.notes[1]


def test_without_a_model_members_cannot_be_told_from_non_members_but_test_can(real):
    """LAWS 17: why non-members are never the test split."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    from consilium.data.sources.pneumonia_mnist import PneumoniaMNIST

    consortium = run(PneumoniaMNIST(), sites=1, public=0.05, non_members=0.2)
    train, outside = consortium.sites[0].records.train, consortium.sites[0].records.non_members

    def told_apart(a, b):
        rows = [torch.nn.functional.avg_pool2d(r.x, 4).flatten(1)[: min(len(a), len(b))] for r in (a, b)]
        x, truth = torch.cat(rows).numpy(), torch.arange(2).repeat_interleave(len(rows[0])).numpy()
        fit = torch.rand(len(x), generator=Stream(0).generator()).numpy() < 0.5
        model = LogisticRegression(max_iter=2000).fit(x[fit], truth[fit])
        return roc_auc_score(truth[~fit], model.decision_function(x[~fit]))

    assert abs(told_apart(train, outside) - 0.5) < 0.06
    assert told_apart(train, consortium.test) > 0.6


def test_tiny_sites_train_and_say_so_honestly_where_nothing_is_left_to_judge_on(held):
    consortium = run(held(y=[0, 1] * 400), Sizes(minimum=1, maximum=9), sites=200, test=0.1)
    total = [sum(len(p) for p in vars(site.records).values()) for site in consortium.sites]
    assert min(total) == 1 and max(total) == 9 and sum(total) == 800 - 80 - 72
    for site, n in zip(consortium.sites, total, strict=True):
        assert len(site.records.train) >= 1
        assert len(site.records.non_members) >= (n > 1) and len(site.records.validation) >= (n > 2)


def test_all_sites_are_views_of_one_copy(held):
    consortium = run(held(y=[0, 1] * 400), sites=50)
    storages = {p.x.untyped_storage().data_ptr() for s in consortium.sites for p in vars(s.records).values()}
    assert len(storages) == 1
    assert consortium.sites[0].records.train.x.untyped_storage().nbytes() == 4 * sum(
        len(p) for s in consortium.sites for p in vars(s.records).values()
    )


def test_one_record_units_in_order_and_shuffled_or_shared_ones_are_counted_alike():
    generator = torch.Generator().manual_seed(4)
    y, units = torch.randint(0, 3, (50,), generator=generator), torch.arange(0, 100, 2)
    order = torch.randperm(50, generator=generator)
    quick, slow = Units.among(y, units, keys=y), Units.among(y[order], units[order], keys=y[order])
    assert torch.equal(quick.y, slow.y) and torch.equal(quick.of[order], slow.of) and torch.equal(quick.keys, slow.keys)

"""Intervals by unit: coverage where patients have several records, and what stays as it was where they have one."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from consilium.core.random import Stream
from consilium.measure.clustered import mean_limits, median_size, several, share_measure, unit_notes, with_unit_counts
from consilium.measure.intervals import across_seeds, wilson
from consilium.measure.membership import membership
from consilium.measure.robustness import robust_accuracy
from consilium.measure.utility import below_chance, utility

DRAWS = 200
PATIENTS, RECORDS = 24, 8
UNITS = torch.arange(PATIENTS).repeat_interleave(RECORDS)


def scores(rng):
    """A normal score a record, of which .9 of the variance is the patient's."""
    patient = rng.normal(size=PATIENTS).repeat(RECORDS)
    return torch.from_numpy(np.sqrt(0.9) * patient + np.sqrt(0.1) * rng.normal(size=PATIENTS * RECORDS))


def covered(figures, units, levels):
    """How many intervals of each name hold the true figure, over fixed seeds."""
    hits = dict.fromkeys(levels, 0)
    for seed in range(DRAWS):
        for m in figures(np.random.default_rng(seed), units):
            if m.name in levels:
                hits[m.name] += m.low <= levels[m.name] <= m.high
    return {name: count / DRAWS for name, count in hits.items()}


def skill(rng, units):
    """Logits without skill for labels of patients."""
    y = torch.from_numpy(rng.permutation(PATIENTS) % 2).repeat_interleave(RECORDS)
    s = scores(rng)
    return utility(torch.stack([-s, s], 1), y, Stream(0), units)


def leak(rng, units):
    """Scores without information: half of the patients known, half of each are members."""
    member, known = UNITS % 2 == 0, UNITS % 4 < 2
    return membership(scores(rng), member, Stream(0), known=known, units=units)


@pytest.mark.parametrize(
    ("figures", "levels"),
    [
        (skill, {"accuracy": 0.5, "balanced_accuracy": 0.5, "auroc": 0.5, "sensitivity": 0.5, "specificity": 0.5}),
        (leak, {"advantage": 0.0, "auc": 0.5}),
    ],
)
def test_intervals_of_patients_hold_chance_and_those_of_records_do_not(monkeypatch, figures, levels):
    monkeypatch.setattr("consilium.measure.ranking.auc_interval.__defaults__", (200,))
    by_patient, by_record = covered(figures, UNITS, levels), covered(figures, None, levels)
    assert all(share >= 0.88 for share in by_patient.values()), by_patient
    assert all(share < 0.75 for share in by_record.values()), by_record


@pytest.mark.parametrize("units", [None, torch.arange(40).flip(0)])
def test_where_every_record_is_its_own_unit_nothing_changes(units):
    generator = torch.Generator().manual_seed(0)
    right, y = torch.rand(40, generator=generator) < 0.7, torch.arange(40) % 3
    logits, member = torch.randn(40, 3, generator=generator), torch.arange(40) % 2 == 0
    assert share_measure("a", right, units) == replace(share_measure("a", right, None), n=40)
    assert (share_measure("a", right, units).low, share_measure("a", right, units).high) == wilson(int(right.sum()), 40)
    assert utility(logits, y, Stream(1), units) == utility(logits, y, Stream(1))
    assert robust_accuracy(right, y, units=units) == robust_accuracy(right, y)
    known = torch.arange(40) % 4 < 2
    assert membership(logits[:, 0], member, Stream(1), known=known, units=units) == membership(
        logits[:, 0], member, Stream(1), known=known
    )
    assert mean_limits(logits[:, 0], units) == across_seeds(logits[:, 0].tolist())
    assert several(units) is None
    assert unit_notes(torch.arange(3), "test") == ()


def test_copies_of_each_record_are_worth_as_many_as_patients():
    """Closed form: all records of a patient alike, so the mean is of G patients, with t of G - 1."""
    values = torch.tensor([0.1, 0.4, 0.9, 0.3])
    copies, units = values.repeat_interleave(50), torch.arange(4).repeat_interleave(50)
    assert mean_limits(copies, units) == pytest.approx(across_seeds(values.tolist()))
    right = torch.tensor([True, True, True, False]).repeat_interleave(50)
    one = share_measure("a", right, units)
    assert one.n == 200
    assert one.unit_count == 4
    few = wilson(3, 4)
    assert one.low < few[0]
    assert one.high - one.low > few[1] - few[0]
    all_right = share_measure("a", torch.ones(200).bool(), units)
    assert (all_right.low, all_right.high) == wilson(4, 4)


def test_one_patient_tells_next_to_nothing():
    one = share_measure("a", torch.arange(100) < 90, torch.zeros(100).long())
    assert one.high - one.low > 0.7
    assert mean_limits(torch.rand(5), torch.zeros(5).long())[1:] == (None, None)


def test_patients_in_several_classes_count_once():
    """Each patient has a record of either class and is right in both or in neither: the mean is of 30 patients."""
    patient_right = torch.arange(30) % 3 > 0
    right, y, units = patient_right.repeat(2), torch.arange(60) // 30, torch.arange(30).repeat(2)
    plain, balanced = robust_accuracy(right, y, units=units)
    low, high = wilson(20, 30)
    assert balanced.low == pytest.approx(low, abs=0.03)
    assert balanced.high == pytest.approx(high, abs=0.03)
    assert plain.unit_count == balanced.unit_count == 30


def test_a_median_is_worth_no_more_than_its_patients():
    assert median_size(torch.arange(4.0).repeat_interleave(10), torch.arange(4).repeat_interleave(10)) < 4.1
    assert median_size(torch.arange(40.0), None) == 40


def test_the_number_of_patients_stands_beside_n():
    figures = with_unit_counts(skill(np.random.default_rng(0), UNITS), UNITS)
    assert all(m.unit_count == PATIENTS for m in figures if m.n == len(UNITS))
    assert unit_notes(UNITS, "test") == (
        "The 192 test records are of 24 patients (units): intervals are by patient, not by record.",
    )


def test_a_ranking_below_chance_is_noticed():
    y = torch.arange(100) % 2
    logits = torch.stack([y.float(), 1 - y.float()], 1)
    assert below_chance(utility(logits, y, Stream(0)))
    assert not below_chance(utility(-logits, y, Stream(0)))
    assert not below_chance(utility(torch.randn(100, 2, generator=torch.Generator().manual_seed(1)), y, Stream(0)))

"""Mediators by hand, against numpy, with planted memorisation, and by patient."""

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from consilium.core.errors import Refused
from consilium.core.random import Stream
from consilium.learn.tasks.single_label import SingleLabel
from consilium.measure.mediators import MEDIATORS, mediators


def figures(z, y, member, units=None):
    made = mediators(z, y, member, torch.arange(len(y)) if units is None else units, SingleLabel(), Stream(0))
    assert tuple(m.name for m in made) == MEDIATORS
    return {m.name: m for m in made}


def sample(n=400, memorised=0.0, seed=0):
    """Half are members; of those the true logit is raised."""
    g = torch.Generator().manual_seed(seed)
    z, y, member = torch.randn(n, 4, generator=g), torch.arange(n) % 4, torch.arange(n) % 8 < 4
    return z + memorised * torch.eye(4)[y] * member[:, None], y, member


def test_they_are_means_and_quantiles_of_each_half():
    z, y, member = sample(memorised=1.0)
    made = figures(z, y, member)
    for pool, at in (("members", member), ("non_members", ~member)):
        assert made[f"accuracy_{pool}"].value == pytest.approx(float((z.argmax(1) == y)[at].double().mean()))
        assert made[f"loss_{pool}"].value == pytest.approx(float(cross_entropy(z[at].double(), y[at])))
        margin = [
            float(row[c] - max(v for k, v in enumerate(row) if k != c)) for row, c in zip(z[at], y[at], strict=True)
        ]
        for q in (5, 25, 50, 75, 95):
            wanted = np.quantile(margin, q / 100, method="inverted_cdf")
            assert made[f"margin_{pool}_q{q:02d}"].value == pytest.approx(wanted)
    gap = made["accuracy_members"].value - made["accuracy_non_members"].value
    assert made["generalisation_gap"].value == pytest.approx(gap)
    losses = made["loss_non_members"].value - made["loss_members"].value
    assert made["generalisation_gap_loss"].value == pytest.approx(losses)
    assert made["generalisation_gap"].n == 400 and made["loss_members"].n == 200


def test_memorisation_is_found_and_its_absence_too():
    for strength in (0.0, 2.0):
        made = figures(*sample(memorised=strength))
        gaps = [made["generalisation_gap"], made["generalisation_gap_loss"]]
        assert all((m.low > 0) == (strength > 0) and m.chance == 0 for m in gaps)
        apart = made["margin_members_q50"].low > made["margin_non_members_q50"].high
        assert apart == (strength > 0)


def test_every_figure_lies_in_limits_of_some_width():
    made = figures(*sample(40))
    assert all(m.low <= m.value <= m.high and m.low < m.high for m in made.values())


def test_a_perfect_memory_is_no_certainty():
    y = torch.arange(40) % 2
    made = figures(50.0 * torch.eye(2)[y], y, torch.arange(40) < 20)
    assert made["accuracy_members"].value == 1 and made["accuracy_members"].low < 0.95
    assert made["generalisation_gap"].low < 0 < made["generalisation_gap"].high


def test_copies_of_patients_are_no_more_records():
    z, y, member = sample(100, 1.0)
    once = figures(z, y, member)
    copies = (z.repeat(4, 1), y.repeat(4), member.repeat(4))
    many, apart = figures(*copies, torch.arange(100).repeat(4)), figures(*copies)
    for name in ("accuracy_members", "generalisation_gap", "generalisation_gap_loss", "margin_members_q50"):
        wide = once[name].high - once[name].low
        assert many[name].high - many[name].low == pytest.approx(wide, rel=0.15), name
        assert apart[name].high - apart[name].low < 0.7 * wide, name


def test_the_limits_of_the_gap_hold_it():
    """The limits are at 95 %: of 100 samples about 5 miss the mean of endless ones."""
    z, y, member = sample(200_000, 1.0, seed=99)
    losses = cross_entropy(z, y, reduction="none")
    many = float(losses[~member].mean() - losses[member].mean())
    found = [figures(*sample(120, 1.0, seed=seed))["generalisation_gap_loss"] for seed in range(100)]
    assert sum(m.low <= many <= m.high for m in found) >= 90


def test_what_has_no_answer_or_no_other_half_is_undefined():
    z, y, member = sample(16)
    assert "no non-members" in figures(z, y, torch.ones(16).bool())["loss_members"].reason
    assert "no members" in figures(z, y, torch.zeros(16).bool())["loss_members"].reason
    z[2, 1] = -math.inf
    assert "infinities for 1 of 16" in figures(z, y, member)["generalisation_gap"].reason
    z[2, 1] = math.nan
    assert "NaN for 1 of 16" in figures(z, y, member)["generalisation_gap"].reason
    with pytest.raises(Refused, match="differ"):
        figures(z, y, member[:-1])

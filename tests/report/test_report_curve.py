"""The ROC on a model's page: rates on the judged half alone, no point on a handful, the claim's curve beside it."""

import math
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from consilium.core.random import Stream
from consilium.measure.membership import bounds, highest_tpr, membership, roc
from consilium.report.analyse.roc import rocs


def sample(n=40_000, apart=1.0):
    g = torch.Generator().manual_seed(0)
    member, known = torch.rand(n, generator=g) < 0.5, torch.rand(n, generator=g) < 0.5
    return torch.randn(n, generator=g, dtype=torch.float64) + apart * member, member, known


def cell(path, epsilon=None, unit="example"):
    record = None if unit == "label" else epsilon
    privacy = SimpleNamespace(epsilon=epsilon, record_epsilon=record, delta=1e-5, unit=unit)
    finding = SimpleNamespace(name="lira", file=path)
    return SimpleNamespace(privacy=privacy, aimed=lambda aim: [finding])


@pytest.fixture
def scored(tmp_path):
    scores, member, known = sample()
    save_file({"score": scores, "member": member, "known": known}, tmp_path / "s.safetensors")
    return tmp_path / "s.safetensors"


def test_the_curve_is_that_of_two_gaussians():
    from scipy.stats import norm

    x, y = roc(*sample())
    assert len(x) > 30 and x == sorted(x) and y == sorted(y) and (x[-1], y[-1]) == (1.0, 1.0)
    for f, t in zip(x[:-1], y[:-1], strict=True):
        if f > 0.01:
            assert t == pytest.approx(norm.sf(norm.isf(f) - 1), abs=0.03)


def test_it_agrees_with_the_figures_beside_it():
    scores, member, known = sample()
    x, y = roc(scores, member, known)
    figure = {m.name: m for m in membership(scores, member, Stream(0), known=known)}["tpr_at_fpr_1"]
    near = min(range(len(x)), key=lambda i: abs(math.log(x[i] / 0.01)))
    assert y[near] == pytest.approx(figure.value, abs=0.01)


def test_no_point_rests_on_fewer_than_ten_and_the_known_half_is_not_in_it():
    scores, member, known = sample()
    assert min(roc(scores, member, known)[0]) * int((~member & ~known).sum()) >= 9.99
    other = torch.where(known, -scores, scores)
    assert roc(other, member, known) == roc(scores, member, known)
    few = torch.arange(60) % 2 == 0
    assert roc(torch.rand(60), few, torch.arange(60) < 30) == ([], [])


def test_the_claim_is_drawn_and_one_of_labels_is_not(scored):
    assert rocs(cell(scored))["bound"] is None and rocs(cell(scored, 1.0, "label"))["bound"] is None
    bound = rocs(cell(scored, 1.0))["bound"]
    assert bound["epsilon"] == 1.0 and bound["y"][0] == pytest.approx(math.e * bound["x"][0] + 1e-5, rel=1e-3)
    assert rocs(cell(None)) is None


def test_the_bounds_are_what_randomised_response_reaches():
    """Answering the truth with odds e^eps is (eps, 0)-private, and as good as is allowed at FPR 1 / (1 + e^eps)."""
    for epsilon in (0.1, 1.0, 4.0):
        wrong = 1 / (1 + math.exp(epsilon))
        assert highest_tpr(wrong, epsilon, 0.0) == pytest.approx(1 - wrong)
        n = 4000
        member = torch.arange(2 * n) < n
        score = torch.where(torch.arange(2 * n) % n < round(n * (1 - wrong)), member.double(), (~member).double())
        figures = {m.name: m for m in membership(score, member, Stream(0), known=torch.arange(2 * n) % 2 == 0)}
        most = {m.name: m.value for m in bounds(list(figures.values()), epsilon, 0.0)}
        assert most["advantage_bound"] == pytest.approx(figures["advantage"].value, abs=2 / n)
        assert most["auc_bound"] == pytest.approx(figures["auc"].value, abs=2 / n)


def test_bounds_grow_with_epsilon_and_end_at_certainty():
    scores, member, known = sample()
    figures = membership(scores, member, Stream(0), known=known)
    sizes = [[m.value for m in bounds(figures, e, 1e-6)] for e in (0.0, 0.5, 2.0, 1000.0)]
    assert [round(v, 4) for v in sizes[0]] == [0, 0.5, 0.01, 0.001] and sizes[-1] == [1, 1, 1, 1]
    assert all(a <= b for low, high in pairwise(sizes) for a, b in zip(low, high, strict=True))


def test_a_figure_without_a_value_has_no_bound_and_each_has_its_n():
    figures = membership(*[t[:400] for t in sample()[:2]], Stream(0), known=torch.arange(400) % 2 == 0)
    made = bounds(figures, 1.0, 1e-5)
    assert {m.name for m in made} == {"advantage_bound", "auc_bound"} and all(m.n == 200 for m in made)
    assert bounds([replace(figures[0], name="accuracy")], 1.0, 0.0) == ()

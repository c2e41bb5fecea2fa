"""Loss-threshold membership inference by hand, on an overfitted model, and on rounded answers."""

import math

import pytest
import torch
from torch.nn import functional as F

from consilium.attack.membership.loss_threshold import LossThreshold
from consilium.core.errors import Refused
from consilium.core.random import Stream
from consilium.core.records import Records
from consilium.core.threat import QueryView, View
from consilium.learn.tasks.single_label import SingleLabel
from consilium.measure.membership import membership


def query_view(answer, x, y, member, known=None):
    known = torch.arange(len(x)) % 4 < 2 if known is None else known
    return QueryView(3, answer, Records.of(x, y), member, known, task=SingleLabel())


def run(view, seed=0):
    return LossThreshold()(view, {}, torch.Generator().manual_seed(seed))


def lookup(logits):
    """A model that answers candidate i (whose x is i) with row i."""
    return lambda x: logits[x[:, 0].long()]


def sample(n=600, seed=0):
    g = torch.Generator().manual_seed(seed)
    y, member = torch.randint(3, (n,), generator=g), torch.arange(n) % 2 == 0
    logits = torch.randn(n, 3, generator=g) + 1.5 * member[:, None] * F.one_hot(y, 3)
    return torch.arange(n)[:, None].float(), y, member, logits


def test_the_score_is_minus_the_loss():
    x, y, member, logits = sample()
    finding = run(query_view(lookup(logits), x, y, member))
    assert torch.allclose(finding.scores["score"], -F.cross_entropy(logits.double(), y, reduction="none"))
    assert torch.equal(finding.scores["member"], member) and len(finding.scores["known"]) == 600
    assert finding["advantage"].value > 0.2 and finding["auc"].low > 0.6
    assert finding["tpr_at_fpr_1"].reason == "not resolvable (n = 150)"


def test_one_query_per_candidate():
    x, y, member, logits = sample(700)
    view = query_view(lookup(logits), x, y, member)
    run(view)
    assert view.queries == [700]


def test_the_figures_are_measures():
    x, y, member, logits = sample()
    view = query_view(lookup(logits), x, y, member)
    finding = run(view)
    score = finding.scores["score"]
    expected = membership(score, member, Stream(0), known=view.known)
    assert [m.value for m in finding.measures] == [m.value for m in expected]


def test_rounded_to_zero_is_finite_and_said():
    """Answers log(0) = -inf, a row of zeros, and a row that says nothing."""
    x, y, member, logits = sample(40)
    p = torch.softmax(5 * logits, 1).round(decimals=1)
    p[0], p[1] = 0, torch.tensor([1.0, 0.0, 0.0])
    y[1] = 2
    finding = run(query_view(lookup(p.log()), x, y, member))
    score = finding.scores["score"]
    assert score.isfinite().all() and score.min() == score[1] == score[0]
    assert score[1] == pytest.approx(math.log(torch.finfo(torch.float32).tiny))
    assert "scores lie at the floor -87.3" in finding.notes[0]


def test_nothing_to_learn_from_is_undefined():
    x, y, member, logits = sample(40)
    finding = run(query_view(lookup(logits), x, y, member, known=torch.ones(40, dtype=torch.bool)))
    assert all(m.value is None for m in finding.measures)


def test_a_view_without_answers_is_refused():
    with pytest.raises(Refused, match="attack loss-threshold needs a QueryView and was granted a View"):
        LossThreshold()(View(2, task=SingleLabel()), {}, torch.Generator())

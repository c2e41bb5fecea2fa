"""Views grant what they grant and no more; queries are counted."""

import pytest
import torch

from consilium.core.errors import Refused
from consilium.core.records import Records
from consilium.core.threat import ModelView, QueryView, ThreatModel, View, require


def query_view():
    records = Records.of(torch.zeros(4, 2), torch.zeros(4, dtype=torch.long))
    weight = torch.ones(2, 3, requires_grad=True)
    return QueryView(3, lambda x: x @ weight, records, torch.ones(4).bool(), torch.ones(4).bool())


def test_a_smaller_view_is_refused_with_both_names():
    with pytest.raises(Refused) as refusal:
        require(query_view(), ModelView, "pgd")
    assert str(refusal.value).startswith("attack pgd needs a ModelView and was granted a QueryView. grant the view")
    with pytest.raises(Refused, match="granted a View"):
        require(View(2), QueryView, "x")


def test_the_view_itself_and_a_larger_one_pass():
    require(query_view(), QueryView, "x")
    require(query_view(), View, "x")


def test_every_record_asked_is_a_query_and_no_gradient_comes_back():
    view = query_view()
    assert not view.ask(torch.ones(3, 2)).requires_grad
    view.ask(torch.ones(2, 2))
    assert view.queries == [5]
    assert query_view().queries == [0]


def test_a_threat_model_is_a_value():
    one = ThreatModel("receiver", "inference", "white-box", "evasion")
    assert one == ThreatModel("receiver", "inference", "white-box", "evasion") and len({one, one}) == 1

"""Views grant what they grant and no more; queries are counted."""

from typing import ClassVar, get_type_hints

import pytest
import torch

from consilium.core.attack import Attack
from consilium.core.catalogue import ROOMS, cards, load_entry
from consilium.core.errors import Refused
from consilium.core.records import Records
from consilium.core.round_observer import RoundObserver
from consilium.core.threat import ModelView, QueryView, ThreatModel, View, require
from consilium.learn.tasks.single_label import SingleLabel


def query_view():
    records = Records.of(torch.zeros(4, 2), torch.zeros(4, dtype=torch.long))
    weight = torch.ones(2, 3, requires_grad=True)
    return QueryView(3, lambda x: x @ weight, records, torch.ones(4).bool(), torch.ones(4).bool(), task=SingleLabel())


def test_a_smaller_view_is_refused_with_both_names():
    with pytest.raises(Refused) as refusal:
        require(query_view(), ModelView, "pgd")
    assert str(refusal.value).startswith("attack pgd needs a ModelView and was granted a QueryView. Grant the view")
    with pytest.raises(Refused, match="granted a View"):
        require(View(2, task=SingleLabel()), QueryView, "x")


def test_the_view_itself_and_a_larger_one_pass():
    view = query_view()
    assert require(view, QueryView, "x") is view
    assert require(view, View, "x") is view


def test_every_record_asked_is_a_query_and_no_gradient_comes_back():
    view = query_view()
    assert not view.ask(torch.ones(3, 2)).requires_grad
    view.ask(torch.ones(2, 2))
    assert view.queries == [5]
    assert query_view().queries == [0]


def test_a_threat_model_is_a_value():
    one = ThreatModel("receiver", "inference", "white-box", "evasion")
    assert one == ThreatModel("receiver", "inference", "white-box", "evasion") and len({one, one}) == 1


def contradictions(attack):
    """The methods of ``attack`` whose view is another one than the class attribute says."""
    pairs = [("run", attack.needs), *([("observe", attack.observes)] if issubclass(attack, RoundObserver) else [])]
    return [name for name, view in pairs if get_type_hints(getattr(attack, name))["view"] is not view]


ATTACKS = [card for room in ROOMS if room.startswith("attack/") for card in cards(room)]


RUN = [card for card in ATTACKS if issubclass(load_entry(card), Attack)]


@pytest.mark.parametrize("card", RUN, ids=lambda c: c.kind)
def test_the_view_that_an_attack_runs_on_is_the_one_that_it_needs(card):
    assert not contradictions(load_entry(card))


def test_an_attack_that_runs_on_another_view_than_it_needs_is_noticed():
    class Greedy(Attack[QueryView]):
        needs: ClassVar[type[QueryView]] = QueryView

        def run(self, view: ModelView, memory, generator): ...

    assert contradictions(Greedy) == ["run"]


def test_an_attack_that_names_no_view_of_its_own_is_as_it_was():
    """A user's attack from before the base class was generic: any view, cast inside."""

    class Old(Attack):
        needs: ClassVar[type[View]] = QueryView

        def run(self, view: View, memory, generator):
            return view

    view = query_view()
    assert Old()(view, {}, torch.Generator()) is view
    with pytest.raises(Refused, match="needs a QueryView and was granted a View"):
        Old()(View(2, task=SingleLabel()), {}, torch.Generator())

"""Backdoors as values: what a trigger does, which records get it, and what counts as success, by hand."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from consilium.attack.backdoor_success import BackdoorSuccess
from consilium.attack.poisoning.bad_nets import BadNets
from consilium.attack.poisoning.distributed_backdoor import DistributedBackdoor
from consilium.attack.poisoning.edge_case import EdgeCase
from consilium.attack.poisoning.model_replacement import ModelReplacement
from consilium.attack.poisoning.semantic_backdoor import SemanticBackdoor
from consilium.core.attribute import Attribute
from consilium.core.backdoor import Backdoor
from consilium.core.collusion import ColludingView
from consilium.core.errors import Refused
from consilium.core.inputs import Inputs
from consilium.core.random import Stream
from consilium.core.records import Records
from consilium.core.threat import BackdoorView
from consilium.core.update import Update
from consilium.learn.tasks.regression import Regression
from consilium.learn.tasks.single_label import SingleLabel
from consilium.learn.triggers.columns import Columns
from consilium.learn.triggers.pixels import Pixels
from consilium.learn.triggers.property import Property, Tail


def pictures(n=60, classes=3, side=6):
    y = torch.arange(n) % classes
    x = 0.9 * torch.rand(n, 2, side, side, generator=torch.Generator().manual_seed(0))
    codes = (torch.arange(n) % 5).clamp(max=1)
    return Records.of(x, y, attributes=(Attribute("colour", codes, ("green", "red")),))


@pytest.mark.parametrize(
    ("place", "rows", "columns"),
    [("top-left", (0, 2), (0, 2)), ("top-right", (0, 2), (4, 6)), ("bottom-left", (4, 6), (0, 2)),
     ("bottom-right", (4, 6), (4, 6)), ("centre", (2, 4), (2, 4))],
)  # fmt: skip
def test_a_square_of_pixels(place, rows, columns):
    x = pictures().x
    shown = Pixels(2, place).put(x)
    expected = x.clone()
    expected[:, :, rows[0] : rows[1], columns[0] : columns[1]] = 1.0
    assert torch.equal(shown, expected) and not torch.equal(shown, x)
    blended = Pixels(2, place, value=0.5, blend=0.25).put(x)
    assert torch.allclose(blended[..., rows[0], columns[0]], 0.75 * x[..., rows[0], columns[0]] + 0.125)


def test_the_parts_of_a_square_are_the_whole():
    x, whole = pictures().x, Pixels(4, "bottom-right")
    for sites in (1, 2, 3, 4):
        parts, entry = x, DistributedBackdoor(size=4)
        changed = []
        for k in range(sites):
            stripe = entry.for_site(k, sites)
            assert stripe.kind() == "distributed-backdoor" and stripe.backdoor() == entry.backdoor()
            changed.append(int((stripe.poison().put(x) != x).sum()))
            parts = stripe.poison().put(parts)
        assert torch.equal(parts, whole.put(x)) and min(changed) > 0
        assert sum(changed) == int((whole.put(x) != x).sum()), "they do not overlap"
    with pytest.raises(Refused, match="4 rows of pixels has no part for each of 5 corrupted sites"):
        DistributedBackdoor(size=4).for_site(0, 5)


def test_columns_of_a_table():
    x = torch.rand(5, 4)
    shown = Columns((1, 3), (0.25, 1.0)).put(x)
    assert torch.equal(shown[:, [0, 2]], x[:, [0, 2]]) and torch.equal(shown[0, [1, 3]], torch.tensor([0.25, 1.0]))


def test_the_share_of_the_other_classes_is_poisoned():
    clean = pictures()
    after = BadNets(share=0.5, target=1).records(clean, 3, Stream(0))
    moved = (after.x != clean.x).flatten(1).any(1)
    assert int(moved.sum()) == 20 and (clean.y[moved] != 1).all() and (after.y[moved] == 1).all()
    assert torch.equal(after.y[~moved], clean.y[~moved])
    assert torch.equal(after.x[moved], Pixels(3).put(clean.x[moved]))
    again = BadNets(share=0.5, target=1).records(clean, 3, Stream(1))
    assert not torch.equal(again.y, after.y), "another stream draws others"


def test_who_has_a_property_is_relabelled_and_nothing_is_stamped():
    clean = pictures()
    after = SemanticBackdoor(target=0, attribute="colour", word="green").records(clean, 3, Stream(0))
    expected = torch.where(torch.arange(60) % 5 == 0, 0, clean.y)
    assert torch.equal(after.y, expected) and torch.equal(after.x, clean.x)
    both = SemanticBackdoor(target=0, source=2, attribute="colour", word="green").records(clean, 3, Stream(0))
    assert torch.equal(both.y, torch.where((torch.arange(60) % 5 == 0) & (clean.y == 2), 0, clean.y))
    assert torch.equal(SemanticBackdoor(target=1).records(clean, 3, Stream(0)).y, torch.where(clean.y == 2, 1, clean.y))
    with pytest.raises(Refused, match="no attribute 'age'"):
        SemanticBackdoor(attribute="age", word="1").records(clean, 3, Stream(0))
    with pytest.raises(Refused, match="no record has colour 'blue'"):
        SemanticBackdoor(attribute="colour", word="blue").records(clean, 3, Stream(0))


def test_the_tail_is_furthest_from_the_mean():
    clean = pictures()
    one = torch.nonzero(clean.y == 1)[:, 0]
    x = clean.x.clone()
    x[one[3]], x[one[7]] = 1.0, 0.0
    tail = Tail(1, 0.1).carried(replace(clean, x=x))
    assert torch.nonzero(tail)[:, 0].tolist() == [int(one[3]), int(one[7])]  # 10 % of 20
    after = EdgeCase(source=1, target=0).records(replace(clean, x=x), 3, Stream(0))
    assert torch.equal(torch.nonzero(after.y != clean.y)[:, 0], one[[3, 7]])


class Corner(nn.Module):
    """Answers class 1 where the last pixel is full, else the class of the record; a clean one never looks."""

    def __init__(self, records, backdoored=True):
        super().__init__()
        self.means, self.y, self.backdoored = records.x.flatten(1)[:, 0], records.y, backdoored

    def forward(self, x):
        nearest = (x.flatten(1)[:, :1] - self.means).abs().argmin(1)
        answers = nn.functional.one_hot(self.y[nearest], 3).float()
        full = x[:, 0, -1, -1] == 1.0
        return torch.where((full & self.backdoored).unsqueeze(1), torch.tensor([0.0, 2.0, 0.0]), answers)


def judged(backdoor, module, records, twin=None):
    view = BackdoorView(3, module, records, twin, task=SingleLabel())
    return BackdoorSuccess(backdoor)(view, {}, torch.Generator())


def test_success_by_hand():
    records = pictures()
    backdoor = Backdoor(Pixels(1), 1)
    finding = judged(backdoor, Corner(records), records, Corner(records, backdoored=False))
    success, without = finding.measures
    assert (success.name, success.value, success.n, success.chance) == ("backdoor_success", 1.0, 40, 0.0)
    assert success.low == pytest.approx(40 / (40 + 1.96**2), abs=1e-3)  # Wilson at k = n
    assert (without.value, without.n) == (0.0, 40)
    assert finding.scores["success"].all() and (records.y[finding.scores["id"]] != 1).all()
    clean = judged(backdoor, Corner(records, backdoored=False), records)
    assert clean["backdoor_success"].value == 0.0 and clean["backdoor_success"].chance is None


def test_a_model_that_always_answers_the_target_is_told_by_its_rate_without_trigger():
    class Constant(nn.Module):
        def forward(self, x):
            return torch.tensor([0.0, 1.0, 0.0]).expand(len(x), 3)

    finding = judged(Backdoor(Pixels(1), 1), Constant(), pictures(), Constant())
    assert [m.value for m in finding.measures] == [1.0, 1.0] and finding["backdoor_success"].chance == 1.0


def test_a_semantic_backdoor_is_judged_on_those_who_have_the_property():
    records = pictures()
    finding = judged(Backdoor(Property(2), 1), Corner(records), records)
    assert finding["backdoor_success"].n == 20 and finding["target_rate_without_trigger"].n == 20
    nobody = records.select(records.y == 1)
    assert judged(Backdoor(Property(2), 1), Corner(records), nobody)["backdoor_success"].value is None


@pytest.mark.parametrize(
    ("entry", "shape", "why"),
    [
        (BadNets(size=7), (1, 6, 8), "of 7 x 7 pixels is larger than the picture, 6 x 8. Use a size of at most 6"),
        (BadNets(), (9,), "needs pictures, and an input has shape \\(9,\\)"),
        (BadNets(columns=(9,), values=(1.0,)), (9,), "column 9 of inputs with 9 columns. Use 0 to 8"),
        (BadNets(columns=(0,), values=(1.0,)), (1, 6, 6), "columns are of a table"),
        (BadNets(target=3), (1, 6, 6), "target = 3 is no class. Use 0 to 2"),
        (SemanticBackdoor(source=3), (1, 6, 6), "source = 3 is no class. Use 0 to 2"),
        (SemanticBackdoor(target=2), (1, 6, 6), "source = 3 is no class. Use 0 to 2"),
        (EdgeCase(source=4), (1, 6, 6), "source = 4 is no class. Use 0 to 2"),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_data_is_refused_with_the_numbers(entry, shape, why):
    with pytest.raises(Refused, match=why):
        entry.check_fit(shape, 3)


def test_tokens_and_tasks_without_classes_are_refused():
    with pytest.raises(Refused, match="an id is no quantity"):
        BadNets().check_inputs(Inputs(tokens=100))
    SemanticBackdoor().check_inputs(Inputs(tokens=100))  # nothing is put on a record
    with pytest.raises(Refused, match="has no meaning for the task"):
        BadNets().check_task(Regression(low=0.0, high=1.0, tolerance=0.1))


@pytest.mark.parametrize(
    ("kind", "knobs"),
    [(BadNets, {"share": 1.1}), (BadNets, {"size": 0}), (BadNets, {"blend": 0.0}), (BadNets, {"value": 2.0}),
     (BadNets, {"columns": (1,)}), (BadNets, {"target": -1}), (SemanticBackdoor, {"source": 0, "target": 0}),
     (SemanticBackdoor, {"attribute": "a"}), (EdgeCase, {"source": 1, "target": 1}), (EdgeCase, {"tail": 0.0}),
     (ModelReplacement, {"boost": 0.0}), (ModelReplacement, {"alpha": 0.0}), (ModelReplacement, {"within": 0.0}),
     (ModelReplacement, {"epochs": 0}), (ModelReplacement, {"lr": 0.0}), (DistributedBackdoor, {"boost": 0.0})],
)  # fmt: skip
def test_a_knob_out_of_range_is_refused_by_name(kind, knobs):
    with pytest.raises(Refused, match="out of range"):
        kind(**knobs)


def replaced(entry, weights=(1.0, 3.0)):
    view = ColludingView(
        2, 1, torch.zeros(4), torch.zeros(1), task=SingleLabel(), weights={"a": 6.0, "b": 1.0, "c": 3.0}
    )
    sent = [Update(site, 1, w, {"delta": torch.full((4,), 2.0), "buffers": torch.ones(1), "steps": torch.ones(1)})
            for site, w in zip("bc", weights, strict=True)]  # fmt: skip
    return [update.payload for update in entry.forge({}, sent, view)[0]]


def test_the_factor_is_all_weights_by_those_of_the_colluders():
    for payload in replaced(ModelReplacement()):  # (6 + 1 + 3) / (1 + 3)
        assert torch.equal(payload["delta"], torch.full((4,), 5.0)) and float(payload["buffers"]) == 2.5
        assert float(payload["steps"]) == 1.0
    assert torch.equal(replaced(ModelReplacement(boost=7.0))[0]["delta"], torch.full((4,), 14.0))


def test_train_and_scale_stays_within_its_length():
    payload = replaced(ModelReplacement(within=3.0))[0]
    assert float(payload["delta"].norm()) == pytest.approx(3.0, rel=1e-5) and float(payload["delta"].norm()) <= 3.0
    assert torch.equal(replaced(ModelReplacement(within=99.0))[0]["delta"], torch.full((4,), 5.0))

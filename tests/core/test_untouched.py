"""An attack from elsewhere that writes into what it is shown fails, and leaves it as it was."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from consilium.attack.evasion._evasion import Evasion
from consilium.attack.evasion.pgd import PGD
from consilium.core.errors import Failed
from consilium.core.records import Records
from consilium.core.threat import ModelView, ThreatModel
from consilium.core.untouched import untouched
from consilium.learn.perturbation.ball import Norm
from consilium.learn.tasks.single_label import SingleLabel


@dataclass(frozen=True)
class Meddling(Evasion):
    """Writes where ``what`` says."""

    threat = ThreatModel("outsider", "inference", "white-box", "evasion")

    radius: float = 0.1
    norm: Norm = "linf"
    what: str = ""

    def craft(self, view, x, y, generator):
        if self.what == "inputs":
            return x.add_(0.05).clamp_(0, 1)
        if self.what == "labels":
            y.zero_()
        if self.what == "weights":
            view.module.weight.data.zero_()  # no version counter tells this
        if self.what == "buffers":
            view.module.mean.fill_(3.0)
        return x.clone()


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.eye(2))
        self.register_buffer("mean", torch.zeros(2))

    def forward(self, x):
        return (x - self.mean) @ self.weight


def view():
    x = torch.tensor([[0.5, 0.2], [0.1, 0.7], [0.6, 0.3]])
    model = Model().requires_grad_(False)
    return ModelView(2, model, model, Records.of(x, torch.tensor([0, 1, 0])), task=SingleLabel())


@pytest.mark.parametrize(
    ("what", "place"),
    [("inputs", "targets.x"), ("labels", "targets.y"), ("weights", "module.weight"), ("buffers", "module.mean")],
)
def test_what_it_wrote_is_named_and_undone(what, place):
    seen, clean = view(), view()
    with pytest.raises(Failed, match=f"wrote into what it was shown .{place}"):
        Meddling(what=what)(seen, {}, torch.Generator())
    assert torch.equal(seen.targets.x, clean.targets.x) and torch.equal(seen.targets.y, clean.targets.y)
    assert torch.equal(seen.module.weight, clean.module.weight) and torch.equal(seen.module.mean, clean.module.mean)


def test_one_that_writes_nothing_is_left_alone():
    assert Meddling()(view(), {}, torch.Generator())["robust_accuracy"].value == 1


def test_what_was_written_is_undone_though_the_attack_fails_by_itself():
    seen = view()
    with pytest.raises(ZeroDivisionError), untouched(seen, Meddling()):
        seen.targets.x.zero_()
        raise ZeroDivisionError
    assert torch.equal(seen.targets.x, view().targets.x)


def test_nothing_is_copied_for_an_attack_of_this_package(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "clone", lambda *_: pytest.fail("copied"))
    with untouched(view(), PGD()):
        pass

"""Modules of many makes: whole, with the head alone, and under DP they work, or are refused by name."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from consilium import Study
from consilium.core.errors import Refused

NETS = """
import torch
from torch import nn
from torch.nn.utils import parametrizations

def stack(*layers):
    return nn.Sequential(*layers, nn.ReLU(), nn.Linear(8, 2))

def lazy():
    return stack(nn.LazyLinear(8))

def weight_norm():
    return stack(parametrizations.weight_norm(nn.Linear(30, 8)))

def spectral_norm():
    return stack(parametrizations.spectral_norm(nn.Linear(30, 8)))

def tied():
    module = nn.Sequential(nn.Linear(30, 8), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8), nn.Linear(8, 2))
    module[3].weight = module[1].weight
    return module

def softmax():
    return nn.Sequential(nn.Linear(30, 2), nn.Softmax(1))

class Recurrent(nn.Module):
    def __init__(self, kind="GRU"):
        super().__init__()
        self.layer, self.out = getattr(nn, kind)(5, 8, batch_first=True), nn.Linear(8, 2)

    def forward(self, x):
        return self.out(self.layer(x.view(-1, 6, 5))[0][:, -1])

class TwoSteps(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.out = nn.Linear(30, 8), nn.Linear(8, 2)

    def forward(self, x):
        code = self.encoder(x).relu()
        return self.out(code), code

class NaN(TwoSteps):
    def forward(self, x):
        return (self.out(self.encoder(x)) * 0).log() - torch.inf

class Batch(TwoSteps):
    def forward(self, x):
        x = x - x.mean(0)
        return self.out(self.encoder(x).relu())
"""

DP = {"privacy": [{"kind": "dp-sgd", "noise-multiplier": 1.0, "delta": 1e-3}]}
WORKS, TUPLE = "", "answers a tuple, not a tensor of logits"
MIXES, SOFTMAX = "depends on the other examples of its batch", "answers probabilities"
POWER = "training changes the module's buffers"
TABLE = {
    # module: what the whole of it says, the head alone, the whole under DP, the head alone under DP
    "lazy": (WORKS, WORKS, WORKS, WORKS),
    "weight_norm": (WORKS, WORKS, WORKS, WORKS),
    "spectral_norm": (WORKS, WORKS, POWER, WORKS),
    "tied": (WORKS, WORKS, WORKS, WORKS),
    "Recurrent": (WORKS, WORKS, WORKS, WORKS),
    "Recurrent LSTM": (WORKS, WORKS, WORKS, WORKS),
    "softmax": (SOFTMAX, SOFTMAX, SOFTMAX, SOFTMAX),
    "TwoSteps": (TUPLE, TUPLE, TUPLE, TUPLE),
    "NaN": ("NaN or infinity",) * 4,
    "Batch": (MIXES, MIXES, MIXES, MIXES),
}


@pytest.mark.parametrize("number", range(4), ids=["all", "head", "all under DP", "head under DP"])
@pytest.mark.parametrize("name", TABLE)
def test_a_module_trains_or_is_refused_by_what_it_does(name, number, tables, tmp_path, monkeypatch):
    (tmp_path / "odd_nets.py").write_text(NETS)
    monkeypatch.syspath_prepend(tmp_path)
    what, _, kind = name.partition(" ")
    model = {"kind": "module", "path": f"odd_nets:{what}", "allow-code": True, "train": ("all", "head")[number % 2]}
    tables |= {"model": model | ({"arguments": {"kind": kind}} if kind else {}), "attacks": [], "corruptions": []}
    tables |= {"vary": DP if number > 1 else {}, "federation": {"kind": "fed-avg", "rounds": 1, "batch": 32}}
    study, refusal = Study.of(tables), TABLE[name][number]
    if refusal:
        with pytest.raises(Refused, match=refusal):
            study.plan()
        return
    results = study.run(tmp_path / "out", quiet=True, executor="serial")
    assert not results.outcome.failed
    net = results.plan.materials.network(0)
    assert net.partly_frozen == (model["train"] == "head")
    assert net.parameters_at(net.start()[0]).keys() == {*net.trained}


def test_a_frozen_spectral_norm_iterates_no_further():
    """Its vectors are buffers that training mode moves: frozen they are constants."""
    from consilium.core.network import Network

    module = nn.Sequential(parametrizations.spectral_norm(nn.Linear(4, 4)), nn.Linear(4, 2))
    module[0].requires_grad_(False)
    net = Network(module)
    before = {name: t.clone() for name, t in net.constants.items()}
    net.logits(*net.start(), torch.rand(3, 4), training=True)
    assert net.start()[1].numel() == 0
    assert all(torch.equal(before[name], t) for name, t in net.constants.items())

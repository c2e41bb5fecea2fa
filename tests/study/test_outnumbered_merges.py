"""A corruption of more sites than a merge withstands is said in the plan, as is a model that writes into its inputs."""

import numpy as np
import pytest

from consilium import Study
from consilium.core.errors import Refused

IN_PLACE = """from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, x):
        return self.layer(x.clamp_(0, 1))
"""


def cautions(merge, sites, corrupted):
    table = {
        "name": "many",
        "threads": 1,
        "data": {"kind": "breast-cancer", "sites": sites},
        "model": "logistic",
        "federation": {"kind": "fed-avg", "rounds": 1},
        "vary": {"merge": [merge]},
        "corruptions": [{"kind": "sign-flip", "sites": corrupted}],
    }
    return [note for note in Study.of(table).plan().materials.consortium(0).cautions if "withstands" in note]


@pytest.mark.parametrize(
    ("merge", "sites", "corrupted", "most"),
    [({"kind": "krum", "byzantine": 1}, 7, 3, 1), ("median", 3, 2, 1), ({"kind": "trimmed-mean"}, 5, 2, 1)],
)
def test_more_corrupted_sites_than_a_rule_withstands_are_a_caution(merge, sites, corrupted, most):
    (note,) = cautions(merge, sites, corrupted)
    assert f"has {corrupted} of {sites} sites" in note and f"withstands {most} at most" in note
    assert not cautions(merge, sites, most)


def test_a_model_that_writes_into_its_inputs_is_refused_before_training_where_an_attack_follows_it(
    tmp_path, monkeypatch
):
    (tmp_path / "in_place_net.py").write_text(IN_PLACE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    draws = np.random.default_rng(0)
    np.savez("d.npz", x=draws.random((80, 4)).astype("f4"), y=draws.integers(0, 2, 80))
    table = {
        "name": "in-place",
        "threads": 1,
        "data": {"kind": "npz", "path": "d.npz"},
        "model": {"kind": "module", "path": "in_place_net:Net", "allow-code": True},
        "federation": {"kind": "fed-avg", "rounds": 1},
        "attacks": [{"kind": "pgd", "radius": 0.05}],
    }
    with pytest.raises(Refused, match="writes into its inputs"):
        Study.of(table).plan()

"""A twin that nobody infects is its clean twin under another name, and is refused in the plan."""

import json
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest

from consilium import Study
from consilium.attack.poisoning.label_flip import LabelFlip
from consilium.core.attack import Corruption
from consilium.core.errors import Refused
from consilium.core.threat import ThreatModel
from consilium.study.plan.checks.corruptions import check_infections
from consilium.study.run.plan_summary import plan_summary
from consilium.study.spec.spec import CorruptionSpec


def planned(tables, corruption):
    return Study.of({**tables, "vary": {}, "attacks": [], "corruptions": [corruption]}).plan()


@pytest.mark.parametrize(
    ("corruption", "why"),
    [
        ({"kind": "label-flip", "sites": 0}, "corruption label-flip infects nobody (sites = 0)"),
        ({"kind": "label-flip", "share": 0.0, "name": "s0"}, "corruption s0 infects nobody (share = 0)"),
        ({"kind": "label-flip", "share": 1e-4}, "infects nobody (it changes no record of site-"),
        ({"kind": "adversarial-poisoning", "share": 0.0}, "adversarial-poisoning infects nobody (share = 0)"),
        ({"kind": "adversarial-poisoning", "radius": 0.0}, "adversarial-poisoning infects nobody (radius = 0)"),
    ],
)
def test_a_corruption_that_changes_nothing_is_refused_by_name(tables, corruption, why):
    with pytest.raises(Refused) as e:
        planned(tables, corruption)
    assert why in str(e.value) and e.value.where == "corruptions[0]"
    assert "the clean twin is run anyway: leave the corruption out" in e.value.remedy


def test_every_seed_has_infected_sites_of_its_own(tables):
    """The one site of class 1 is corrupted under one seed and not under the other."""
    plan = planned(tables, {"kind": "label-flip", "source": 1, "target": 0})
    data = plan.materials.consortium(0)
    train = data.sites[0].records.train
    zeros = replace(data.sites[0].records, train=train.select(train.y == 0))
    data = replace(data, sites=tuple(replace(site, records=zeros) for site in data.sites[:1]) + data.sites[1:])
    odd = [seed for seed in range(10) if _drawn(plan.spec, data, seed) == data.sites[0].id]
    for seed in range(10):
        if seed in odd:
            with pytest.raises(Refused, match=f"changes no record of {data.sites[0].id}, seed {seed}"):
                check_infections(plan.spec, data, seed)
        else:
            check_infections(plan.spec, data, seed)
    assert 0 < len(odd) < 10
    names = {c.seed: c for c in Study.of({**tables, "seeds": [0, 1]}).plan().cells}
    assert set(names) == {0, 1}


def _drawn(spec, data, seed):
    from consilium.study.build.factory import colluders

    return colluders(spec.corruptions[0], data.sites, seed)[0]


@dataclass(frozen=True)
class _Own(Corruption):
    threat: ClassVar[ThreatModel] = LabelFlip.threat
    sites: int = 1


class _Forger(_Own):
    def forge(self, memory, updates, view):
        return updates, memory


class _Lazy(_Own):
    def schedule(self, schedule):
        return replace(schedule, epochs=schedule.epochs + 1)


@pytest.mark.parametrize(("made", "acts"), [(_Own(), False), (_Forger(), True), (_Lazy(), True)])
def test_a_corruption_acts_by_any_of_its_methods(tables, made, acts):
    plan = planned(tables, {"kind": "label-flip"})
    spec = replace(plan.spec, corruptions=(CorruptionSpec("own", made),))
    if acts:
        check_infections(spec, plan.materials.consortium(0), 0)
    else:
        with pytest.raises(Refused, match="corruption own infects nobody"):
            check_infections(spec, plan.materials.consortium(0), 0)


def test_the_classes_that_are_flipped_are_named(tmp_path, capsys):
    """Labels 1, 2, 3, 10 are classes in the order of text, so source = 2 is the class 2 and target = 1 the class 10."""
    rows = [f"{k % 7},{k % 5},{(1, 2, 3, 10)[k % 4]}" for k in range(80)]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,y", *rows]) + "\n")
    study = Study(
        name="flip",
        data={"kind": "table", "path": str(tmp_path / "t.csv"), "label": "y", "sites": 2},
        model="logistic",
        federation={"kind": "fed-avg", "rounds": 1},
        corruptions=[{"kind": "label-flip", "source": 2, "target": 1}],
    )
    said = "label-flip turns '2' into '10'"
    assert said in plan_summary(study.plan(), None)["notes"]
    folder = study.run(tmp_path / "out").folder
    assert said in capsys.readouterr().err
    cells = [json.loads(path.read_text()) for path in folder.glob("cells/*/evidence.json")]
    assert {cell["cell"]["infected_by"]: said in cell["notes"] for cell in cells} == {"none": False, "label-flip": True}

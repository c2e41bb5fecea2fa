"""A measure has a finite value or a reason."""

import json

import pytest

from consilium.core.finding import Finding, Measure


def test_undefined_has_a_reason():
    gone = Measure.undefined("auroc", "no record of class 2", n=7)
    assert gone.value is None and gone.n == 7 and gone.reason
    with pytest.raises(ValueError, match="neither a value nor a reason"):
        Measure("auroc", None)


@pytest.mark.parametrize("field", ["value", "low", "high", "chance"])
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_no_figure_is_made_up(field, number):
    with pytest.raises(ValueError, match=f"{field} is"):
        Measure(**{"name": "x", "value": 0.5, field: number})


def test_json_and_back():
    measure = Measure("accuracy", 0.9, 0.8, 0.95, 0.5, 100, "")
    assert Measure(**json.loads(json.dumps(measure.to_json()))) == measure


def test_a_finding_is_asked_by_name():
    finding = Finding((Measure("a", 1.0), Measure("b", 2.0)))
    assert finding["b"].value == 2.0
    with pytest.raises(KeyError):
        finding["c"]

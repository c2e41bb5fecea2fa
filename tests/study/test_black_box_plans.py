"""What a plan refuses of black-box and physical attacks, in one line with the numbers."""

import pytest

from consilium.core.errors import Refused

CASES = [
    ({"kind": "square", "queries": 0}, "0 is out of range"),
    ({"kind": "hop-skip-jump", "queries": 0}, "0 is out of range"),
    ({"kind": "substitute"}, "fitted on public records and there are none"),
    ({"kind": "adv-gan"}, "fitted on public records and there are none"),
    ({"kind": "adversarial-patch", "size": 1.5}, "larger than it"),
    ({"kind": "light-spots", "radius": 1.5}, "1.5 is out of range"),
    ({"kind": "image-corruptions", "only": ["fog"]}, "'fog' is no corruption"),
]
PICTURES = {"kind": "digits", "sites": 2}


def plan(attack, data):
    from consilium import Study

    return Study(
        name="planned", data=data, model="cnn", federation={"kind": "fed-avg", "rounds": 1, "lr": 0.1},
        attacks=[attack],
    ).plan()  # fmt: skip


@pytest.mark.parametrize(("attack", "said"), CASES, ids=lambda v: v["kind"] if isinstance(v, dict) else "")
def test_bad_input_is_refused_in_the_plan(attack, said):
    with pytest.raises(Refused, match=said) as refusal:
        plan(attack, {**PICTURES, "public": 0})
    assert "attacks[0]" in str(refusal.value) or "attacks[0]" in (refusal.value.where or "")


@pytest.mark.parametrize("kind", ["substitute", "adv-gan", "adversarial-patch", "light-spots", "image-corruptions"])
def test_with_public_records_each_is_planned(kind):
    """A patch too, whose radius of 1 holds every print."""
    plan({"kind": kind}, {**PICTURES, "public": 0.1})

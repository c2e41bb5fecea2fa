"""A site's weight is the server's, and no share of a merge exceeds the cap."""

import random

import pytest

from consilium.core.errors import Refused
from consilium.federate.round.weights import check_weight, fewest_sites, limited, shares, site_weights


def test_weights_follow_from_what_was_enrolled() -> None:
    assert site_weights({"a": 5, "b": 10**12}, "records") == {"a": 5.0, "b": 1e12}
    assert site_weights({"a": 5, "b": 10**12}, "uniform") == {"a": 1.0, "b": 1.0}


def test_another_weight_is_refused_by_name() -> None:
    check_weight("a", 5.0, {"a": 5.0})
    with pytest.raises(Refused, match=r"weighs 1e\+12, and the server gives it 5"):
        check_weight("a", 1e12, {"a": 5.0})


def test_without_a_cap_nothing_changes() -> None:
    assert limited({"a": 1e12, "b": 0.1}, 1.0) == {"a": 1e12, "b": 0.1}


@pytest.mark.parametrize(
    ("weights", "most", "wanted"),
    [
        ((1e12, 100, 100), 0.5, (200, 100, 100)),
        ((1e12, 1e12, 100), 0.4, (200, 200, 100)),
        ((1e12, 5, 1), 1 / 3, (1, 1, 1)),
        ((10, 10, 10), 0.4, (10, 10, 10)),
        ((30, 20, 50), 0.5, (30, 20, 50)),
        ((5, 10), 0.5, (5, 5)),
    ],
)
def test_known_cases(weights, most, wanted) -> None:
    named = dict(enumerate(map(float, weights)))
    assert list(limited(named, most).values()) == pytest.approx(wanted)


def test_no_share_exceeds_the_cap_and_no_weight_is_lowered_further_than_it_needs() -> None:
    draw = random.Random(7)
    for _ in range(500):
        weights = {str(k): draw.lognormvariate(0, 4) for k in range(draw.randint(1, 12))}
        most = draw.uniform(1 / len(weights), 1)
        kept = limited(weights, most)
        parts = shares(kept)
        assert max(parts.values()) <= most * (1 + 1e-9) and sum(parts.values()) == pytest.approx(1)
        assert all(0 < kept[site] <= weights[site] for site in weights)
        lowered = [site for site in weights if kept[site] < weights[site]]
        assert all(parts[site] == pytest.approx(most) for site in lowered)


def test_a_cap_below_an_equal_share_is_refused() -> None:
    with pytest.raises(Refused, match=r"among 2 sites one has a share of at least 0\.5, and 0\.4 is the most"):
        limited({"a": 1.0, "b": 1.0}, 0.4)
    assert [fewest_sites(most) for most in (1.0, 0.5, 0.4, 1 / 3, 0.1)] == [1, 2, 3, 3, 10]

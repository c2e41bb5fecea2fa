"""FoolsGold: the paper's loop, puppets of one attacker, and what it takes honest sites for."""

import math

import pytest
import torch

from consilium.core.merge import Cohort
from consilium.defend.merge._contribution_similarity import dissimilarity_weights
from consilium.defend.merge.foolsgold import FoolsGold


def by_hand(rows):
    """Algorithm 1 of the paper in plain loops, its division by zero left out."""
    n = len(rows)
    cosine = [
        [0.0 if i == j else float(a @ b / a.norm() / b.norm()) for j, b in enumerate(rows)] for i, a in enumerate(rows)
    ]
    most = [max(row) for row in cosine]
    for i in range(n):
        for j in range(n):
            if most[i] < most[j]:
                cosine[i][j] *= most[i] / most[j]
    weights = [min(1.0, max(0.0, 1 - max(row))) for row in cosine]
    weights = [min(0.99, w / max(weights)) for w in weights]
    return [min(1.0, max(0.0, math.log(w / (1 - w)) + 0.5)) if w > 0 else 0.0 for w in weights]


def cosines(rows):
    unit = rows / rows.norm(dim=1, keepdim=True)
    return unit @ unit.T


@pytest.mark.parametrize("seed", range(5))
def test_the_weights_are_those_of_the_papers_loop(seed):
    rows = torch.randn(6, 8, generator=torch.Generator().manual_seed(seed)).double()
    rows[4:] = rows[4] + 0.05 * rows[5]
    expected = torch.tensor(by_hand(rows)).double()
    torch.testing.assert_close(dissimilarity_weights(cosines(rows)), expected)


def test_puppets_that_send_the_same_count_nothing_and_the_mean_is_theirs(merging):
    honest = torch.randn(4, 200, generator=torch.Generator().manual_seed(1))
    rows = torch.cat([honest, torch.full((6, 200), 3.0) + 0.01 * torch.randn(6, 200)])
    out = merging(FoolsGold(), rows)
    assert float((out - honest.mean(0)).norm()) < 0.05 * honest.mean(0).norm()
    assert float((rows.mean(0) - honest.mean(0)).norm()) > 20


def test_it_remembers_what_sites_sent_before(merging):
    """Puppets that hide behind noise in each round alone are seen in the sum of the rounds."""
    g = torch.Generator().manual_seed(2)
    aim, memory, rule = torch.randn(400, generator=g), {}, FoolsGold().merge()
    for round in range(40):
        honest = 3 * torch.randn(4, 400, generator=g)
        rows = torch.cat([honest, 1.2 * aim + 3 * torch.randn(4, 400, generator=g)])
        aggregate, memory = rule.merge(merging.updates(rows, round=round + 1), memory)
    assert set(memory) == {f"foolsgold-history site-{k:02}" for k in range(8)}
    first, _ = rule.merge(merging.updates(rows), {})
    later, alone = (float(out.payload["delta"] @ aim) for out in (aggregate, first))
    assert abs(later) < 0.3 * abs(alone)


def test_where_all_are_alike_the_mean_is_plain_and_a_lone_attacker_is_not_found(merging):
    """The limits that its page names."""
    rows = torch.ones(4, 5)
    torch.testing.assert_close(merging(FoolsGold(), rows), rows[0])
    torch.testing.assert_close(merging(FoolsGold(), rows[:1]), rows[0])
    similar = 1 + 0.1 * torch.randn(4, 50, generator=torch.Generator().manual_seed(3))
    attacked = torch.cat([similar, torch.full((1, 50), -9.0)])
    assert float(merging(FoolsGold(), attacked).mean()) < -8
    assert FoolsGold().weakness(Cohort(2, 1)) and not FoolsGold().weakness(Cohort(3, 1))

"""FLTrust: its formula, who is trusted, and the server's own update."""

import pytest
import torch

from consilium.core.errors import Refused
from consilium.core.update import Update
from consilium.defend.merge.fl_trust import FLTrust


def rooted(root):
    payload = {"delta": root, "buffers": root[:1].clone()}
    return FLTrust().merge().at(lambda: payload)


def by_hand(rows, root):
    scores = [max(0.0, float(torch.cosine_similarity(row, root, dim=0))) for row in rows]
    scaled = [score * root.norm() / row.norm() * row for score, row in zip(scores, rows, strict=True)]
    return sum(scaled) / sum(scores)


def test_it_is_the_papers_formula(merging):
    rows = torch.randn(8, 20, generator=torch.Generator().manual_seed(1)).double()
    root = rows[:3].mean(0)
    torch.testing.assert_close(merging(rooted(root), rows), by_hand(rows, root))


@pytest.mark.parametrize("forged", [-1.0, -1e12, 1e12, float("nan"), float("inf")])
def test_a_majority_of_forged_updates_is_cut_to_the_servers_length(merging, forged):
    """What points away counts nothing; what points the right way is as long as the server's own."""
    g = torch.Generator().manual_seed(2)
    truth = torch.randn(50, generator=g)
    honest = truth + 0.3 * torch.randn(3, 50, generator=g)
    root = truth + 0.3 * torch.randn(50, generator=g)
    rows = torch.cat([honest, (forged * truth).expand(5, 50)])
    out = merging(rooted(root), rows)
    assert float(torch.cosine_similarity(out, truth, dim=0)) > 0.9
    assert float(out.norm()) <= float(root.norm()) * 1.001
    assert not float((rows.mean(0) - truth).norm()) < float(truth.norm())


def test_where_nobody_is_trusted_the_servers_update_is_the_aggregate(merging):
    root = torch.ones(4)
    assert torch.equal(merging(rooted(root), -torch.ones(3, 4)), root)
    assert torch.equal(merging(rooted(root), torch.zeros(3, 4)), root)


def test_without_an_update_of_the_server_or_with_another_form_it_is_refused(merging):
    with pytest.raises(Refused, match="without an update of the server's own"):
        merging(FLTrust(), torch.ones(3, 4))
    odd = Update("odd", 1, 1.0, {"delta": torch.zeros(3)})
    with pytest.raises(Refused, match="odd: its payload differs from that of the server"):
        rooted(torch.ones(4)).merge([odd], {})


def test_it_keeps_no_update_and_needs_public_records():
    assert FLTrust().fits_public() and FLTrust().merge().streams and FLTrust().merge().reads == "each"

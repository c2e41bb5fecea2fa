"""Generated findings and masks: the same pictures for the same seed, labels that the pictures show, patients apart."""

import pytest
import torch
from sklearn.linear_model import LogisticRegression

from consilium.core.errors import Refused
from consilium.data.sources.generated_findings import GeneratedFindings
from consilium.data.sources.generated_masks import GeneratedMasks
from consilium.learn.tasks.masks import Masks
from consilium.learn.tasks.multi_label import MultiLabel
from consilium.learn.tasks.single_label import SingleLabel

BOTH = pytest.mark.parametrize("source", [GeneratedFindings(patients=20), GeneratedMasks(patients=20, size=16)])


@BOTH
def test_a_seed_is_a_collection(source):
    first, again = source.load(), source.load()
    other = type(source)(patients=20, size=16, seed=1).load()
    assert torch.equal(first.records.x, again.records.x) and torch.equal(first.records.y, again.records.y)
    assert not torch.equal(first.records.x, other.records.x)
    assert first.bundled and first.names_units and not first.fitted_on_private
    assert torch.bincount(first.records.units).tolist() == [3] * 20


@BOTH
def test_pictures_are_shades_of_grey_and_all_different(source):
    x = source.load().records.x
    assert x.dtype == torch.float32 and float(x.min()) >= 0 and float(x.max()) <= 1
    assert torch.allclose(x * 255, (x * 255).round(), atol=1e-4)
    assert len(torch.unique(x.flatten(1), dim=0)) == len(x)


def test_tasks_fit_or_are_refused():
    findings, masks = GeneratedFindings(patients=5), GeneratedMasks(patients=5, size=16)
    data = findings.load_for(MultiLabel())
    MultiLabel().check_labels(data.records.y, data.classes, tuple(data.records.x.shape[1:]), "y")
    data = masks.load_for(Masks(threshold=0.5))
    Masks(threshold=0.5).check_labels(data.records.y, data.classes, tuple(data.records.x.shape[1:]), "y")
    for source, task in ((findings, SingleLabel()), (masks, SingleLabel()), (masks, MultiLabel())):
        with pytest.raises(Refused, match=f"the source {source.kind()} has .* for each record, and the task is"):
            source.load_for(task)
    with pytest.raises(Refused, match="patients"):
        GeneratedMasks(patients=0)


@pytest.mark.parametrize(("finding", "place"), [("effusion", slice(14, 16)), ("mass", slice(4, 12))])
def test_a_finding_is_seen_where_it_is_drawn_and_nowhere_without_it(finding, place):
    data = GeneratedFindings(patients=300, noise=0.0).load()
    shown = data.records.y[:, data.classes.index(finding)] == 1
    rows = data.records.x[:, 0, place].mean((1, 2))
    assert rows[shown].mean() > rows[~shown].mean() + 0.05


def test_findings_are_as_common_as_said_and_persist_in_a_patient():
    y = GeneratedFindings(patients=2000, pictures=2).load().records.y.view(2000, 2, 5)
    assert torch.allclose(y.double().mean((0, 1)), torch.tensor([0.35, 0.25, 0.3, 0.3, 0.2]).double(), atol=0.03)
    same = (y[:, 0] == y[:, 1]).double().mean()
    assert same > 0.88, "by independent draws it would be 0.6"


def test_lesions_lie_in_the_organ_are_brighter_and_some_patients_have_none():
    data = GeneratedMasks(patients=200, noise=0.0).load()
    x, y = data.records.x[:, 0], data.records.y
    means = [float(x[y == label].mean()) for label in range(3)]
    assert means[0] + 0.1 < means[1] < means[2] - 0.1
    share = ((y == 2).flatten(1).any(1)).view(200, 3).any(1).double().mean()
    assert 0.6 < share < 0.9
    sizes = (y > 0).flatten(1).sum(1).view(200, 3)
    assert (sizes[:, 1] >= sizes[:, 0]).all(), "the middle slice is the largest"
    around = torch.nn.functional.max_pool2d((y > 0).double()[:, None], 3, 1, 1)[:, 0]
    assert (around[y == 2] == 1).all()


def test_the_pictures_can_be_learned():
    """A linear model of the pixels tells the effusion, and none of them the label of a shuffled record."""
    data = GeneratedFindings(patients=300).load()
    x, y = data.records.x.flatten(1).numpy(), data.records.y[:, data.classes.index("effusion")].numpy()
    assert LogisticRegression(max_iter=500).fit(x[:600], y[:600]).score(x[600:], y[600:]) > 0.9
    shuffled = y[torch.randperm(900, generator=torch.Generator().manual_seed(0)).numpy()]
    assert LogisticRegression(max_iter=500).fit(x[:600], shuffled[:600]).score(x[600:], shuffled[600:]) < 0.8

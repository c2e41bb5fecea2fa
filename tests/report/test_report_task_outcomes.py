"""Dice and macro AUROC of two models are compared on the same patients: closed forms, a bootstrap, planted changes."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.special import stdtrit

from consilium.core.finding import Measure
from consilium.core.random import Stream
from consilium.learn.tasks.masks import Masks
from consilium.learn.tasks.multi_label import MultiLabel
from consilium.measure.confidence.by_unit import drawn_units
from consilium.measure.paired import Pair, paired
from consilium.measure.ranking import Ranking
from consilium.measure.tasks.masks import mask_figures
from consilium.report.analyse.columns import TableColumn
from consilium.report.analyse.compare import gap
from consilium.report.analyse.outcomes import Outcomes
from consilium.report.load.scores import read_arrays
from consilium.report.load.task_outcomes import dice_outcomes, macro_auroc_outcomes, placements

AUROC = TableColumn("macro_auroc", "macro AUROC", "Utility", "", "high")
DICE = TableColumn("dice", "Dice", "Utility", "", "high")


def findings(seed, n=240, k=3, per_unit=1, shift=0.0):
    """Answers of two models, the second better by ``shift``, to findings of ``n`` records, and their units."""
    generator = np.random.default_rng(seed)
    patient = np.repeat(generator.normal(size=(n // per_unit, k)), per_unit, 0)
    truth = (np.repeat(generator.normal(size=(n // per_unit, k)), per_unit, 0) > 0).astype(np.int64)
    answers = [
        truth * (1 + better) + 0.7 * patient + 0.7 * generator.normal(size=(n, k)) for better in (0.0, shift)
    ]  # fmt: skip
    units = np.repeat(np.arange(n // per_unit), per_unit)
    return [{"id": np.arange(n), "unit": units, "answers": a, "truth": truth} for a in answers]


def pair_of(before, after, outcomes=macro_auroc_outcomes):
    one, other = outcomes(before), outcomes(after)
    return Pair(0, other.values - one.values, one.units, one.strata, one.weights)


def areas(scores, counts):
    columns = [Ranking(a, t > 0) for a, t in zip(scores["answers"].T, scores["truth"].T, strict=True)]
    return np.mean([column.areas(counts) for column in columns], axis=0)


@pytest.mark.parametrize("rounded", [False, True])
def test_placements_give_the_area(rounded):
    scores = findings(3, shift=0.3)[1]
    scores["answers"] = scores["answers"].round(0) if rounded else scores["answers"]  # ties count half
    assert macro_auroc_outcomes(scores).figure == pytest.approx(areas(scores, np.ones((1, 240)))[0], abs=1e-12)


def test_the_interval_is_delong_s():
    """One finding, each record a unit: the variance of the difference in closed form (DeLong et al. 1988)."""
    before, after = findings(1, n=2000, k=1, shift=0.2)
    positive = before["truth"][:, 0] > 0
    change = placements(after["answers"][:, 0], positive) - placements(before["answers"][:, 0], positive)
    variance = sum(np.var(change[kind], ddof=1) / kind.sum() for kind in (positive, ~positive))
    mean, low, high = paired([pair_of(before, after)])
    assert mean == pytest.approx((areas(after, np.ones((1, 2000))) - areas(before, np.ones((1, 2000))))[0])
    assert (high - low) / 2 == pytest.approx(1.96 * np.sqrt(variance), rel=0.05)


@pytest.mark.parametrize("per_unit", [1, 4])
def test_the_interval_is_that_of_a_bootstrap_by_patient(per_unit):
    before, after = findings(2, n=1200, per_unit=per_unit, shift=0.2)
    changes = []
    for counts in drawn_units(1200 // per_unit, Stream(5), 400):
        weights = counts[:, before["unit"]]
        changes.append(areas(after, weights) - areas(before, weights))
    low, high = np.quantile(np.concatenate(changes), [0.025, 0.975])
    _, least, most = paired([pair_of(before, after)])
    assert (most - least) == pytest.approx(high - low, rel=0.15) and abs(least - low) < 0.15 * (high - low)


def test_patients_with_several_records_widen_it():
    """The same records as if each were a patient: the interval is too narrow."""
    before, after = findings(2, n=1200, per_unit=4, shift=0.2)
    _, low, high = paired([pair_of(before, after)])
    alone = [{**scores, "unit": np.arange(1200)} for scores in (before, after)]
    _, least, most = paired([pair_of(*alone)])
    assert most - least < 0.97 * (high - low)


def test_equal_models_are_marked_as_often_as_stated():
    hits = [paired([pair_of(*findings(seed, n=120, k=2))]) for seed in range(200)]
    assert 0 <= sum(low > 0 or high < 0 for _, low, high in hits) <= 18, "5 % of 200, and three deviations more"


def cell(folder, name, arrays, measure):
    file = folder / f"{name}.safetensors"
    save_file({key: torch.as_tensor(value).contiguous() for key, value in arrays.items()}, file)
    about = {"scores": file.name, "file": file, "digest": name, "seed": 0, "judged": True}
    return SimpleNamespace(utility=(measure,), cost=(), **about)


def masks(seed, loss):
    """Answers, truth and units: 40 patients with two pictures of 8 x 8 each; ``loss`` of the pixels are missed."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.zeros(80, 8, 8, dtype=torch.long)
    truth[:, 2:6, 2:6] = 1
    missed = torch.rand(truth.shape, generator=generator) < loss
    answers = torch.stack([torch.zeros(80, 8, 8), torch.where(missed, 1 - truth, truth) * 2.0 - 1], 1)
    return answers, truth, torch.arange(80) // 2


@pytest.mark.parametrize(("loss", "sign"), [(0.02, 0), (0.2, -1)])
def test_a_planted_loss_of_dice_is_seen_and_none_is_not(tmp_path, loss, sign):
    cells = []
    for name, (answers, truth, units) in {"a": masks(0, 0.02), "b": masks(1, loss)}.items():
        task = Masks(threshold=0.5)
        figures = mask_figures(task.predicted(answers)[:, None] > 0, truth[:, None] > 0, units, ["organ"], Stream(1))
        arrays = {"id": torch.arange(80), "unit": units, **task.stored(answers, truth)}
        cells.append(cell(tmp_path, name, arrays, figures[0]))
    apart = gap([((1, cells[1]), (-1, cells[0]))], DICE, Outcomes())
    assert apart.reason == "" and apart.sign == sign
    before, after = (dice_outcomes({"unit": masks(0, 0)[2].numpy(), **read(one)}) for one in cells)
    assert before.figure == pytest.approx(cells[0].utility[0].value, abs=1e-12) and len(before.values) == 40
    # The mean over 40 patients and two artificial ones that disagree: Student's t on 42 values.
    values = np.r_[after.values - before.values, 1.0, -1.0]
    half = stdtrit(41, 0.975) * values.std(ddof=1) / np.sqrt(42)
    assert (apart.low, apart.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=1e-9)


def read(one):
    return {"dice": read_arrays(one.file)["dice"]}


def test_two_models_of_several_findings_are_compared_from_their_files(tmp_path):
    task = MultiLabel()
    cells = []
    for name, scores in zip("ab", findings(4, shift=1.5), strict=True):
        answers, truth = torch.as_tensor(scores["answers"]), torch.as_tensor(scores["truth"])
        value = float(areas(scores, np.ones((1, 240)))[0])
        arrays = {"id": scores["id"], "unit": scores["unit"], **task.stored(answers, truth)}
        cells.append(cell(tmp_path, name, arrays, Measure("macro_auroc", value, n=240)))
    group = ((1, cells[1]), (-1, cells[0]))
    assert gap([group], AUROC, Outcomes()).sign == 1
    cells[1].utility = (Measure("macro_auroc", 0.5, n=240),)
    assert gap([group], AUROC, Outcomes()).reason == "not comparable: its scores give another figure"


def test_without_stored_answers_there_is_no_interval(tmp_path):
    some = {"id": torch.arange(4), "unit": torch.arange(4)}
    cells = [cell(tmp_path, name, some, Measure("macro_auroc", 0.7, n=4)) for name in "ab"]
    for column in (AUROC, TableColumn("r2", "R2", "Utility", "", "high")):
        apart = gap([((1, cells[1]), (-1, cells[0]))], column, Outcomes())
        assert apart.sign == 0 and apart.reason.startswith("not comparable")

"""Pictures with the scale of the perturbation, a line where there are none, and why an infected model looks better."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from consilium.report.analyse.columns import columns
from consilium.report.analyse.robustness.less_noise import less_noise_at, less_noise_note
from consilium.report.analyse.summary import rows
from consilium.report.render.cell import cell_views
from consilium.report.render.gallery import examples, no_pictures


@pytest.mark.parametrize(("channels", "scale"), [(1, "8"), (3, "4")])
def test_the_scale_is_by_how_much_the_picture_of_the_change_is_amplified(one_seed, tmp_path, channels, scale):
    clean = torch.full((2, channels, 4, 4), 0.5)
    changed = clean.clone()
    changed[0, 0, 0, 0] += 0.125
    labels = {f"example/{name}": torch.tensor([1, 2]) for name in ("label", "answer_before", "answer_after")}
    save_file({"example/clean": clean, "example/adversarial": changed, **labels}, tmp_path / "e.safetensors")
    finding = replace(one_seed.evidence[0].aimed("evasion")[0], file=tmp_path / "e.safetensors")
    first, second = examples(finding, one_seed.data.classes, 8)
    assert (first.linf, first.scale) == (0.125, scale) and (second.linf, second.scale) == (0.0, "")
    if channels == 3:  # the picture itself: grey is no change, and the largest is a full one
        from consilium.report.render.png import difference_image

        picture = difference_image(clean[0].double().numpy(), changed[0].double().numpy())
        assert np.isclose(picture[0, 0, 0] - 0.5, 0.125 * float(scale)) and np.isclose(picture[1, 0, 0], 0.5)


def test_the_three_stand_side_by_side_with_answers_and_the_truth(one_seed):
    from consilium.report.render.page import write_page

    page = write_page(one_seed.folder).read_text(encoding="utf-8")
    figure = re.search(r'<figure class="example">.*?</figure>', page, re.S)[0]
    alts = re.findall(r'alt="([^"]*)"', figure)
    assert alts[0] == "clean" and alts[1].startswith("perturbation, amplified ") and alts[2] == "adversarial"
    assert re.search(r"true: <b>\d</b><br>answered \d → ", figure) and re.search(r"shown × [\d.]+<", figure)


@pytest.mark.parametrize(
    ("shape", "share", "said"),
    [
        ((16,), False, "No pictures: the records (of 16 numbers) are no images."),
        ((16,), True, "No pictures: the records (of 16 numbers) are no images."),
        ((4, 8, 8), False, "No pictures: images of 4 channels are not drawn, only those of one or three."),
        ((1, 8, 8), True, "Images of records are left out of this page."),
        ((1, 8, 8), False, "No pictures: the file of this attack's examples is not in the folder as it was written."),
    ],
)
def test_where_there_are_none_it_says_why(one_seed, shape, share, said):
    finding = one_seed.evidence[0].aimed("evasion")[0]
    assert no_pictures(finding, shape, share=share) == said
    assert no_pictures(replace(finding, status="failed"), shape, share=share) == ""


def test_a_study_of_numbers_says_so_at_every_attack_of_evasion(one_seed):
    numbers = replace(one_seed, data=replace(one_seed.data, shape=(16,)), evidence=one_seed.evidence[:1])
    (view,) = cell_views(numbers, {}, share=False)
    said = {aim: {finding.no_pictures for finding in findings} for aim, findings in view.findings}
    assert said["evasion"] == {"No pictures: the records (of 16 numbers) are no images."} and said["membership"] == {""}
    (view,) = cell_views(replace(one_seed, evidence=one_seed.evidence[:1]), {}, share=False)
    assert all(f.examples and not f.no_pictures for aim, some in view.findings if aim == "evasion" for f in some)


def better(study, arm):
    """The study in which the infected model of ``arm`` is more accurate than its clean twin."""
    twin = study.arm_cells(arm, "none")[0]
    level = next(m.value for m in twin.utility if m.name == "accuracy") + 0.028

    def raised(cell):
        measures = tuple(replace(m, value=level) if m.name == "accuracy" else m for m in cell.utility)
        return replace(cell, utility=measures, corrupted=("site-0",))

    hit = lambda cell: cell.arm == arm and cell.infected_by != "none"  # noqa: E731
    return replace(study, evidence=tuple(raised(cell) if hit(cell) else cell for cell in study.evidence))


def test_an_infected_model_that_looks_better_for_less_noise_is_said_to(one_seed):
    study = better(one_seed, "dp-sgd")
    (label,) = study.infections[1:]
    assert less_noise_at(study, rows(study), columns(study)) == {("dp-sgd", label, "accuracy")}
    (cell,) = study.arm_cells("dp-sgd", label)
    note = less_noise_note(study, cell)
    assert re.match(r"Its accuracy is 0\.\d{3}, that of its clean twin 0\.\d{3}\. ", note)
    assert "the 1 corrupted site of 5 obeys no site half of a defence" in note and "LAWS 4" in note
    assert all(not less_noise_note(study, other) for other in study.evidence if other is not cell)


def test_without_noise_or_without_a_better_figure_nothing_is_said(one_seed):
    assert not less_noise_at(one_seed, rows(one_seed), columns(one_seed))
    plain = better(one_seed, "none")
    assert not less_noise_at(plain, rows(plain), columns(plain))
    assert not any(less_noise_note(plain, cell) for cell in plain.evidence)

"""The laws of training defences that perturb inputs and of calibration: refused in the plan, with the reason."""

import pytest

from consilium import Study
from consilium.core.errors import Unlawful

DP = {"kind": "dp-sgd", "noise-multiplier": 1.0, "delta": 1e-3}


@pytest.fixture
def small(tables):
    """The tiny study without axes, attacks or corruptions."""
    return {**tables, "vary": {}, "attacks": [], "corruptions": []}


def varied(tables, **axes):
    return {**tables, "vary": axes}


def refusal(tables, law):
    """The line with which a study is refused under ``law``."""
    with pytest.raises(Unlawful) as caught:
        Study.of(tables).plan()
    assert f"(LAWS {law})" in str(caught.value) and caught.value.remedy
    return str(caught.value)


CALIBRATED = {"data": {"kind": "digits", "sites": 2, "public": 0.1}, "model": "logistic"}


def test_law_1_calibration_is_the_last_thing_done_to_a_model(small):
    images = {**small, **CALIBRATED}
    bare = {"kind": "prune", "fine-tune-steps": 0}
    for chain in (["calibrate", "static-int8"], ["calibrate", bare], [bare, "calibrate", "static-int8"]):
        assert "calibrate must be the last" in refusal(varied(images, a=[chain]), 1)
    assert "static-int8 must be the last" in refusal(varied(images, a=[["static-int8", bare, "calibrate"]]), 1)
    plan = Study.of(varied(images, a=[[bare, "static-int8", "calibrate"], ["static-int8", "calibrate"]])).plan()
    assert [arm.name for arm in plan.arms[1:]] == ["prune+static-int8+calibrate", "static-int8+calibrate"]


def test_law_1_one_defence_perturbs_the_inputs(small):
    images = {**small, **CALIBRATED}
    assert "their radii would add up" in refusal(varied(images, a=[["adversarial-training", "trades"]]), 1)
    assert "their radii would add up" in refusal(varied(images, a=[["mart"]], b=[["free-adversarial-training"]]), 1)
    late = {"kind": "mart", "warm-up": 20}
    assert "warm-up = 20 rounds ends after the last" in refusal(varied(images, a=[[late]]), 5)
    first = {"kind": "adversarial-training", "views": "first"}
    assert "no augmentation stands before it" in refusal(varied(images, a=[[first, "augmentation"]]), 5)
    Study.of(varied(images, a=[["augmentation", first]])).plan()


def test_law_5_what_carries_a_perturbation_from_step_to_step_may_not_stand_inside_dp_sgd(small):
    images = {**small, **CALIBRATED}
    for arm in (["free-adversarial-training", DP], [DP, "free-adversarial-training"]):
        assert "carried from one step to the next" in refusal(varied(images, a=[arm]), 5)
    for kind in ("trades", "mart", "adversarial-training"):
        Study.of(varied(images, a=[[DP, kind]])).plan()


def test_law_10_calibration_needs_a_public_record_of_each_class(small):
    images = {**small, **CALIBRATED}
    none = {**images, "data": {**images["data"], "public": 0.0}}
    assert "there are none" in refusal(varied(none, a=[["calibrate"]]), 10)
    few = {**images, "data": {**images["data"], "public": 0.004}}
    assert "public records is of" in refusal(varied(few, a=[["calibrate"]]), 10)
    Study.of(varied(images, a=[[DP, "calibrate"]])).plan()


DETECTED = {**CALIBRATED, "model": {"kind": "mlp", "hidden": 8}}


def test_law_10_detectors_need_public_records_and_enough_of_them(small):
    images = {**small, **DETECTED}
    none = {**images, "data": {**images["data"], "public": 0.0}}
    few = {**images, "data": {**images["data"], "public": 0.01}}
    for kind in ("feature-squeezing", "mahalanobis", "defense-gan"):
        assert f"{kind} is fitted on public records and there are none" in refusal(varied(none, a=[kind]), 10)
        assert "there are 14 public records; it needs " in refusal(varied(few, a=[kind]), 10)
    neighbours = {"kind": "local-intrinsic-dimensionality", "neighbours": 60}
    assert "; it needs 240 (LAWS 10)" in refusal(varied(images, a=[neighbours]), 10)
    Study.of(varied(images, a=[[DP, "mahalanobis"]])).plan()


def test_law_1_a_detector_stands_last_and_sees_the_record_itself(small):
    images = {**small, **DETECTED}
    assert "mahalanobis must be the last" in refusal(varied(images, a=[["mahalanobis", "static-int8"]]), 1)
    assert "mahalanobis must be the last" in refusal(varied(images, a=[["mahalanobis", "calibrate"]]), 1)
    two = varied(images, a=[["mahalanobis", "feature-squeezing"]])
    assert "mahalanobis must be the last" in refusal(two, 1)
    around = varied(images, a=["mahalanobis"], b=["bit-depth"])
    assert "bit-depth shows the model another input than the record" in refusal(around, 1)
    lawful = [["static-int8", "feature-squeezing"], ["static-int8", "calibrate", "feature-squeezing"]]
    assert Study.of(varied(images, a=lawful, b=["round-answer"])).plan().arms


def test_law_21_int8_layers_are_not_looked_into(small):
    images = {**small, **DETECTED}
    said = refusal(varied(images, a=[["static-int8", "learned-detector"]]), 21)
    assert "learned-detector follows what float layers read" in said and "feature-squeezing" in said

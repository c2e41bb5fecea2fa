"""The PNG writer against Pillow, colours against their definition."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from consilium.core.errors import Refused
from consilium.report.render.colour import cividis, ink
from consilium.report.render.gallery import _names, allowance, examples
from consilium.report.render.png import data_uri, difference_image, encode


def decoded(data):
    return np.asarray(Image.open(io.BytesIO(data)))


@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (28, 28), (3, 4, 3), (64, 1, 3)])
def test_pillow_reads_back_every_pixel(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    assert np.array_equal(decoded(encode(pixels)), pixels)


@pytest.mark.parametrize("shape", [(3,), (2, 2, 4), (0, 5), (1, 1, 1, 1)])
def test_what_is_no_image_is_refused(shape):
    with pytest.raises(Refused, match="no image"):
        encode(np.zeros(shape, dtype=np.uint8))


def test_a_data_uri_holds_the_image_cut_to_its_range():
    uri = data_uri(np.array([[[-1.0, 0.5, 2.0, np.nan]]]))
    assert decoded(base64.b64decode(uri.removeprefix("data:image/png;base64,"))).tolist() == [[0, 128, 255, 0]]


def test_the_difference_is_grey_without_change_and_signed_by_colour():
    clean = np.full((1, 1, 3), 0.5)
    brighter, same, darker = difference_image(clean, clean + np.array([[[0.1, 0.0, -0.1]]]))[:, 0].T
    assert np.ptp(difference_image(clean, clean)) == np.ptp(same) == 0
    assert brighter[0] > brighter[1] > brighter[2] and darker[2] > darker[1] > darker[0]


def test_cividis_goes_from_dark_blue_to_yellow_and_text_stays_readable():
    assert (cividis(0), cividis(1), cividis(-3), cividis(9)) == ("#00224e", "#fee838", "#00224e", "#fee838")
    assert (ink(cividis(0)), ink(cividis(1))) == ("#ffffff", "#000000")


def test_examples_are_named_and_marked(study):
    found = examples(study.evidence[0].attacks[0], study.data.classes, 8)
    assert [(e.label, e.after, e.fooled) for e in found[:2]] == [("0", "0", False), ("1", "2", True)]
    assert found[0].linf == pytest.approx(0.1, abs=1e-6) and len(found) == 8
    assert len(examples(study.evidence[0].attacks[0], (), 3)) == 3


def test_large_images_are_shown_less_and_tables_not_at_all(study):
    assert allowance(study.evidence, (1, 28, 28)) == 8
    assert 1 <= allowance(study.evidence, (3, 512, 512)) < 8
    assert allowance(study.evidence, (30,)) == allowance(study.evidence, (4, 8, 8)) == 0


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (np.array([1.0, 0.0]), ["ill", "well"]),
        (np.array([[1.0, 1.0], [0.0, 0.0]]), ["well, ill", "none"]),
        (np.array([[0.25], [7.0]]), ["0.25", "7"]),
        (np.zeros((2, 4, 4)), ["mask", "mask"]),
        (None, ["?", "?"]),
        (np.zeros(3), ["?", "?"]),
    ],
)
def test_labels_of_every_task_have_a_name_for_each_record(labels, names):
    assert _names(labels, ("well", "ill"), 2) == names

"""A mask is that of one picture, of its shape and turned like it; what has no picture is counted."""

import numpy as np
import pytest

from consilium.core.errors import Refused
from consilium.data.sources.image_folder import ImageFolder
from consilium.learn.tasks.masks import Masks

Image = pytest.importorskip("PIL.Image", reason="the extra 'images' is not installed")

TASK = Masks(threshold=0.5)
WIDE = np.zeros((12, 24), np.uint8)
WIDE[:, :6] = 255  # the left quarter


def write(file, pixels, turn=1):
    file.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.fromarray(pixels).save(file, exif=exif)


def load(root):
    return ImageFolder(str(root), size=24, masks="masks").load_for(TASK)


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_mask_is_turned_by_its_own_exif_as_its_picture_is(tmp_path, turn):
    for k in range(2):
        write(tmp_path / f"{k}.png", WIDE, turn)
        write(tmp_path / "masks" / f"{k}.png", WIDE, turn)
    records = load(tmp_path).records
    assert ((records.x[:, 0] > 0.5).long() == records.y).float().mean() > 0.95  # bilinear edges aside
    assert records.y.float().mean().item() == pytest.approx(0.25)


def test_an_upright_mask_of_a_turned_picture_is_told_by_its_shape(tmp_path):
    write(tmp_path / "0.png", WIDE, 6)
    write(tmp_path / "masks" / "0.png", np.rot90(WIDE, -1).copy())
    records = load(tmp_path).records
    assert ((records.x[:, 0] > 0.5).long() == records.y).float().mean() > 0.95


@pytest.mark.parametrize(
    ("pixels", "turn", "mask", "said"),
    [
        (WIDE, 6, WIDE, r"has 24 x 12 pixels, and its picture 0.png has 12 x 24 and is turned .orientation 6."),
        (WIDE, 3, WIDE, "orientation 3"),  # the shape cannot tell which way it is
        (WIDE[:, :12], 8, WIDE[:, :12], "orientation 8"),
        (np.zeros((20, 20), np.uint8), 1, np.zeros((11, 30), np.uint8), "has 30 x 11 pixels, .* has 20 x 20"),
    ],
)
def test_a_mask_of_another_shape_or_turn_is_refused(tmp_path, pixels, turn, mask, said):
    write(tmp_path / "0.png", np.ascontiguousarray(pixels), turn)
    write(tmp_path / "masks" / "0.png", np.ascontiguousarray(mask))
    with pytest.raises(Refused, match=said.replace("turned .", "turned by its EXIF .")):
        load(tmp_path)


def test_one_mask_of_two_pictures_is_refused(tmp_path):
    for name in ("0.png", "0.jpg", "masks/0.png"):
        write(tmp_path / name, WIDE)
    with pytest.raises(Refused, match=r"0\.jpg and 0\.png have one mask"):
        load(tmp_path)


def test_masks_without_a_picture_are_counted(tmp_path):
    for name in ("0.png", "masks/0.png", "masks/a/1.png", "masks/2.png", "masks/.hidden.png"):
        write(tmp_path / name, WIDE)
    (idle,) = load(tmp_path).omitted
    assert idle.count == 2 and idle.examples == ("2.png", "a/1.png")

"""Pictures by folder; a hostile or broken picture is refused by its name."""

import struct
import zlib

import numpy as np
import pytest
import torch

from consilium.core.errors import MissingExtra, Refused
from consilium.data.sources.image_folder import ImageFolder

Image = pytest.importorskip("PIL.Image", reason="the extra 'images' is not installed")


def picture(path, size=(10, 6), colour=(255, 0, 0), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)


@pytest.fixture
def root(tmp_path):
    for k in range(4):
        picture(tmp_path / "ill" / f"p{k // 2}_{k}.png", colour=(255, 255, 255))
        picture(tmp_path / "well" / f"p{k // 2 + 1}_{k}.JPG", colour=(0, 0, 0))
    (tmp_path / "ill" / "notes.txt").write_text("no picture")
    (tmp_path / ".cache").mkdir()
    return tmp_path


def refusal(root, **knobs):
    with pytest.raises(Refused) as caught:
        ImageFolder(str(root), **knobs).load()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_classes_are_folders_in_alphabetical_order(root):
    dataset = ImageFolder(str(root), size=5).load()
    assert dataset.classes == ("ill", "well") and dataset.split is None
    assert dataset.records.y.tolist() == [0] * 4 + [1] * 4
    assert dataset.records.x.shape == (8, 1, 5, 5)
    assert dataset.records.x.amin(dim=(1, 2, 3)).tolist() == [1.0] * 4 + [0.0] * 4
    assert dataset.provenance.startswith(f"{root}, 8 files, sha256 of their list ")
    assert torch.equal(dataset.records.units, dataset.records.ids)


def test_patients_are_found_in_file_names(root):
    dataset = ImageFolder(str(root), units=r"^(p\d+)_").load()
    assert dataset.records.units.tolist() == [0, 0, 1, 1, 1, 1, 2, 2]
    assert "units: units = '^(q)' finds nothing in p0_0.png" in refusal(root, units="^(q)")


def test_colour_is_channels_first_and_pixels_stay_where_they_are(tmp_path):
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[0, 3] = (255, 0, 51)
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        Image.fromarray(pixels).save(tmp_path / label / "x.png")
    x = ImageFolder(str(tmp_path), size=4, channels=3).load().records.x[0]
    assert x[:, 0, 3].tolist() == [1.0, 0.0, pytest.approx(0.2)] and float(x.sum()) == pytest.approx(1.2)


def test_a_given_split(tmp_path):
    for part, n in (("train", 3), ("val", 1), ("test", 2)):
        for label in ("a", "b"):
            for k in range(n):
                picture(tmp_path / part / label / f"{k}.png")
    dataset = ImageFolder(str(tmp_path)).load()
    assert torch.bincount(dataset.split).tolist() == [6, 2, 4]
    assert dataset.classes == ("a", "b")


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1", "CMYK"])
def test_pictures_of_any_mode_become_eight_bits(tmp_path, mode):
    for label in ("a", "b"):
        picture(tmp_path / label / ("x.jpg" if mode == "CMYK" else "x.png"), colour=None, mode=mode)
    assert ImageFolder(str(tmp_path), channels=3).load().records.x.shape == (2, 3, 28, 28)


def test_more_than_eight_bits_would_be_cut_and_is_refused(root):
    Image.fromarray(np.full((4, 4), 40000, np.uint16)).save(root / "ill" / "a.png")
    assert "a.png has more than 8 bits a pixel (mode I;16)" in refusal(root)


def png(width, height):
    """A PNG that claims a size and holds nothing."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [8000, 12000, 60000])
def test_a_decompression_bomb_is_refused(root, side):
    (root / "ill" / "bomb.png").write_bytes(png(side, side))
    said = refusal(root)
    assert "bomb.png" in said and ("more than max-pixels = 50000000" in said or "decompression bomb" in said)


@pytest.mark.parametrize("content", [b"", b"no picture", png(10, 10)])
def test_a_broken_picture_is_refused_by_name(root, content):
    (root / "well" / "broken.png").write_bytes(content)
    assert "broken.png cannot be read as a picture" in refusal(root)


def test_folders_that_are_no_data_set(tmp_path):
    assert "has pictures of 0 classes" in refusal(tmp_path)
    picture(tmp_path / "only" / "x.png")
    assert "has pictures of 1 classes" in refusal(tmp_path)
    assert "does not exist" in refusal(tmp_path / "none")


def test_too_much_for_memory_is_refused_before_it_is_read(root):
    assert "8 pictures take 0.0 GB, more than max-bytes" in refusal(root, size=100, max_bytes=8 * 100 * 100 * 4 - 1)


@pytest.mark.parametrize(
    "knobs", [{"size": 0}, {"channels": 2}, {"units": "("}, {"units": "p"}, {"max_pixels": 0}, {"max_bytes": 0}]
)
def test_knobs_out_of_range(knobs):
    with pytest.raises(Refused, match="out of range"):
        ImageFolder("x", **knobs)


def test_without_pillow_the_extra_is_named(root, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(MissingExtra, match=r"pip install consilium\[images\]"):
        ImageFolder(str(root)).load()

"""Pictures by folder; a hostile or broken picture is refused by its name."""

import io
import struct
import zlib

import numpy as np
import pytest
import torch

from consilium.core.errors import MissingExtra, Refused
from consilium.data.sources.image_folder import ImageFolder

Image = pytest.importorskip("PIL.Image", reason="the extra 'images' is not installed")
ImageFile = pytest.importorskip("PIL.ImageFile")


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


@pytest.mark.parametrize(
    "copy", ["ill - Copy", "ill copy", "ill copy 2", "ill (1)", "ill(2)", "ill_copy", "ill - Kopie"]
)
def test_a_copy_of_a_class_is_no_class(root, copy):
    picture(root / copy / "9.png")
    assert f"class {copy!r} is called as a copy of 'ill'" in refusal(root)


def test_classes_that_are_numbered_in_brackets_are_classes(root):
    picture(root / "grade (1)" / "8.png")
    picture(root / "grade (2)" / "9.png")
    assert len(ImageFolder(str(root), size=5).load().classes) == 4


def test_masks_beside_pictures_and_unknown_classes_are_said(root):
    picture(root / "ill" / "p0_0_mask.png")
    picture(root / "well" / "p1_0_mask_1.png")
    picture(root / "Unlabeled" / "5.png")
    assert ImageFolder(str(root), size=5).load().cautions == (
        "a class is called 'Unlabeled': if it stands for records of which the class is not known, figures count "
        "them as one class; leave them out, or declare it",
        "2 of 11 pictures are called as masks of others beside them, such as ill/p0_0_mask.png, and are read as "
        "pictures of that class: move masks away",
    )


def test_patients_of_one_number_in_two_classes_are_said(root):
    dataset = ImageFolder(str(root), size=5, units=r"(p\d)_").load()
    assert dataset.cautions == (
        "1 of 3 patients have pictures in the folders of several classes, such as that of record 2 ('ill') and record "
        "4 ('well'), and count as one person each; if every folder numbers its patients anew they are different "
        "people: put the class's name before the number",
    )
    assert dataset.records.units.unique().numel() == 3
    assert ImageFolder(str(root), size=5).load().cautions == ()
    assert ImageFolder(str(root), size=5, units=r"(\d)\.").load().cautions[0].startswith("4 of 4 patients")
    for file in (root / "well").iterdir():
        file.rename(file.with_name(f"well-{file.name}"))
    assert ImageFolder(str(root), size=5, units=r"((?:well-)?p\d)_").load().cautions == ()


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


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width, height, depth=8, colours=0, rows=(), between=b""):
    """A PNG of that header, with the chunks ``between`` before its rows; without rows it holds nothing."""
    header = struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows), 0)
    parts = chunk(b"IHDR", header) + between + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def encoded(image, kind, **more):
    target = io.BytesIO()
    image.save(target, kind, **more)
    return target.getvalue()


GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
COLOURS = chunk(b"PLTE", bytes([255, 0, 0, 0, 255, 0]))


def alpha(body):
    return chunk(b"tRNS", body)


@pytest.mark.parametrize(
    ("content", "right"),
    [
        (png(2, 1, 8, GREY, [b"\x00\x33"]), [[0, 0, 0], [51, 51, 51]]),
        (png(2, 1, 1, GREY, [b"\x40"]), [[0, 0, 0], [255, 255, 255]]),
        (png(2, 1, 2, GREY, [b"\x60"]), [[85, 85, 85], [170, 170, 170]]),
        (png(2, 1, 4, GREY, [b"\x1f"]), [[17, 17, 17], [255, 255, 255]]),
        (png(2, 1, 8, PALETTE, [b"\0\1"], COLOURS), [[255, 0, 0], [0, 255, 0]]),
        (png(2, 1, 8, PALETTE, [b"\0\1"], COLOURS + alpha(b"\xff\xff")), [[255, 0, 0], [0, 255, 0]]),
        (png(2, 1, 8, GREY, [b"\1\2"], alpha(b"\0\7")), [[1, 1, 1], [2, 2, 2]]),
        (png(2, 1, 4, GREY, [b"\x1f"], alpha(b"\0\2")), [[17, 17, 17], [255, 255, 255]]),
        (png(2, 1, 8, RGBA, [b"\1\2\3\xff\4\5\6\xff"]), [[1, 2, 3], [4, 5, 6]]),
        (png(2, 1, 8, GREY_ALPHA, [b"\1\xff\2\xff"]), [[1, 1, 1], [2, 2, 2]]),
    ],
    ids=["L", "1", "L2", "L4", "P", "P-opaque", "L-key-unused", "L4-key-unused", "RGBA-opaque", "LA-opaque"],
)
def test_pictures_of_any_mode_become_their_eight_bits(tmp_path, content, right):
    for label in "ab":
        (tmp_path / label).mkdir()
        (tmp_path / label / "x.png").write_bytes(content)
    x = ImageFolder(str(tmp_path), size=2, channels=3).load().records.x
    assert (x * 255).round().int()[0, :, 0].T.tolist() == right
    grey = ImageFolder(str(tmp_path), size=2).load().records.x[0, 0, 0] * 255
    luma = [0.299 * r + 0.587 * g + 0.114 * b for r, g, b in right]
    assert grey.tolist() == pytest.approx(luma, abs=0.51)


DEEP = {"I;16": (GREY, 1), "RGB;16B": (RGB, 3), "LA;16B": (GREY_ALPHA, 2), "RGBA;16B": (RGBA, 4)}


@pytest.mark.parametrize("mode", DEEP)
def test_more_than_eight_bits_would_be_cut_and_is_refused(root, mode):
    colours, values = DEEP[mode]
    (root / "ill" / "a.png").write_bytes(png(2, 1, 16, colours, [b"\xff\xff" * 2 * values]))
    assert f"a.png has more than 8 bits a pixel (mode {mode})" in refusal(root)


def test_a_jpeg_of_twelve_bits_is_refused_by_name(root):
    content = bytearray(encoded(Image.new("L", (8, 8)), "JPEG"))
    content[content.index(b"\xff\xc0") + 4] = 12
    (root / "ill" / "a.jpg").write_bytes(content)
    assert "a.jpg cannot be read as a picture" in refusal(root)


@pytest.mark.parametrize(
    "content",
    [
        png(1, 1, 8, RGBA, [b"\1\2\3\xfe"]),
        png(1, 1, 8, GREY_ALPHA, [b"\1\0"]),
        png(2, 1, 8, PALETTE, [b"\0\1"], COLOURS + alpha(b"\0")),
        png(2, 1, 8, PALETTE, [b"\0\1"], COLOURS + alpha(b"\xff\x80")),
        png(2, 1, 8, GREY, [b"\1\2"], alpha(b"\0\1")),
        png(2, 1, 1, GREY, [b"\x80"], alpha(b"\0\0")),
        png(2, 1, 2, GREY, [b"\x60"], alpha(b"\0\1")),
        png(2, 1, 4, GREY, [b"\x1f"], alpha(b"\0\1")),
        png(2, 1, 8, RGB, [b"\1\2\3\4\5\6"], alpha(b"\0\1\0\2\0\3")),
    ],
    ids=["RGBA", "LA", "P", "P-half", "L", "1", "L2", "L4", "RGB"],
)
def test_what_lives_in_alpha_is_not_dropped(root, content):
    (root / "ill" / "a.png").write_bytes(content)
    assert "a.png has transparent pixels, and the colour behind them is unknown. Flatten it" in refusal(root)


@pytest.mark.parametrize(("name", "kind"), [("a.png", "PNG"), ("a.jpg", "MPO")])
def test_only_the_first_of_several_frames_would_be_read(root, name, kind):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    (root / "ill" / name).write_bytes(encoded(frames[0], kind, save_all=True, append_images=frames[1:]))
    assert f"{name} holds 2 frames. Store each frame as a picture of its own" in refusal(root)


def test_printing_inks_have_no_colours_of_their_own(root):
    picture(root / "ill" / "a.jpg", colour=None, mode="CMYK")
    assert "a.jpg holds printing inks (CMYK). Convert it to RGB by its colour profile" in refusal(root)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_picture_that_ends_early_is_refused_whatever_another_package_has_set(root, monkeypatch, kind):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    content = encoded(noise, kind)
    (root / "ill" / "a.png").write_bytes(content[: len(content) // 2])
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    assert "a.png cannot be read as a picture" in refusal(root)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


def test_bytes_that_fail_their_check_sum_are_no_pixels(root):
    content = bytearray(png(2, 1, 8, GREY, [b"\1\2"]))
    content[content.index(b"\1\2", content.index(b"IDAT") + 6)] ^= 64
    (root / "ill" / "a.png").write_bytes(content)
    assert "a.png cannot be read as a picture: broken PNG file" in refusal(root)


@pytest.mark.parametrize("other", ["normal", "Normal ", "Nor mal", "NORMAL", "No\u200brmal"])
def test_classes_that_are_one_to_the_eye_are_refused(tmp_path, other):
    for folder in ("train/Normal", "train/ill", f"test/{other}", "test/ill"):
        picture(tmp_path / folder / "x.png")
    text = refusal(tmp_path)
    assert repr(f"{tmp_path}/train/Normal") in text and repr(f"{tmp_path}/test/{other}") in text


def test_two_codings_of_one_accent_are_one_class(tmp_path):
    for folder in ("le\u0301sion", "l\u00e9sion", "well"):
        picture(tmp_path / folder / "x.png")
    assert "differ only by case, blanks or the coding of accents" in refusal(tmp_path)


def test_one_name_with_two_endings_is_two_pictures(tmp_path):
    for file in ("a/x.png", "a/x.jpg", "b/x.png"):
        picture(tmp_path / file)
    assert len(ImageFolder(str(tmp_path)).load().records) == 3


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

"""A picture that lacks pixels is refused by name, whatever its check sums and end mark say; a whole one is read."""

import io
import struct
import zlib

import numpy as np
import pytest

from consilium.core.errors import Refused
from consilium.data.pictures.picture import read_picture
from consilium.data.sources.image_folder import ImageFolder
from consilium.learn.tasks.masks import Masks

Image = pytest.importorskip("PIL.Image", reason="the extra 'images' is not installed")
RNG = np.random.default_rng(0)
NOISE = RNG.integers(1, 256, (96, 96), dtype=np.uint8)
COLOUR = RNG.integers(1, 256, (96, 96, 3), dtype=np.uint8)
PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def jpeg(pixels, **options):
    stored = io.BytesIO()
    Image.fromarray(pixels).save(stored, "JPEG", **options)
    return stored.getvalue()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, raw, depth=8, interlaced=0):
    header = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, interlaced)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


def rows(pixels):
    return b"".join(b"\0" + row.tobytes() for row in pixels)


def laced(pixels):
    parts = [pixels[y::high, x::wide] for x, y, wide, high in PASSES]
    return b"".join(rows(part) for part in parts if part.size)


@pytest.fixture
def read(tmp_path):
    def of(stored, ending):
        (tmp_path / f"x.{ending}").write_bytes(stored)
        return read_picture(tmp_path / f"x.{ending}", 96, 1, 10**6)

    return of


@pytest.mark.parametrize("options", [{}, {"optimize": True}, {"progressive": True}, {"restart_marker_blocks": 5}])
@pytest.mark.parametrize("pixels", [NOISE, COLOUR], ids=["grey", "colour"])
@pytest.mark.parametrize("share", [0.4, 0.9])
def test_a_jpeg_that_was_cut_is_refused_though_an_end_mark_follows(read, pixels, options, share):
    whole = jpeg(pixels, **options)
    read(whole, "jpg")
    with pytest.raises(Refused, match=r"x\.jpg (ends early: its data stop before|cannot be read as a picture)"):
        read(whole[: int(share * len(whole))] + b"\xff\xd9", "jpg")


@pytest.mark.parametrize("pixels", [NOISE, COLOUR], ids=["grey", "colour"])
def test_a_jpeg_whose_copy_stopped_is_refused(read, pixels):
    whole = jpeg(pixels)
    with pytest.raises(Refused, match=r"x\.jpg (ends early|cannot be read)"):
        read(whole[: len(whole) // 2] + bytes(len(whole) // 2), "jpg")


@pytest.mark.parametrize("behind", [b"", bytes(500), b"a note" + jpeg(NOISE)[:400]], ids=["none", "zeros", "trailer"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 5}])
def test_a_whole_jpeg_is_read_whatever_its_corner_and_what_follows_it(read, options, behind):
    grey = NOISE.copy()
    grey[-32:, -32:] = 128
    for pixels in (grey, np.full((96, 96), 128, np.uint8)):
        stored = jpeg(pixels, **options)
        with Image.open(io.BytesIO(stored)) as picture:
            assert np.array_equal(read(stored + behind, "jpg"), np.asarray(picture))


@pytest.mark.parametrize("rows_there", [0, 48, 95])
def test_a_png_without_all_rows_is_refused_though_its_check_sums_are_right(read, rows_there):
    expected = 96 * 97
    with pytest.raises(Refused, match=f"ends early: {rows_there * 97} of the {expected} bytes|cannot be read"):
        read(png(96, 96, rows(NOISE[:rows_there])), "png")


def test_an_interlaced_png_without_its_last_pass_is_refused(read):
    whole = laced(NOISE)
    assert np.array_equal(read(png(96, 96, whole, interlaced=1), "png"), NOISE)
    with pytest.raises(Refused, match=r"ends early|cannot be read"):
        read(png(96, 96, whole[: len(whole) // 2], interlaced=1), "png")


def test_a_png_with_a_black_last_row_is_whole(read):
    pixels = NOISE.copy()
    pixels[-1] = 0
    assert np.array_equal(read(png(96, 96, rows(pixels)), "png"), pixels)


@pytest.fixture
def masked(tmp_path):
    """Two pictures of 8 x 8, the second with the mask that is given as a file."""

    def of(mask, labels=2):
        (tmp_path / "masks").mkdir()
        half = np.tile(np.array([0, 255], np.uint8).repeat(4), (8, 1))
        for name, stored in (("0", png(8, 8, rows(half))), ("1", mask)):
            Image.fromarray(NOISE[:8, :8]).save(tmp_path / f"{name}.png")
            (tmp_path / "masks" / f"{name}.png").write_bytes(stored)
        classes = tuple(f"label {k}" for k in range(labels))
        return ImageFolder(str(tmp_path), size=8, masks="masks", classes=classes).load_for(Masks(threshold=0.5))

    return of


def test_a_mask_that_was_cut_is_refused(masked):
    with pytest.raises(Refused, match=r"1\.png ends early: 36 of the 72 bytes"):
        masked(png(8, 8, rows(np.full((4, 8), 255, np.uint8))))


@pytest.mark.parametrize("depth", [2, 4])
def test_a_mask_of_few_bits_is_refused_where_a_decoder_widens_its_labels(masked, depth):
    packed = {2: 0b01000001, 4: 0b00010000}[depth]  # the first pixels are 1, 0
    with pytest.raises(Refused, match=f"grey of {depth} bits, and a decoder widens its numbers to 8"):
        masked(png(8, 8, rows(np.full((8, depth), packed, np.uint8)), depth), labels=256)


def test_a_mask_of_few_bits_that_is_black_and_white_is_read(masked):
    labels = masked(png(8, 8, rows(np.tile(np.array([0xFF, 0xFF, 0, 0], np.uint8), (8, 1))), 4)).records.y
    assert labels[1, :, :4].eq(1).all() and labels[1, :, 4:].eq(0).all()

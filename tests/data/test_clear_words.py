"""Input that cannot be read is refused by what it is: bfloat16, accents apart, names without their leading zeros."""

import unicodedata

import pytest
import torch

from consilium.api.objects import _array
from consilium.core.errors import Refused
from consilium.data.files.vocabulary import read_vocabulary
from consilium.data.pictures.picture_files import picture_files
from consilium.data.tables.labels_file import read_labels


def test_a_tensor_of_bfloat16_is_refused_by_its_name():
    with pytest.raises(Refused, match="x is a tensor of bfloat16") as refused:
        _array(torch.zeros(2, dtype=torch.bfloat16), "x")
    assert "x.float()" in refused.value.remedy


def test_a_word_with_its_accents_apart_is_called_nfd(tmp_path):
    file = tmp_path / "w.txt"
    file.write_text(unicodedata.normalize("NFD", "fièvre"), encoding="utf-8")
    with pytest.raises(Refused, match="separate characters"):
        read_vocabulary(str(file), 10, "vocabulary")
    file.write_text("fièvre", encoding="utf-8")
    assert read_vocabulary(str(file), 10, "vocabulary")


def test_names_without_their_leading_zeros_are_told_so(tmp_path):
    (tmp_path / "l.csv").write_text("f,y\n1.png,a\n2.png,b\n")
    with pytest.raises(Refused, match="no picture has a row") as refused:
        read_labels(tmp_path / "l.csv", ",", "f", {"label": "y"}, ["001.png", "002.png"])
    assert "leading zeros" in refused.value.remedy


def test_one_name_under_two_endings_is_counted(tmp_path):
    for name in ("0.png", "0.jpg", "1.png"):
        (tmp_path / name).write_bytes(b"")
    (twice,) = picture_files(tmp_path, ()).omitted
    assert twice.count == 1 and twice.examples == ("0",)

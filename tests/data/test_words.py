"""Words, vocabularies, ids: what a text becomes, and what of it is public."""

from collections import Counter

import pytest
import torch

from consilium.core.errors import Refused
from consilium.core.inputs import Inputs
from consilium.data.files.vocabulary import read_vocabulary
from consilium.data.words import Vocabulary, most_frequent, words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("BP 120/80, don't worry.", ["bp", "120", "80", "don", "t", "worry"]),
        ("Größe: 1,5\u00a0µg", ["größe", "1", "5", "μg"]),
        ("cafe\u0301 CAFÉ", ["café", "café"]),
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
        ("ﬁbrosis x_y", ["fibrosis", "x", "y"]),
        ("ΌΧΙ", ["όχι"]),
        ("  \t…!? ", []),
    ],
)
def test_words_of_a_text(text, words) -> None:
    assert words_of(text) == words
    assert words_of(" ".join(words)) == words  # a list of words names itself


def test_ids_are_cut_and_padded_at_the_end() -> None:
    vocabulary = Vocabulary(("b", "a"), "a list")
    assert vocabulary.tokens == 4
    x = vocabulary.ids([["a", "z", "b", "a"], ["b"]], 3)
    assert x.tolist() == [[3, 1, 2], [2, 0, 0]]
    assert x.dtype == torch.int64


def test_the_most_frequent_words_and_ties_by_the_alphabet() -> None:
    assert most_frequent(Counter({"c": 2, "b": 2, "a": 1, "d": 5}), 3) == ("d", "b", "c")


def test_inputs_without_tokens_are_as_before() -> None:
    assert set(Inputs().to_json()) == {"columns", "preparation", "patients"}
    assert Inputs(tokens=7).to_json()["tokens"] == 7


def test_two_lists_are_told_apart() -> None:
    one, other = (
        Vocabulary(words, "a list").inputs(4, patients=False, classes_declared=True) for words in ("ab", "ba")
    )
    assert one.to_json() != other.to_json()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"pain\nChest pain\n", r"line 2 .* 'Chest pain'"),
        (b"pain\n\npain\n", "line 3 .* as line 1 is"),
        (b"pain\n\xff\n", "line 2 .* not UTF-8"),
        (b"\n\n", "holds no word"),
        (b"a\nb\nc\nd\n", "4 words, more than most-words = 3"),
    ],
)
def test_lists_are_refused_by_line(tmp_path, content, complaint) -> None:
    (tmp_path / "words.txt").write_bytes(content)
    with pytest.raises(Refused, match=complaint):
        read_vocabulary(str(tmp_path / "words.txt"), 3, "vocabulary")

"""Words of a table that say one thing in two ways, and numbers that are written as words: refused by row and value."""

import pytest

from consilium.core.errors import Refused
from consilium.data.sources.table import Table

pytest.importorskip("pandas", reason="the extra 'tables' is not installed")
N = 40


@pytest.fixture
def write(tmp_path):
    def text(lines, name="mine.csv"):
        (tmp_path / name).write_bytes("".join(f"{line}\n" for line in lines).encode())
        return str(tmp_path / name)

    return text


def mixed(write, words):
    return Table(write(["a,b,y", *(f"{20 + i},{words[i % len(words)]},{i % 3 % 2}" for i in range(N))]), "y")


@pytest.mark.parametrize("word", ["groß", "Köln", "naïve", "Ærø", "São Paulo", "“x”"])
@pytest.mark.parametrize("coding", ["cp1252", "latin-1"])
def test_a_word_and_the_same_read_in_another_coding_are_refused(write, word, coding):
    try:
        wrong = word.encode().decode(coding)
    except UnicodeDecodeError:
        pytest.skip("that coding has no such letter")
    with pytest.raises(Refused, match="in UTF-8, read in another coding"):
        mixed(write, [word, wrong, "klein"]).load()
    label = write(["a,y", *(f"{20 + i},{[word, wrong][i % 2]}" for i in range(N))])
    with pytest.raises(Refused, match="column 'y' holds"):
        Table(label, "y").load()


@pytest.mark.parametrize("words", [["groß", "klein"], ["Ã", "A"], ["größer", "große"], ["Müller", "Möller"]])
def test_other_words_with_accents_are_two(write, words):
    assert mixed(write, words).load().records.x.shape == (N, 3)


@pytest.mark.parametrize("words", [["True", "True", "1"], ["false", "x", "0"],
    ["yes", "no", "1", "0", "yes", "no"], ["y", "yes"], ["TRUE", "T"], ["1.0", "true", "false"]])  # fmt: skip
def test_two_words_of_one_answer_are_refused(write, words):
    with pytest.raises(Refused, match=r"Is it one category|does not hold numbers"):
        mixed(write, words).load()


@pytest.mark.parametrize(
    "words", [["yes", "no"], ["y", "n"], ["T", "N", "M"], ["True", "False"], ["1", "2", "3"], ["F", "M"]]
)
def test_words_of_two_answers_are_read(write, words):
    assert mixed(write, words).load().records.x.shape[0] == N


@pytest.mark.parametrize("form", ["0x{:02x}", "0X{:X}", "0b{:b}", "0o{:o}", "-0x{:x}"])
def test_numbers_to_another_base_are_refused_by_row(write, form):
    with pytest.raises(Refused, match="column 'b' does not hold numbers: row 1 has") as refused:
        mixed(write, [form.format(64 + i) for i in range(N)]).load()
    assert "write it as a decimal number" in refused.value.remedy

"""Names that are one to the eye: letters of other alphabets, dashes and quotes, wherever names are compared."""

import numpy as np
import pytest

from consilium.core.errors import Refused
from consilium.core.random import Stream
from consilium.data.checks.look_alikes import drawn, visible_difference
from consilium.data.division.sites import gather
from consilium.data.partitions.by_key import ByKey
from consilium.data.sources.image_folder import ImageFolder
from consilium.data.sources.npz import NPZ
from consilium.data.sources.table import Table
from consilium.learn.tasks.single_label import SingleLabel

N = 60
Y = np.arange(N) % 2
X = np.random.default_rng(0).random((N, 3)).astype(np.float32)
PAIRS = [
    ("M", "\N{CYRILLIC CAPITAL LETTER EM}"),
    ("ill", "\N{CYRILLIC SMALL LETTER BYELORUSSIAN-UKRAINIAN I}ll"),
    ("Alpha", "\N{GREEK CAPITAL LETTER ALPHA}lpha"),
    ("COPD", "\N{CYRILLIC CAPITAL LETTER ES}OPD"),
    ("5-10", "5\N{EN DASH}10"),
    ("a -1", "a \N{MINUS SIGN}1"),
    ("ill", "'ill'"),
    ("O'Brien", "O\N{RIGHT SINGLE QUOTATION MARK}Brien"),
    ("ill", "\N{LEFT DOUBLE QUOTATION MARK}ill\N{RIGHT DOUBLE QUOTATION MARK}"),
    ("ward", "\N{FULLWIDTH LATIN SMALL LETTER W}ard"),
]


@pytest.fixture
def table(tmp_path):
    pytest.importorskip("pandas", reason="the extra 'tables' is not installed")

    def of(words, **knobs):
        rows = [f"{x:.3f},{words[i % len(words)]},{'no' if i // 2 % 2 else 'yes'}" for i, x in enumerate(X[:, 0])]
        (tmp_path / "x.csv").write_text("\n".join(["x,c,y", *rows]) + "\n", encoding="utf-8")
        return Table(str(tmp_path / "x.csv"), "y", **knobs)

    return of


@pytest.fixture
def stored(tmp_path):
    def write(**arrays):
        np.savez(tmp_path / "x.npz", x=X, y=Y, **arrays)
        return NPZ(str(tmp_path / "x.npz"))

    return write


def divided(source):
    shares = {"public": 0.0, "validation": 0.1, "test": 0.2, "non_members": 0.2}
    return gather(source, ByKey(), SingleLabel(), sites=2, stream=Stream(0), **shares)


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_categories_that_look_alike_are_refused_or_declared(table, one, other):
    with pytest.raises(Refused, match="Is it one category"):
        table([one, other, "x"]).load()
    assert table([one, other, "x"], categories=(("c", one, other, "x"),)).load().records.x.shape == (N, 4)


def test_the_letter_that_cannot_be_told_apart_is_named(table):
    other = "\N{CYRILLIC CAPITAL LETTER EM}"
    with pytest.raises(Refused, match=r"\(the second with CYRILLIC CAPITAL LETTER EM\)"):
        table(["M", other, "F"]).load()
    assert visible_difference(other, "M") == " (the first with CYRILLIC CAPITAL LETTER EM)"
    assert visible_difference("ill", "ILL") == ""


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_sites_that_look_alike_are_refused(stored, one, other):
    with pytest.raises(Refused, match="differ in capitals, blanks or Unicode only"):
        divided(stored(keys=np.array([one, other, "x"])[np.arange(N) % 3]))


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_patients_that_look_alike_are_noted(stored, one, other):
    names = [f"p{i}" for i in range(N)]
    names[3], names[7] = one, other
    data = divided(stored(units=np.array(names), keys=Y))
    (note,) = data.cautions
    assert ("look-alike letters" in note and "records 3 and 7" in note) or "records 7 and 3" in note


@pytest.mark.parametrize(("one", "other"), [pair for pair in PAIRS if "/" not in pair[0]])
def test_classes_that_look_alike_are_refused(tmp_path, one, other):
    with pytest.raises(Refused, match="are one name"):
        NPZ("x.npz", classes=(one, other))
    image = pytest.importorskip("PIL.Image", reason="the extra 'images' is not installed")
    for label in (one, other):
        (tmp_path / label).mkdir()
        image.new("L", (4, 4), 99).save(tmp_path / label / "x.png")
    with pytest.raises(Refused, match="or look alike"):
        ImageFolder(str(tmp_path)).load()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("5 \N{MICRO SIGN}g", "5 mg"),
        ("\N{GREEK SMALL LETTER MU}", "m"),
        ("ab", "a b"),
        ("A", "B"),
        ("new-york", "new_york"),
        ("\N{CYRILLIC CAPITAL LETTER ZHE}", "X"),
        ("\N{LATIN SMALL LETTER O WITH DIAERESIS}l", "ol"),
    ],
)
def test_what_looks_otherwise_stays_apart(one, other):
    assert drawn(one) != drawn(other)


def test_capitals_may_tell_classes_apart():
    assert NPZ("x.npz", classes=("A", "a")).classes == ("A", "a")
    assert drawn("A") == drawn("a") and drawn("'") == "'"

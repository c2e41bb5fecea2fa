"""Classes and sites that stand for records of which nothing is known."""

import pytest

from consilium.core.errors import Refused
from consilium.data.checks.gap_words import is_blank_mark, means_unknown
from consilium.data.checks.names import check_names
from consilium.data.sources.table import Table

pytest.importorskip("pandas", reason="the extra 'tables' is not installed")
N = 60


@pytest.fixture
def table(tmp_path):
    def of(words, role="label", **knobs):
        rows = [f"{20 + i};{words[i % len(words)]};{'ab'[i % 2]}" for i in range(N)]
        (tmp_path / "mine.csv").write_text("\n".join(["age;v;y", *rows]) + "\n")
        roles = {"label": "v"} if role == "label" else {"label": "y", role: "v"}
        source = Table(str(tmp_path / "mine.csv"), separator=";", **roles, **knobs)
        return check_names(source.load(), shared_patients=True)

    return of


@pytest.mark.parametrize("mark", ["?", ".", "-", "--", "...", "*", "/", "–", "+"])
@pytest.mark.parametrize("role", ["label", "site"])
def test_a_mark_is_no_class_and_no_site(table, mark, role):
    kind = "class" if role == "label" else role
    if mark == "+":
        assert table(["p", "q", mark], role) == ()
        return
    with pytest.raises(Refused, match=r"is the name of a (class|site), and holds no letter or figure") as refused:
        table(["p", "q", mark], role)
    assert str(refused.value).startswith(f"{kind}: {mark!r}")


def test_a_mark_may_be_an_answer_or_be_declared(table):
    assert table(["+", "-"]) == table(["+", "++", "-"]) == ()
    assert table(["p", "?"], categories=(("v", "p", "?"),)) == ()
    assert table(["p", "q", "?"], missing=("?",), drop_missing=True) == ()
    assert is_blank_mark("-", ["-", "ill"]) and not is_blank_mark("-", ["-", "+"])


@pytest.mark.parametrize("word", ["unknown", "Unknown", "N.A.", "k.A.", "not recorded", "MISSING", "unbekannt", "UNK"])
@pytest.mark.parametrize("role", ["label", "site"])
def test_a_word_for_it_is_said(table, word, role):
    (said,) = table(["p", "q", word], role)
    kind = "class" if role == "label" else role
    assert said.startswith(f"a {kind} is called {word!r}: if it stands for records of which the {kind} is not known")
    if role == "label":
        assert table(["p", word], categories=(("v", "p", word),)) == ()


@pytest.mark.parametrize("word", ["none", "other", "mixed", "normal", "no finding", "missing teeth", "unknown primary"])
def test_other_words_are_classes(table, word):
    assert not means_unknown(word) and table(["p", word]) == ()


def test_a_mark_is_no_category_of_a_feature(tmp_path):
    """As in UCI Adult, where ? means a gap: undeclared it would be a kind of work of its own."""
    rows = [f"{20 + i};{('clerk', 'nurse', '?')[i % 3]};{'ab'[i % 2]}" for i in range(N)]
    path = tmp_path / "mine.csv"
    path.write_text("\n".join(["age;work;y", *rows]) + "\n")
    base = {"label": "y", "separator": ";"}
    with pytest.raises(Refused, match=r"column 'work', row 3, holds '\?', which names no category"):
        Table(str(path), **base).load()
    assert len(Table(str(path), **base, missing=("?",), drop_missing=True).load().records) == 40
    declared = Table(str(path), **base, categories=(("work", "clerk", "nurse", "?"),))
    assert len(declared.load().records) == N

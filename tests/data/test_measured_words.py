"""Which words with figures are measurements that were exported with a mark, and which are categories."""

import random

import pytest

from consilium.core.errors import Refused
from consilium.data.columns.measured_words import measured_words
from consilium.data.sources.table import Table

pytest.importorskip("pandas", reason="the extra 'tables' is not installed")
N = 120
ROWS = range(N)


@pytest.fixture
def table(tmp_path):
    """A table with the column ``v`` of N words, the given ones first and then at random among them."""

    def of(words, n=N, label=False):
        rest = random.Random(0).choices(words, k=max(n - len(words), 0))
        rows = [f"{20 + i * 7 % 61};{word};{i % 2}" for i, word in enumerate([*words, *rest][:n])]
        (tmp_path / "mine.csv").write_text("\n".join(["age;v;y", *rows]) + "\n")
        return Table(str(tmp_path / "mine.csv"), "v" if label else "y", separator=";")

    return of


MEASURED = {
    "open end": [f"{i}+" for i in range(40, 80)],
    "lab flag": [f"{i}{'HL'[i % 2]}" for i in range(40, 80)],
    "lab flag beside numbers": [f"{i}{['', 'H', 'L'][i % 3]}" for i in range(40, 80)],
    "error": [f"{12 + i / 10:.1f}±0.{1 + i % 9}" for i in range(40)],
    "error in letters": [f"{12 + i} +/- {1 + i % 3}" for i in range(40)],
    "footnote": [f"{1 + i / 10:.1f}*" for i in range(40)],
    "titre": [f"1:{2 * i}" for i in range(1, 41)],
    "power": [f"10^{i}" for i in range(40)],
    "counts": [f"{1 + i / 10:.1f}x10^9/l" for i in range(40)],
    "age of a child": [f"{i // 12}y{i % 12}m" for i in range(40)],
    "half years": [f"{i}½" for i in range(40)],
    "interval": [f"{i}-{i + 5}" for i in range(40)],
    "about": [f"≈{i}" for i in range(40)],
    "tilde": [f"~{i}" for i in range(40)],
    "dose": [f"{i} mg" for i in range(40)],
    "dose with a comma": [f"{i},5 mmol" for i in range(40)],
    "brackets": [f"({i})" for i in range(40)],
    "arrow": [f"{i} {'↑↓'[i % 2]}" for i in range(40)],
    "circa": [f"ca. {i}" for i in range(40)],
    "currency": [f"USD {i}.50" for i in range(40)],
    "hash": [f"#{i}" for i in range(40)],
    "score": [f"{i}/30" for i in range(31)],
    "score in words": [f"{i} of 30" for i in range(31)],
    "confidence": [f"{i} ({i - 1}-{i + 1})" for i in range(40)],
    "degrees": [f"{34 + i / 10:.1f}°C" for i in range(40)],
    "name": [f"n={i}" for i in range(40)],
    "square brackets": [f"[{i}]" for i in range(40)],
    "quarter": [f"{1990 + i} Q{1 + i % 4}" for i in range(40)],
}
FEW = {
    "error": ["12.1±0.1", "12.3±0.2", "11.0±0.1"],
    "footnote": ["1.3*", "1.5*", "2.0*"],
    "power": ["10^5", "10^6", "10^7"],
    "child": ["2y3m", "1y11m", "4y"],
    "fractions": ["1½", "2½", "½"],
    "confidence": ["5 (4-6)", "7 (5-9)", "3 (2-4)"],
    "degrees": ["36°C", "37°C", "38°C"],
}
CATEGORIES = {
    "stages": ["stage 1", "stage 2", "stage 3", "stage 4"],
    "tumours": ["T1a", "T1b", "T2", "T3", "T4"],
    "tumours, coarse": ["1a", "1b", "2a", "3c"],
    "grades": ["grade-1", "grade-2", "grade-3"],
    "diabetes": ["type 1", "type 2", "none"],
    "slashes": ["A/B", "A/A", "B/B"],
    "bands": ["10-20", "20-30", "30-40", "40-50"],
    "bands of five years": [*(f"{i}-{i + 4}" for i in range(0, 90, 5)), "90+"],
    "comparisons": ["<5", "5-10", ">10"],
    "dipstick": ["neg", "trace", "1+", "2+", "3+"],
    "wards": [f"ward {i}" for i in range(1, 41)],
    "beds": [f"B{i}" for i in range(1, 41)],
    "diagnoses": [f"{letter}{i}.{i % 3}" for letter in "EIJK" for i in range(10, 20)],
    "alleles": ["3/3", "3/4", "4/4", "2/3"],
    "genotypes": ["e3e4", "e3e3", "e4e4"],
    "ordinals": ["1st", "2nd", "3rd"],
    "answers": ["1 Never", "2 Often", "3 Always"],
    "ASA": ["ASA 1", "ASA 2", "ASA 3"],
    "NYHA": ["NYHA I", "NYHA II", "NYHA III"],
    "codes": ["1A", "2A", "1B", "3C"],
    "vaccines": ["PCV13", "PPSV23", "none"],
    "scanners": ["1.5T", "3T", "7T"],
    "covid": ["COVID-19", "influenza", "RSV"],
    "shifts": ["2-shift", "3-shift", "day"],
    "drugs": ["5-FU", "FOLFOX-4", "FOLFOX-6"],
    "none": ["never", "once", "often"],
}


@pytest.mark.parametrize("name", MEASURED)
@pytest.mark.parametrize("n", [60, N])
def test_a_column_of_marked_numbers_is_refused_by_row(table, name, n):
    words = MEASURED[name]
    with pytest.raises(Refused) as refused:
        table(words, n).load()
    said = str(refused.value)
    row = int(said.partition(": row ")[2].split()[0])
    assert f"column 'v' does not hold numbers: row {row} has {words[row - 1]!r}, and " in said
    assert "or declare its categories" in said and "\n" not in said


@pytest.mark.parametrize("name", FEW)
def test_so_are_a_few_where_the_mark_says_that_it_is_a_measurement(table, name):
    with pytest.raises(Refused, match="column 'v' does not hold numbers: row 1 has"):
        table(FEW[name]).load()


@pytest.mark.parametrize("name", CATEGORIES)
@pytest.mark.parametrize("n", [90, N, 400])
def test_categories_with_figures_are_read(table, name, n):
    words = CATEGORIES[name]
    assert table(words, n).load().records.x.shape == (n, 1 + len(words))


@pytest.mark.parametrize("name", MEASURED)
def test_marked_numbers_that_are_declared_are_categories(table, name):
    source = table(MEASURED[name])
    words = tuple(MEASURED[name])
    declared = Table(source.path, "y", separator=";", categories=(("v", *words),)).load()
    assert declared.records.x.shape == (N, 1 + len(words))


@pytest.mark.parametrize("name", MEASURED)
def test_a_label_of_marked_numbers_is_no_list_of_classes(table, name):
    with pytest.raises(Refused, match=r"the label column 'v' holds \d+ different .*classification needs classes"):
        table(MEASURED[name], label=True).load()


@pytest.mark.parametrize("name", CATEGORIES)
def test_a_label_of_categories_with_figures_is_read(table, name):
    assert len(table(CATEGORIES[name], label=True).load().classes) == len(CATEGORIES[name])


def test_numbers_beside_more_words_are_measurements_if_they_are_many(table):
    assert measured_words(["not detected"] * 80 + [f"{i}.5" for i in range(40)])
    with pytest.raises(Refused, match="40 different values begin with a number"):
        table([f"{i}.5" for i in range(40)] + ["not detected"] * 80).load()
    assert table(["1", "2", "3", *["not detected"] * 80]).load().records.x.shape == (N, 5)


def test_the_rule_at_its_edges():
    assert not measured_words([f"{i}+" for i in range(20)] * 3)
    assert measured_words([f"{i}+" for i in range(21)] * 3) == (
        "21 different values begin with a number: too many for categories"
    )
    assert not measured_words([f"{i}+" for i in range(7)])
    assert measured_words([f"{i}+" for i in range(8)]).startswith("8 of its 8 values begin with a number, 8 different")
    assert not measured_words([f"ward {i}" for i in range(10)] * 2)
    assert measured_words([f"ward {i}" for i in range(10)] + ["ward 1"])

"""Marks that part thousands: 950, 1.200, 12.400 are refused by row; three decimals are read."""

import pytest

from consilium.core.errors import Refused
from consilium.data.sources.table import Table

pytest.importorskip("pandas", reason="the extra 'tables' is not installed")
N = 40


@pytest.fixture
def column(tmp_path):
    def of(values, **knobs):
        rows = [f"{20 + i % 7};{values[i % len(values)]};{'no' if i % 2 else 'yes'}" for i in range(N)]
        (tmp_path / "x.csv").write_text("\n".join(["age;v;y", *rows]) + "\n")
        return Table(str(tmp_path / "x.csv"), "y", separator=";", **knobs)

    return of


@pytest.mark.parametrize(
    ("values", "decimal", "said"),
    [
        (["950", "1.200", "12.400"], ".", "holds 1.200 in row 2, 950 beside it"),
        (["-950", "-1.200"], ".", "holds -1.200 in row 2, -950 beside it"),
        (["7", "300", "12.400", "-1.100"], ".", "holds 12.400 in row 3, 300 beside it"),
        (["1200", "1.200"], ".", "holds 1.200 in row 2, 1200 beside it"),
        (["950", "1,200", "12,400"], ",", "holds 1,200 in row 2, 950 beside it"),
    ],
)
def test_thousands_among_whole_numbers_are_refused(column, values, decimal, said):
    with pytest.raises(Refused) as refused:
        column(values, decimal=decimal).load()
    assert said in refused.value.reason and "it seems to part thousands" in refused.value.reason
    assert (
        refused.value.where == "v" and "decimal marks, write whole numbers with three decimals" in refused.value.remedy
    )


@pytest.mark.parametrize(
    "values",
    [
        ["1.234", "0.950", "2.500"],
        ["0.950", "1.200", "120"],  # no thousand begins with 0
        ["1.234", "2.500", "12"],
        ["1.234", "2.500", "7", "99"],
        ["1.234", "2.50", "120"],
        ["1.2345", "2.500", "120"],
        ["1234.567", "1.234", "120"],
        ["1.200e3", "950"],
        ["120", "7"],
        ["950.000", "1.200"],
    ],
)
def test_measurements_are_read_as_they_stand(column, values):
    x = column(values).load().records.x[:, 1]
    low, high = min(map(float, values)), max(map(float, values))
    right = [(float(values[i % len(values)]) - low) / (high - low) for i in range(N)]
    assert x.tolist() == pytest.approx(right)


def test_a_declared_range_says_what_the_marks_are(column):
    values = ["120", "133.333", "95"]
    with pytest.raises(Refused, match="seems to part thousands"):
        column(values).load()
    x = column(values, ranges=(("v", 0.0, 200.0),)).load().records.x[:, 1]
    assert x[:3].tolist() == pytest.approx([0.6, 133.333 / 200, 95 / 200])
    with pytest.raises(Refused, match="seems to part thousands"):
        column(["950", "1.200"], ranges=(("v", 0.0, 20_000.0),)).load()


def test_the_remedies_hold(column):
    assert column(["950", "1200", "12400"]).load().records.x[:2, 1].tolist() == pytest.approx([0, 250 / 11450])
    assert column(["950.000", "1.200"]).load().records.x[:2, 1].tolist() == [1, 0]

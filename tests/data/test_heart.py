"""The study of four hospitals reads every row: what it fills is what an independent count of the file finds empty."""

import csv
from collections import Counter
from pathlib import Path

import pytest

from consilium.core.random import Stream
from consilium.core.records import Records
from consilium.data.division.sites import gather
from consilium.study.spec.parse import parse, read

pytest.importorskip("pandas", reason="the extra 'tables' is not installed")
STUDY = Path(__file__).parents[2] / "studies" / "heart.toml"


def test_all_rows_of_all_hospitals_are_used(real, monkeypatch):
    path = real / "heart-disease.csv"
    if not path.is_file():
        pytest.skip("heart-disease.csv is not in CONSILIUM_DATA")
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    zero = ("chol", "trestbps", "thal")
    gaps = Counter(
        row["hospital"] for row in rows for name, cell in row.items() if not cell or (name in zero and cell == "0")
    )
    spec = parse(read(STUDY))
    data = gather(spec.data.source, spec.data.partition, spec.data.task, **vars(spec.data.shares), stream=Stream(0))
    assert {site.id for site in data.sites} == {f"site-{hospital}" for hospital in gaps} and len(rows) == 920
    filled = [one for one in data.omitted if "filled by constants" in one.what]
    assert {one.site: one.count for one in filled} == gaps
    copies = [one for one in data.omitted if one not in filled]
    assert sum(one.count for one in copies) == 2 and all("exact duplicates" in one.what for one in copies)
    pools = [p for s in data.sites for p in (s.records.train, s.records.validation, s.records.non_members)]
    whole = Records.joined([*pools, data.test, data.public])
    assert len(whole) == 918 and not data.fitted_on_private and data.classes == ("healthy", "diseased")
    ill = {row["num"] for row in rows} - {"0"}
    assert abs(int(whole.y.sum()) - sum(row["num"] in ill for row in rows)) <= 2


def test_the_study_names_no_folder():
    assert read(STUDY)["data"]["path"] == "heart-disease.csv"

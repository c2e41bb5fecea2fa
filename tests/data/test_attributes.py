"""Attributes: what is kept beside the records goes with them everywhere, and is no input unless that is said."""

import json

import pytest
import torch

from consilium.core.attribute import Attribute, attribute_named
from consilium.core.errors import Failed, Refused
from consilium.core.random import Stream
from consilium.core.records import Records
from consilium.data.division.canaries import plant
from consilium.data.division.sites import gather
from consilium.data.partitions.by_key import ByKey
from consilium.data.partitions.iid import IID
from consilium.data.sources.table import Table
from consilium.learn.tasks.single_label import SingleLabel
from consilium.study.plan.stage_keys import data_digest

pd = pytest.importorskip("pandas", reason="the extra 'tables' is not installed")
N = 120
SHARES = {"public": 0.1, "validation": 0.1, "test": 0.2, "non_members": 0.2}
SCANNERS = ("ge", "philips", "siemens")


def sex(row):
    return "FM"[row // 2 % 2]


def row_of(x):
    """The row that a record was: its age tells."""
    return round(float(x) * N)


@pytest.fixture
def csv(tmp_path):
    lines = ["age,sex,scanner,ward,ill"]
    lines += [f"{k},{sex(k)},{SCANNERS[k % 3]},{'ab'[k % 2]},{k % 2}" for k in range(N)]
    (tmp_path / "mine.csv").write_text("\n".join(lines) + "\n")
    return str(tmp_path / "mine.csv")


def table(path, **knobs):
    return Table(path, "ill", ranges=(("age", 0.0, float(N)),), attributes=("sex", "scanner"), **knobs)


def agree(records):
    """Whether each record still bears the values of its own row."""
    by_sex, by_scanner = records.attributes
    return all(
        (by_sex.words[s], by_scanner.words[c]) == (sex(row_of(x)), SCANNERS[row_of(x) % 3])
        for x, s, c in zip(records.x[:, 0], by_sex.codes.tolist(), by_scanner.codes.tolist(), strict=True)
    )


def test_attributes_are_no_inputs_unless_that_is_said(csv):
    data = table(csv, drop=("ward",)).load()
    assert [column.name for column in data.inputs.columns] == ["age"] and data.records.x.shape == (N, 1)
    assert [a.name for a in data.records.attributes] == ["sex", "scanner"] and agree(data.records)
    assert data.records.attributes[1].words == SCANNERS and not data.records.attributes[1].declared
    both = table(csv, drop=("ward",), also_inputs=("sex",)).load()
    assert [column.name for column in both.inputs.columns] == ["age", "sex"] and both.records.x.shape == (N, 3)
    assert agree(both.records)
    assert not data.fitted_on_private and both.fitted_on_private  # an attribute's words scale no input


def test_declared_words_keep_their_order_and_an_unknown_one_is_refused(csv):
    one = table(csv, drop=("ward",), categories=(("scanner", "siemens", "ge", "philips", "canon"),)).load()
    assert one.records.attributes[1].words == ("siemens", "ge", "philips", "canon")
    assert one.records.attributes[1].declared and agree(one.records)
    with pytest.raises(Refused, match="column 'scanner', row 3, holds 'siemens', which is not among its declared"):
        table(csv, categories=(("scanner", "ge", "philips"),)).load()


def test_they_survive_every_division(csv):
    data = gather(table(csv, site="ward"), ByKey(), SingleLabel(), sites=2, stream=Stream(0), **SHARES)
    pools = [p for s in data.sites for p in (s.records.train, s.records.validation, s.records.non_members)]
    pools += [data.test, data.public]
    assert sum(map(len, pools)) == N and all(agree(pool) and len(pool) for pool in pools)
    whole = Records.joined(pools)
    assert agree(whole) and agree(whole.select(torch.tensor([5, 2, 9]))) and agree(whole.select(whole.y == 1))
    assert agree(whole.relabelled(1 - whole.y)) and all(map(agree, whole.split([40, 80])))
    assert whole.bare().attributes == () and torch.equal(whole.bare().x, whole.x)
    shuffled = whole.attributes[0].select(torch.arange(N).flip(0))  # and the check can fail
    assert not agree(Records(whole.x, whole.y, whole.ids, whole.units, attributes=(shuffled, whole.attributes[1])))


def test_what_is_made_for_an_audit_has_no_known_value(csv):
    data = gather(table(csv, site="ward"), ByKey(), SingleLabel(), sites=2, stream=Stream(0), **SHARES)
    for kind in ("noise", "mislabelled"):
        planted = plant(data, canaries=8, kind=kind, site="", stream=Stream(1))
        train = Records.joined([site.records.train for site in planted.sites])
        among = planted.canaries.among(train)
        assert among.any() and planted.canaries.records.attributes == ()
        assert all((a.codes[among] == -1).all() and (a.codes[~among] >= 0).all() for a in train.attributes)


def test_parts_that_disagree_on_the_words_are_not_joined():
    def one(words):
        return Records.of(torch.rand(1, 1), torch.tensor([0]), attributes=(Attribute("sex", torch.tensor([0]), words),))

    assert Records.joined([one(("F", "M"))] * 2).attributes[0].codes.tolist() == [0, 0]
    with pytest.raises(Failed, match="records are joined whose attribute 'sex' has other words"):
        Records.joined([one(("F", "M")), one(("M", "F"))])
    with pytest.raises(Refused, match=r"records disagree on n: x 2, attribute 'sex' \(1,\)"):
        Records.of(torch.rand(2, 1), torch.zeros(2).long(), attributes=one(("F",)).attributes)


def test_sites_are_the_values_of_an_attribute(csv):
    data = gather(table(csv, drop=("ward",)), ByKey(attribute="scanner"), SingleLabel(), sites=3, stream=Stream(0),
                  **SHARES)  # fmt: skip
    codes = [set(site.records.train.attributes[1].codes.tolist()) for site in data.sites]
    assert codes == [{0}, {1}, {2}]
    assert [site.id for site in data.sites] == ["site-0", "site-1", "site-2"]  # no word that was read from the records
    named = gather(table(csv, drop=("ward",), categories=(("scanner", *SCANNERS),)), ByKey(attribute="scanner"),
                   SingleLabel(), sites=3, stream=Stream(0), **SHARES)  # fmt: skip
    assert [site.id for site in named.sites] == ["site-ge", "site-philips", "site-siemens"]


def test_an_attribute_that_is_not_there_or_not_known_divides_nothing(csv, tmp_path):
    def said(source, name):
        with pytest.raises(Refused) as caught:
            gather(source, ByKey(attribute=name), SingleLabel(), sites=2, stream=Stream(0), **SHARES)
        return str(caught.value)

    assert "have no attribute 'race' (they have 'sex', 'scanner')" in said(table(csv, drop=("ward",)), "race")
    assert 'Name it in the data table: attributes = ["sex"]' in said(Table(csv, "ill", drop=("scanner",)), "sex")
    text = (tmp_path / "mine.csv").read_text().replace(",F,", ",,", 1)
    (tmp_path / "gap.csv").write_text(text)
    gap = table(str(tmp_path / "gap.csv"), drop=("ward",))
    assert "1 of 120 records have no value of the attribute 'sex'" in said(gap, "sex")
    assert gap.load().omitted[0].line() == "1 values of attributes that are not known: 'sex' (1)"
    assert gap.load().records.attributes[0].codes[0] == -1
    filled = table(str(tmp_path / "gap.csv"), drop=("ward",), fill={"sex": "not asked"}).load()
    assert filled.records.attributes[0].words == ("F", "M", "not asked")
    assert attribute_named("sex", filled.records.attributes, "here").codes[0] == 2


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"site": "sex"}, "attributes: column 'sex' is the site"),
        ({"drop": ("sex",)}, "attributes: column 'sex' is dropped"),
        ({"also_inputs": ("ward",)}, "also-inputs: column 'ward' is no attribute, so it is an input already"),
        ({"ranges": (("sex", 0.0, 1.0),)}, "ranges: column 'sex' is an attribute and no input"),
    ],
)
def test_a_column_has_one_role_unless_two_are_said(csv, knobs, said):
    with pytest.raises(Refused) as caught:
        Table(csv, "ill", **{"attributes": ("sex",), **knobs})
    assert said in str(caught.value)


def test_words_and_codes_are_in_the_fingerprint_of_the_data_and_their_absence_changes_nothing(csv, tmp_path):
    def digest(source):
        return data_digest(gather(source, IID(), SingleLabel(), sites=2, stream=Stream(0), **SHARES))

    plain = Table(csv, "ill", drop=("ward", "sex", "scanner"), ranges=(("age", 0.0, float(N)),))
    first = digest(table(csv, drop=("ward",)))
    assert digest(plain) != first == digest(table(csv, drop=("ward",)))
    (tmp_path / "other.csv").write_text((tmp_path / "mine.csv").read_text().replace(",F,", ",M,", 1))
    assert digest(table(str(tmp_path / "other.csv"), drop=("ward",))) != first


def test_a_configuration_without_the_new_parameters_is_what_it_was(csv):
    assert list(Table("a.csv", "y").configuration()) == [
        *("kind", "path", "label", "site", "patient", "drop", "ranges", "categories", "columns", "missing"),
        *("drop-missing", "separator", "decimal"),
    ]
    assert ByKey().configuration() == {"kind": "by-key"}
    assert ByKey(attribute="sex").configuration() == {"kind": "by-key", "attribute": "sex"}
    assert json.loads(json.dumps(table(csv).configuration()))["attributes"] == ["sex", "scanner"]


@pytest.mark.parametrize(
    ("words", "copy"), [({"F": "woman", "M": "man"}, True), ({"F": "1", "M": "0"}, True), ({}, False)]
)
def test_a_feature_that_is_an_attribute_under_another_name_is_noted(csv, tmp_path, words, copy):
    frame = pd.read_csv(csv)
    frame["gender"] = frame["sex"].replace(words) if words else ["F", "M"] * (N // 2)
    frame.loc[3, "sex"] = "NA"  # of which nothing is known
    frame.to_csv(tmp_path / "both.csv", index=False)
    path = str(tmp_path / "both.csv")
    noted = [one for one in table(path).load().cautions if "of the attribute 'sex'" in one]
    assert len(noted) == copy and all(one.startswith("column 'gender' has one value") for one in noted)
    without = table(path, drop=("gender",)).load().cautions
    assert not any("of the attribute" in one for one in without)

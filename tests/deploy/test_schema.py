"""What sites agree on, as a value: its digest, its bounds, and what is no schema at all."""

from dataclasses import replace

import pytest
import torch

from consilium.core.errors import Refused
from consilium.core.inputs import Column, Inputs
from consilium.core.records import Consortium, Records
from consilium.deploy.protocol.framing import canonical, parse_object
from consilium.deploy.protocol.schema import Schema, check_agreed, check_declared, read_schema
from consilium.learn.tasks.single_label import SingleLabel

AGE, SEX = Column("age", (0.0, 110.0), unit="years"), Column("sex", words=("F", "M"))
INPUTS = Inputs((AGE, SEX), (("numbers", "scaled"),))
STUDY = Schema(INPUTS, (3,), ("well", "ill"))


def changed(**fields):
    return replace(STUDY, inputs=replace(INPUTS, **fields))


def plan(**more):
    return {"shape": [3], "classes": ["well", "ill"], "inputs": {**INPUTS.to_json(), **more}}


@pytest.mark.parametrize(
    "other",
    [
        changed(columns=(SEX, AGE)),
        changed(columns=(replace(AGE, range=(0.0, 110.5)), SEX)),
        changed(columns=(replace(AGE, unit="months"), SEX)),
        changed(columns=(AGE, replace(SEX, words=("M", "F")))),
        changed(columns=(replace(AGE, name="Age"), SEX)),
        changed(preparation=(("numbers", "as they are"),)),
        changed(patients=True),
        replace(STUDY, classes=("ill", "well")),
        replace(STUDY, shape=(1, 3)),
    ],
    ids=["order", "range", "unit", "categories", "name", "preparation", "patients", "classes", "shape"],
)
def test_the_digest_is_of_everything_that_must_be_the_same(other):
    assert other.digest() != STUDY.digest()


def test_the_digest_is_of_nothing_else():
    undeclared = changed(columns=(AGE, replace(SEX, declared=False)), classes_declared=False)
    whole = changed(columns=(replace(AGE, range=(-0, 110)), SEX))
    assert undeclared.digest() == whole.digest() == STUDY.digest() and len(STUDY.digest()) == 64


def test_what_is_sent_is_read():
    sent = parse_object(canonical(plan()), "plan")
    assert read_schema(sent) == STUDY and read_schema(sent).digest() == STUDY.digest()


WRONG = [
    {"columns": 3}, {"columns": [{"name": 3}]}, {"columns": [{"range": [0.0, 1.0]}]}, {"columns": [["a"]]},
    {"columns": [{"name": "a", "range": [0, 10**400]}]}, {"columns": [{"name": "a", "range": [0.0]}]},
    {"columns": [{"name": "a", "range": [0.0, True]}]}, {"columns": [{"name": "a", "x": 1}]},
    {"columns": [{"name": "a", "words": "ab"}]}, {"columns": [{"name": "a", "unit": 1}]},
    {"preparation": []}, {"preparation": {"values": 3}}, {"patients": 1}, {"more": 1},
]  # fmt: skip


@pytest.mark.parametrize("change", WRONG, ids=range(len(WRONG)))
def test_inputs_of_a_wrong_type_are_refused(change):
    with pytest.raises(Refused, match="request: the request holds no usable"):
        read_schema(plan(**change))


@pytest.mark.parametrize(
    "change",
    [{"shape": 3}, {"shape": [True]}, {"shape": [0]}, {"shape": [1 << 40]}, {"classes": [1, 2]}, {"inputs": 1}],
)
def test_a_shape_or_classes_of_a_wrong_type_are_refused(change):
    with pytest.raises(Refused, match="no usable"):
        read_schema({**plan(), **change})


def test_sites_that_agree():
    check_agreed(STUDY, {"a": STUDY.digest(), "b": STUDY.digest()})
    check_agreed(STUDY, {site: changed(patients=True).digest() for site in "ab"})


def test_the_site_that_differs_is_named():
    with pytest.raises(Refused, match="b: it enrols with other inputs"):
        check_agreed(STUDY, {"a": STUDY.digest(), "b": ""})
    with pytest.raises(Refused, match="b: the records of a name their patients, and those of b do not"):
        check_agreed(STUDY, {"a": changed(patients=True).digest(), "b": STUDY.digest()})
    with pytest.raises(Refused, match="a: it enrols with other inputs"):
        check_agreed(changed(patients=True), {"a": STUDY.digest()})


def held(inputs, shape=(3,), **more):
    records = Records.of(torch.zeros(2, *shape), torch.tensor([0, 1]))
    return Consortium(
        "toy", (), records, records, ("well", "ill"), SingleLabel(), shape, "made here", True, inputs=inputs, **more
    )


def test_a_study_is_sent_only_where_all_of_it_is_declared():
    check_declared(held(INPUTS))
    with pytest.raises(Refused, match="the limits of column 'age' were read from the records"):
        check_declared(held(Inputs((Column("age", declared=False), SEX))))
    with pytest.raises(Refused, match="the features have no names"):
        check_declared(held(Inputs()))
    with pytest.raises(Refused, match="ranges or categories were read from the records"):
        check_declared(held(Inputs(), (1, 3, 3), fitted_on_private=True))
    check_declared(held(Inputs(), (1, 3, 3)))


def test_columns_that_fill_a_request_are_refused():
    with pytest.raises(Refused, match="40000 columns are described by more than 400000 bytes"):
        check_declared(held(Inputs(tuple(Column(f"gene {k}", (0.0, 1.0)) for k in range(40_000))), (40_000,)))

"""An entry's fields are its knobs: configuration, kind, equality, and what pydantic makes of them."""

from dataclasses import FrozenInstanceError, dataclass

import pytest
from pydantic import TypeAdapter, ValidationError

from consilium.core.entry import Entry, check
from consilium.core.errors import Refused


@dataclass(frozen=True)
class Sample(Entry):
    """A sample."""

    step_size: float = 0.5
    layers: tuple[int, ...] = (1, 2)
    name: str | None = None

    def __post_init__(self):
        check(self.step_size > 0, "step-size", self.step_size, "a positive number")


def test_the_kind_is_the_file():
    assert Sample.kind() == "test-entry"


def test_configuration_has_every_knob_with_dashes_and_lists():
    assert Sample(step_size=2.0).configuration() == {
        "kind": "test-entry", "step-size": 2.0, "layers": [1, 2], "name": None,
    }  # fmt: skip


def test_an_entry_is_a_value():
    assert Sample(0.5) == Sample() != Sample(0.6)
    assert repr(Sample()) == "Sample(step_size=0.5, layers=(1, 2), name=None)"
    with pytest.raises(FrozenInstanceError):
        Sample().step_size = 1.0


def test_pydantic_refuses_what_is_no_knob():
    read = TypeAdapter(Sample).validate_python
    assert read({"step_size": 1, "layers": [3]}) == Sample(1.0, (3,))
    for wrong in ({"stepsize": 1.0}, {"step_size": "fast"}, {"step_size": float("nan")}, {"layers": 3}):
        with pytest.raises(ValidationError):
            read(wrong)


def test_a_value_out_of_range_names_knob_value_and_range():
    with pytest.raises(Refused) as refusal:
        Sample(-1.0)
    assert str(refusal.value) == "step-size: -1.0 is out of range. Use a positive number."
    check(True, "x", 1, "anything")

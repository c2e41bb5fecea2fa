"""The table ``[federation]``: an algorithm with its knobs, and the shape of the rounds beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from consilium.core.errors import Refused
from consilium.federate.client.participation import Participation

from .spec import FederationShape, FederationSpec
from .toml_binding import as_mapping, card_of, entry, refuse_unknown, value

__all__ = ["federation_of"]


def federation_of(table: Mapping[str, Any]) -> FederationSpec:
    """What ``[federation]`` asks for.  Refused: an unknown knob, and knobs that do not go together."""
    card = card_of(table, "federation", "federate/algorithms")
    shape = [f.name.replace("_", "-") for f in fields(FederationShape)]
    knobs = {k: v for k, v in table.items() if k != "kind"}
    refuse_unknown(knobs, [*card.knobs, *shape], "federation", card.kind)
    parameters = {k: v for k, v in knobs.items() if k in card.knobs}
    presence = _participation(knobs.pop("participation", {}))
    rounds = value(FederationShape, {k: v for k, v in knobs.items() if k in shape}, "federation")
    algorithm = entry({"kind": card.kind, **parameters}, "federation", "federate/algorithms")
    try:
        return FederationSpec(algorithm, replace(rounds, participation=presence))
    except Refused as error:
        raise error.at("federation") from None


def _participation(raw: object) -> Participation:
    where = "federation.participation"
    knobs = as_mapping(raw, where)
    refuse_unknown(knobs, [f.name.replace("_", "-") for f in fields(Participation)], where, "participation")
    return value(Participation, knobs, where)

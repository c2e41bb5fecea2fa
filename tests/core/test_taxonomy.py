"""What follows from a threat model stands in the lists of others, and nothing that does not."""

import pytest

from consilium.core.catalogue import cards, load_entry
from consilium.core.taxonomy import Taxonomy, taxonomy
from consilium.core.threat import ThreatModel


@pytest.mark.parametrize(
    ("threat", "nist", "atlas"),
    [
        (("receiver", "inference", "white-box", "evasion"), "NISTAML.022", "AML.T0015"),
        (("outsider", "inference", "black-box", "evasion"), "NISTAML.025", "AML.T0015"),
        (("outsider", "inference", "transfer", "evasion"), "NISTAML.022", "AML.T0015"),
        (("server", "training", "white-box", "membership"), "NISTAML.033", "AML.T0024.000"),
        (("outsider", "inference", "black-box", "attribute"), "NISTAML.032", None),
        (("server", "training", "white-box", "reconstruction"), "NISTAML.032", "AML.T0024.001"),
        (("outsider", "inference", "black-box", "extraction"), "NISTAML.031", "AML.T0024.002"),
    ],
)
def test_ids_are_those_of_the_lists(threat, nist, atlas):
    made = taxonomy(ThreatModel(*threat))
    assert (made.nist, made.atlas) == (nist, atlas) and made.ai_act is not None


@pytest.mark.parametrize("aim", ["poisoning", "linkage"])
def test_what_does_not_follow_is_not_guessed(aim):
    assert taxonomy(ThreatModel("site", "training", "white-box", aim)) == Taxonomy()


def test_every_attack_of_the_catalogue_has_its_ids():
    for room in ("attack/evasion", "attack/membership"):
        for card in cards(room):
            assert taxonomy(load_entry(card).threat).nist is not None, card.kind

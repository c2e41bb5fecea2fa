"""What others call an adversary: NIST AI 100-2e2025, MITRE ATLAS, and the classes of Art. 15(5) of the EU AI Act.

A threat model does not contain everything that these lists need.  Poisoning by a site may be of data or of the model,
to make it worse or to plant something, which NIST and the Act distinguish and a threat model does not: an entry states
its NISTAML id itself, and the other two follow from it.  Linkage has no entry.  What does not follow is None.

Source: NIST AI 100-2e2025, Adversarial Machine Learning: A Taxonomy (ids NISTAML); MITRE ATLAS (ids AML);
Regulation (EU) 2024/1689, Art. 15(5)
"""

from __future__ import annotations

from dataclasses import dataclass

from .threat import ThreatModel

__all__ = ["Taxonomy", "taxonomy"]


@dataclass(frozen=True)
class Taxonomy:
    """The id in each list, None where it does not follow from the threat model."""

    nist: str | None = None
    atlas: str | None = None
    ai_act: str | None = None


_CONFIDENTIALITY = "confidentiality attacks"
_EVASION = "adversarial examples or model evasion"
_BY_AIM = {
    "membership": Taxonomy("NISTAML.033", "AML.T0024.000", _CONFIDENTIALITY),
    "attribute": Taxonomy("NISTAML.032", None, _CONFIDENTIALITY),
    "reconstruction": Taxonomy("NISTAML.032", "AML.T0024.001", _CONFIDENTIALITY),
    "extraction": Taxonomy("NISTAML.031", "AML.T0024.002", _CONFIDENTIALITY),
}


_DATA, _MODEL = "data poisoning", "model poisoning"
_BY_NIST = {
    "NISTAML.011": Taxonomy("NISTAML.011", None, _MODEL),  # model poisoning, availability
    "NISTAML.013": Taxonomy("NISTAML.013", "AML.T0020", _DATA),  # data poisoning, availability
    "NISTAML.023": Taxonomy("NISTAML.023", "AML.T0018.000", _DATA),  # backdoor poisoning
    "NISTAML.024": Taxonomy("NISTAML.024", "AML.T0020", _DATA),  # targeted poisoning
    "NISTAML.026": Taxonomy("NISTAML.026", "AML.T0018.000", _MODEL),  # model poisoning, integrity
}


def taxonomy(threat: ThreatModel, nist: str | None = None) -> Taxonomy:
    """The identifiers of ``threat`` in the three lists; ``nist`` is the one that its entry states."""
    if nist is not None:
        return _BY_NIST.get(nist, Taxonomy(nist))
    if threat.aim == "evasion" and threat.moment == "inference":
        nist = "NISTAML.025" if threat.knowledge == "black-box" else "NISTAML.022"
        return Taxonomy(nist, "AML.T0015", _EVASION)
    return _BY_AIM.get(threat.aim, Taxonomy())

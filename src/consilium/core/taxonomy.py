"""What others call an adversary: NIST AI 100-2e2025, MITRE ATLAS, and the classes of Art. 15(5) of the EU AI Act.

A threat model does not contain everything that these lists need.  Poisoning by a site may be of data or of the model,
which NIST and the Act distinguish and a threat model does not; linkage has no entry.  What does not follow is None.

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


def taxonomy(threat: ThreatModel) -> Taxonomy:
    """The identifiers of ``threat`` in the three lists."""
    if threat.aim == "evasion" and threat.moment == "inference":
        nist = "NISTAML.025" if threat.knowledge == "black-box" else "NISTAML.022"
        return Taxonomy(nist, "AML.T0015", _EVASION)
    return _BY_AIM.get(threat.aim, Taxonomy())

"""Whose records the attacks on a cell ask about: the same in a clean model and in its infected twins (LAWS 22).

    asked = sites that are honest in EVERY infection of the study  and  have an update in the model (LAWS 17)

Twins that were asked about other records could not be told from twins that leak differently.  An audit compares no
twins but one model with its own claim: it asks about the canaries of all sites that are honest in that model.
"""

from __future__ import annotations

from functools import lru_cache

from consilium.core.attack import Attack
from consilium.core.threat import CanaryView
from consilium.evidence.finding import FindingEvidence
from consilium.federate.train import merged
from consilium.study.build.factory import colluders, ever_corrupted
from consilium.study.plan.nodes import CellNode
from consilium.study.plan.plan import Plan
from consilium.study.store.store import Store, read_rounds

__all__ = ["Asked"]

_ALIKE = (
    "Not asked about: {}, corrupted in an infection of this study. Twins are asked about the same records (LAWS 22)."
)


class Asked:
    """The sites asked about, by cell and attack; who is in a model is read once from its rounds."""

    def __init__(self, plan: Plan, store: Store) -> None:
        self._plan, self._store = plan, store
        self._merged = lru_cache(maxsize=4)(self._merged_sites)  # every attack on every model of a training asks

    def __call__(self, cell: CellNode, attack: Attack) -> tuple[str, ...]:
        """Names of sites, in the order of the study."""
        return self._in_model(cell, self.honest(cell)) if attack.needs is CanaryView else self.members(cell)

    def members(self, cell: CellNode) -> tuple[str, ...]:
        """Those whose training records are asked about as members: honest in every infection, and in the model."""
        return self._in_model(cell, self.always_honest(cell))

    def honest(self, cell: CellNode) -> tuple[str, ...]:
        """Those that are honest in this cell, in its model or not."""
        sites = self._plan.materials.consortium(cell.seed).sites
        bad = colluders(cell.corruption, sites, cell.seed)
        return tuple(site.id for site in sites if site.id not in bad)

    def always_honest(self, cell: CellNode) -> tuple[str, ...]:
        """Those that are honest in every infection."""
        sites = self._plan.materials.consortium(cell.seed).sites
        bad = ever_corrupted(self._plan.spec, sites, cell.seed)
        return tuple(site.id for site in sites if site.id not in bad)

    def caveats(self, cell: CellNode, finding: FindingEvidence) -> list[str]:
        """What a reader of the figures must know of whom they are."""
        notes = list(cell.member_notes) if finding.aim == "membership" else []
        exclusions = set(self.honest(cell)) - set(self.always_honest(cell))
        if finding.asked is not None and exclusions:
            notes.append(_ALIKE.format(", ".join(sorted(exclusions))))
        return notes

    def _in_model(self, cell: CellNode, sites: tuple[str, ...]) -> tuple[str, ...]:
        """Those of ``sites`` whose work is in the model, as far as a training of the study made it."""
        return tuple(site for site in sites if all(site in self._merged(node.digest) for node in cell.after))

    def _merged_sites(self, training: str) -> frozenset[str]:
        return frozenset(site for report in read_rounds(self._store, training) for site in merged(report))

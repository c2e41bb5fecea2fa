"""A model that a training of the study made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from consilium.core.errors import Failed
from consilium.core.random import Stream
from consilium.evidence.privacy import PrivacyEvidence
from consilium.evidence.round import RoundReport
from consilium.study.build.engine_choice import engine_record, is_deployed
from consilium.study.build.factory import algorithm, colluders, released
from consilium.study.evaluate.aggregation_notes import corruption_notes, merge_notes, merge_record
from consilium.study.evaluate.draft import Draft
from consilium.study.evaluate.observer_replay import ObserverReplay
from consilium.study.evaluate.personalised import Personal
from consilium.study.evaluate.shadow_training import Retraining
from consilium.study.plan.nodes import TrainingCell
from consilium.study.plan.privacy_claims import central_claims, claim_notes, made_claims, privacy_record
from consilium.study.progress.events import ShadowDone
from consilium.study.store.store import read_rounds, read_stored

from .context import StageContext
from .model_origin import ModelOrigin

__all__ = ["TrainedHere"]


@dataclass(frozen=True, eq=False)
class TrainedHere(ModelOrigin):
    """That of ``cell``, whose training has ended."""

    context: StageContext
    cell: TrainingCell

    def weights(self) -> tuple[Tensor, Tensor]:
        """Everyone's, or those of one site where the algorithm makes none for everyone.

        Raises Failed: the algorithm has no model for everyone and none for a site.
        """
        if (personal := self.personal()) is not None:
            return personal.weights()
        cell, context = self.cell, self.context
        state, _ = context.checkpoint(cell.training)
        weights = released(cell.node.spec, cell.arm, context.network(cell), state.server)
        if weights is None:
            raise Failed("the algorithm has no model for everyone, and none for a site either")
        return weights

    def personal(self) -> Personal | None:
        """By the algorithm of the arm."""
        cell, context = self.cell, self.context
        if not cell.node.federation.algorithm.personal:
            return None
        net, data = context.network(cell), context.data(cell.seed)
        honest = frozenset(context.asked.honest(cell))
        state, site_states = context.checkpoint(cell.training, str(net.start()[0].device))
        return Personal(
            algorithm(cell.node.spec, cell.arm, net),
            state.server,
            site_states,
            net,
            tuple(site for site in data.sites if site.id in honest),
            cell.arm,
            data.public,
            data.task,
            context.store.model(cell.model),
            Stream(cell.seed).child("release", cell.model),
            frozenset(context.asked.always_honest(cell)),
        )

    def rounds(self) -> list[RoundReport]:
        """As its log has them."""
        return read_rounds(self.context.store, self.cell.training)

    @property
    def target_accuracy(self) -> float:
        """The study's."""
        return self.cell.node.spec.federation.shape.target_accuracy

    def record_merges(self, draft: Draft, rounds: Sequence[RoundReport]) -> None:
        """The engine's record, the weights and shares of the sites, and rounds that made no model."""
        cell, context = self.cell, self.context
        engine = engine_record(context.store.training(cell.training)) or draft.evidence.engine
        merges = merge_record(cell.node.spec, cell.arm, context.data(cell.seed), engine, rounds)
        draft.evidence = replace(draft.evidence, engine=engine, merge=merges)
        draft.note(merge_notes(rounds))
        if (infection := cell.corruption) is not None:
            bad = colluders(infection, context.data(cell.seed).sites, cell.seed)
            draft.note(corruption_notes(rounds, bad, infection.rounds))
        among = cell.node.federation.cohort(len(context.data(cell.seed).sites))
        weaknesses = ((defence, defence.weakness(among)) for defence in cell.arm.merge)
        draft.note([f"{defence.kind()}: {weakness}." for defence, weakness in weaknesses if weakness])

    def privacy(self) -> PrivacyEvidence:
        """From the ledgers of the honest sites, and the noise of the server."""
        cell, context, spec = self.cell, self.context, self.cell.node.spec
        data, folder = context.data(cell.seed), context.store.training(cell.training)
        _, sites = context.checkpoint(cell.training)
        why = (read_stored(folder / "training.json") or {}).get("stopped")
        ledgers = {site: state.ledger for site, state in sites.items()}
        engine = engine_record(folder)
        deployed = engine if is_deployed(engine) else None
        claims = made_claims(cell.arm, data, ledgers, context.asked.honest(cell), deployed)
        claims = (*claims, *central_claims(spec, cell.arm, data))
        notes = claim_notes(spec, claims, colluders(cell.corruption, data.sites, cell.seed))
        return privacy_record(claims, notes if why is None else [*notes, f"{why} (LAWS 13)"])

    def retraining(self, sites: tuple[str, ...]) -> Callable[[], Retraining]:
        """Its training, run again."""
        cell, context = self.cell, self.context
        alive = ShadowDone(cell.training)
        return lambda: Retraining(context.plan, cell, context.store, sites, lambda: context.tell(alive), context.cores)

    def replay(self) -> ObserverReplay:
        """Of its training."""
        return self.context.observer_replay(self.cell.node)

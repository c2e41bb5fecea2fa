"""Run a plan: train, release, judge, attack; everything finished is skipped, every failure recorded.

Resuming needs nothing but the folder: a training goes on from its last round, a cell from its last finding.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, cast

from torch import nn

from consilium.core.errors import Failed
from consilium.core.network import Network
from consilium.core.random import Stream
from consilium.core.seal import file_digest, sealed
from consilium.evidence.cell import CellEvidence
from consilium.evidence.privacy import PrivacyEvidence
from consilium.evidence.write import plain
from consilium.federate.checkpoint import load_checkpoint
from consilium.federate.client.client_states import SiteStates
from consilium.federate.engines.engine import Engine
from consilium.federate.federated_evaluation import Assessing
from consilium.federate.round.round import RoundExchange, RoundState
from consilium.federate.train import Trained, train
from consilium.monitor.eta import Kind
from consilium.monitor.progress import Ticker
from consilium.monitor.sinks.tracks import Tracks, require_sinks
from consilium.study.build.engine_choice import engine_for, engine_record
from consilium.study.build.factory import algorithm, assessing, colluders, exchange, released, start
from consilium.study.evaluate.canary_audit import Auditor, made_audits
from consilium.study.evaluate.draft import Draft
from consilium.study.evaluate.evaluate import AttackContext, attack_digest, costs, find, implied, is_judged, judge
from consilium.study.evaluate.observer_replay import Watching
from consilium.study.evaluate.personalised import Personal
from consilium.study.evaluate.release import Released, release, unbroken
from consilium.study.evaluate.sample_answers import sample_answers
from consilium.study.evaluate.seals import Seals, recipe_of, released_seals
from consilium.study.evaluate.shadow_training import Retraining, shadows_wanted
from consilium.study.evaluate.training_files import file_seals
from consilium.study.plan.budget_stop import budget_stop
from consilium.study.plan.division import division_note
from consilium.study.plan.plan import CellNode, Plan, TrainingNode
from consilium.study.plan.privacy_claims import central_claims, claim_notes, made_claims, privacy_record
from consilium.study.spec.spec import AttackSpec, FederationSpec
from consilium.study.store.environment import settled
from consilium.study.store.error_summary import told
from consilium.study.store.store import Store, is_trained, read_json, read_rounds, write_json

from .aggregation_notes import check_rounds, merge_notes, merge_record
from .callbacks import Watch, shadow_kind, training_label, watch_cell, work
from .manifest import cell_name, cell_record, given, study_record
from .outcome import Outcome
from .queried_sites import Asked

__all__ = ["Carrier", "Waits", "run_plan"]

Waits = Callable[[str, Sequence[str], float], None]
"""Told while a question waits: its name, which sites have not answered, and for how many seconds."""

Carrier = Callable[[TrainingNode, RoundExchange, Assessing, Waits], tuple[Engine, RoundExchange]]
"""Makes what carries the rounds of one training, where it is not the engine that the study names (a deployment), and
the exchange with what the sites declared in it.
"""

_SCHEMA = 1


def run_plan(plan: Plan, store: Store, command: str, quiet: bool = False, carrier: Carrier | None = None) -> Outcome:
    """Do everything in ``plan`` that is not done; returns what was done."""
    began = time.perf_counter()
    here = settled(plan.spec.device, plan.spec.threads)
    require_sinks(plan.spec.track)
    with (
        store.locked(),
        here,
        Ticker(work(plan), quiet) as ticker,
        Tracks(plan.spec.track, store.folder, plan.spec.name, ticker.say) as tracks,
    ):
        runner = _Runner(plan, store, ticker, tracks, carrier)
        record = study_record(plan, command, {}, 0.0, {}, runner.seals.trainings)
        write_json(store.folder / "study.json", sealed(plain(record)))
        for one in plan.materials.consortium(plan.spec.seeds[0]).omitted:
            ticker.say(f"left out or clipped: {one.line()}")
        if plan.spec.audit:
            ticker.say(division_note(plan.spec.seeds[0]))
        try:
            for seed in plan.spec.seeds:
                for node in plan.trainings.values():
                    if node.seed == seed:
                        runner.train(node)
                for cell in plan.cells:
                    if cell.seed == seed:
                        runner.cell(cell)
        finally:  # also when it is stopped: what is finished is said to be
            runner.outcome.seconds = time.perf_counter() - began
            seals, seconds = runner.seals, runner.outcome.seconds
            record = study_record(plan, command, runner.status, seconds, seals.cells, seals.trainings)
            write_json(store.folder / "study.json", sealed(plain(record)))
    return runner.outcome


class _Runner:
    """One run of one plan in one folder."""

    def __init__(
        self, plan: Plan, store: Store, ticker: Ticker, tracks: Tracks, carrier: Carrier | None = None
    ) -> None:
        self.plan, self.store, self.ticker, self.tracks, self.carrier = plan, store, ticker, tracks, carrier
        self.outcome = Outcome()
        self.status: dict[str, str] = {}
        self.seals = Seals(store, ticker.say)
        self._broken: dict[str, str] = {}
        self._shadows_owed = shadows_wanted(plan)
        self._asked = Asked(plan, store)
        self._released = lru_cache(maxsize=max(4, 2 * len(plan.arms)))(self._release)

    def train(self, node: TrainingNode) -> None:
        """Train, or go on with, or skip one training."""
        folder = self.store.training(node.digest)
        watch = Watch(self.plan, node, self.store, self.ticker, self.tracks)
        finished = is_trained(self.store, node.digest)
        try:
            cells = (cell.digest for cell in self.plan.cells if cell.training == node.digest)
            replaced = self.seals.check_training(node.digest, cells, finished)
        except Failed as error:  # its record is kept: with the right files in place it holds again
            self._fail(node, watch, error)
            return
        if finished:
            self.outcome.reused += 1
            watch.finished()
            return
        record = {"schema": _SCHEMA, "digest": node.digest, "recipe": dict(node.recipe), "error": None}
        record |= {"replaced": replaced} if replaced else {}
        try:
            write_json(folder / "training.json", sealed({**record, "status": "started"}))
            done = self._train(node, watch)
            check_rounds(read_rounds(self.store, node.digest), self.ticker.say)
            data = self.plan.materials.consortium(node.seed)
            bad = colluders(node.corruption, data.sites, node.seed)
            about = {"status": "ok", "seconds": done.seconds, "corrupted": list(bad), "stopped": done.stopped}
            about["seals"] = file_seals(folder)
            if done.stopped is not None:
                self.ticker.say(f"training {training_label(node)}: {done.stopped}")
            write_json(folder / "training.json", sealed({**record, **about}))
            self.seals.close_training(node.digest)
            self.outcome.trained += 1
            self.outcome.resumed += done.resumed_from > 0
            watch.finished()
        except Exception as error:  # it may be anyone's code, and the other trainings go on
            write_json(folder / "training.json", sealed({**record, "status": "failed", "error": told(error)}))
            self._fail(node, watch, error)

    def _fail(self, node: TrainingNode, watch: Watch, error: Exception) -> None:
        self._broken[node.digest] = told(error)
        watch.failed()
        self.ticker.say(f"training {training_label(node)} failed: {told(error)}")

    def cell(self, cell: CellNode) -> None:
        """Judge one model and run the attacks that have no finding yet."""
        known = self.seals.evidence(cell.digest, cell_record(self.plan, cell))
        draft = Draft(self._arranged(replace(known, cell=cell_name(cell))))
        try:
            self._complete(cell, draft)
            draft.end()
        except Exception as error:  # the other cells go on
            draft.fail(told(error))
        evidence = self._arranged(draft.evidence)
        self.seals.settle(cell.digest, evidence)
        self.status[cell.digest] = evidence.status
        if evidence.status == "failed":
            self.outcome.failed[cell.label] = str(evidence.error)
            self.ticker.say(f"cell {cell.label} failed: {evidence.error}")
        watch_cell(self.tracks, cell, evidence)

    @property
    def _federation(self) -> FederationSpec:
        return cast(FederationSpec, self.plan.spec.federation)

    def _train(self, node: TrainingNode, watch: Watch) -> Trained:
        spec, net = self.plan.spec, self.plan.materials.network(node.seed)
        data = self.plan.materials.consortium(node.seed)
        whole = exchange(spec, node.arm, node.seed, node.corruption, data, net)
        whole = self._watching(node).beside(whole, net)
        judging = assessing(whole)
        begin, folder = start(spec, node.arm, data, net), self.store.training(node.digest)
        if self.carrier is None:
            made = engine_for(self._federation.shape, spec.device, whole, judging, begin, folder)
        else:
            made, whole = self.carrier(node, whole, judging, self.ticker.waits)
        with made as carrying:
            return train(
                carrying,
                whole,
                judging,
                begin,
                self._federation.shape.rounds,
                folder,
                watch,
                assess_every=self._federation.shape.assess_every,
                assess_cohort=self._federation.shape.assess == "cohort",
                stop=budget_stop(spec, node, data),
                name=node.digest,
            )

    def _watching(self, node: TrainingNode) -> Watching:
        return Watching(self.plan.spec, self.plan.materials, node, self.store.training(node.digest))

    def _arranged(self, evidence: CellEvidence) -> CellEvidence:
        """Findings in the order of the study; those of attacks that it does not have are set aside, never lost."""
        names = [attack.name for attack in self.plan.spec.attacks]
        known = {**evidence.set_aside, **evidence.findings}
        findings = {name: known[name] for name in names if name in known}
        aside = {name: finding for name, finding in known.items() if name not in names}
        audits = made_audits(findings)
        return replace(evidence, given=given(self.plan.spec), findings=findings, set_aside=aside, audits=audits)

    def _complete(self, cell: CellNode, draft: Draft) -> None:
        attacks = list(self.plan.spec.attacks)
        try:
            if cell.training in self._broken:
                raise Failed(f"its training failed: {self._broken[cell.training]}")
            self.seals.check_model(cell.model, draft.evidence.released, lambda: self._released(cell.digest))
            draft.evidence = self.seals.renewed(draft.evidence)
            if not is_judged(draft.evidence, self.store.cell(cell.digest)):
                self._judge(cell, draft)
            while attacks:
                self._attack(cell, attacks[0], draft)
                del attacks[0]
        finally:
            for attack in attacks:
                self.ticker.skip(Kind("attacks", attack.name))
            if cell.training is not None and (owed := self._shadows_owed.pop(cell.training, 0)):
                self.ticker.skip(self._shadow_kind(cell), owed)  # the attacks have seen what they need

    def _save(self, cell: CellNode, draft: Draft) -> None:
        """Between two findings: not done yet."""
        self.seals.write(cell.digest, replace(draft.evidence, status="started", error=None))

    def _judge(self, cell: CellNode, draft: Draft) -> None:
        began = time.perf_counter()
        data = self.plan.materials.consortium(cell.seed)
        model = self._released(cell.digest)
        self.ticker.begin(f"judging {cell.label}")
        stream = Stream(cell.seed).child("evaluate", cell.digest)
        draft.judged(judge(model, data, stream, self.store.cell(cell.digest)))
        if (own := self._personal(cell)) is not None:
            utility = (*draft.evidence.utility, *own.judge(model.module))
            draft.evidence = replace(draft.evidence, utility=utility)
            draft.note(own.notes())
        released = released_seals(recipe_of(self.store.model(cell.model)))
        trained = self.seals.trainings.get(cell.training or "")
        draft.evidence = replace(draft.evidence, released=released, trained=trained, privacy=self._privacy(cell))
        rounds = self._rounds(cell)
        if cell.training is not None:
            engine = engine_record(self.store.training(cell.training)) or draft.evidence.engine
            merges = merge_record(self.plan.spec, cell.arm, data, engine, rounds)
            draft.evidence = replace(draft.evidence, engine=engine, merge=merges)
            draft.note(merge_notes(rounds))
        shape = None if self.plan.spec.federation is None else self.plan.spec.federation.shape
        cost = costs(model, data, rounds, 0.0 if shape is None else shape.target_accuracy)
        seconds = {"training": sum(r["seconds"] for r in rounds), "evaluation": time.perf_counter() - began}
        draft.evidence = replace(draft.evidence, cost=cost, seconds=seconds)
        self._save(cell, draft)

    def _attack(self, cell: CellNode, attack: AttackSpec, draft: Draft) -> None:
        source, asked = self.plan.source(attack, cell), self._asked(cell, attack.attack)
        auditor = Auditor.of(self.plan, attack, draft.evidence.privacy.claims)
        wanted = attack_digest(cell.digest, attack, None if source is None else source.digest, asked, auditor)
        known = self.seals.finding(cell.digest, draft.evidence.findings.get(attack.name))
        if known is not None and known.digest == wanted and known.status == "ok":
            self.outcome.attacks_reused += 1
            self.ticker.skip(Kind("attacks", attack.name))
            return
        self.ticker.begin(f"{attack.name} on {cell.label}")
        finding = find(attack, self._context(cell, attack, asked, auditor))
        notes = self._asked.caveats(cell, finding)
        measures = (*finding.measures, *implied(finding, draft.evidence.privacy))
        finding = replace(finding, measures=measures, notes=(*finding.notes, *notes))
        self.outcome.attacks_run += 1
        draft.found(attack.name, finding)
        self._save(cell, draft)
        self.ticker.did(Kind("attacks", attack.name))

    def _context(
        self, cell: CellNode, attack: AttackSpec, asked: tuple[str, ...], auditor: Auditor | None
    ) -> AttackContext:
        source = self.plan.source(attack, cell)
        return AttackContext(
            cell=cell.digest,
            folder=self.store.cell(cell.digest),
            model=self._released(cell.digest),
            source=lambda: None if source is None else (source.digest, self._released(source.digest)),
            data=self.plan.materials.consortium(cell.seed),
            asked=asked,
            seed=cell.seed,
            retraining=lambda: Retraining(self.plan, cell, self.store, asked, lambda: self._shadowed(cell)),
            watching=None if cell.training is None else self._watching(self.plan.trainings[cell.training]),
            auditor=auditor,
            start=None if auditor is None else self._before(cell),
        )

    def _shadow_kind(self, cell: CellNode) -> Kind:
        return shadow_kind(self.plan.trainings[cast(str, cell.training)])

    def _shadowed(self, cell: CellNode) -> None:
        """One more shadow is trained."""
        training = cast(str, cell.training)
        if self._shadows_owed.get(training):
            self._shadows_owed[training] -= 1
        self.ticker.did(self._shadow_kind(cell))

    def _release(self, digest: str) -> Released:
        cell = next(c for c in self.plan.cells if c.digest == digest)
        if cell.training in self._broken:
            raise Failed(f"its training failed: {self._broken[cell.training]}")
        folder, data = self.store.model(cell.model), self.plan.materials.consortium(cell.seed)
        path, recipe = folder / "model.safetensors", recipe_of(folder)
        unbroken(path, recipe.get("sha256"))
        plain = self._network(cell).module_at(*self._weights(cell)).cpu()
        made = release(
            plain,
            cell.arm.model,
            cell.arm.answer,
            data.public,
            path,
            Stream(cell.seed).child("release", cell.model),
        )
        about: dict[str, Any] = {"shape": list(data.shape), "classes": list(data.classes), "sha256": file_digest(path)}
        about |= sample_answers(made.module, data.shape)
        if (own := self._personal(cell)) is not None:
            about["sites"] = own.store(recipe.get("sites", {}))
        write_json(folder / "recipe.json", sealed({**cell.model_recipe, **about}))
        return made

    def _network(self, cell: CellNode) -> Network:
        return self.plan.materials.network(cell.seed)

    def _before(self, cell: CellNode) -> nn.Module:
        """The model before training."""
        net = self._network(cell)
        return net.module_at(*net.start()).cpu()

    def _weights(self, cell: CellNode) -> Any:
        if cell.training is None:
            return self._network(cell).start()
        if (own := self._personal(cell)) is not None:
            return own.weights()
        state, _ = self._checkpoint(cell.training)
        found = released(self.plan.spec, cell.arm, self._network(cell), state.server)
        if found is None:
            raise Failed("the algorithm has no model for everyone, and none for a site either")
        return found

    def _personal(self, cell: CellNode) -> Personal | None:
        """The sites' own models, where the algorithm makes some."""
        if cell.training is None or not (cell.arm.algorithm or self._federation.algorithm).personal:
            return None
        net, data = self._network(cell), self.plan.materials.consortium(cell.seed)
        honest = frozenset(self._asked.honest(cell))
        state, held = self._checkpoint(cell.training, str(net.start()[0].device))
        return Personal(
            algorithm(self.plan.spec, cell.arm, net),
            state.server,
            held,
            net,
            tuple(site for site in data.sites if site.id in honest),
            cell.arm,
            data.public,
            self.store.model(cell.model),
            Stream(cell.seed).child("release", cell.model),
            frozenset(self._asked.always_honest(cell)),
        )

    def _checkpoint(self, training: str, device: str = "cpu") -> tuple[RoundState, SiteStates]:
        return load_checkpoint(self.store.training(training) / "checkpoint.safetensors", device, training)

    def _privacy(self, cell: CellNode) -> PrivacyEvidence:
        spec, data = self.plan.spec, self.plan.materials.consortium(cell.seed)
        if cell.training is None:
            return privacy_record(
                (), ["An existing model: nothing is known of how it was trained, so nothing is claimed."]
            )
        _, sites = self._checkpoint(cell.training)
        why = (read_json(self.store.training(cell.training) / "training.json") or {}).get("stopped")
        ledgers = {site: held.ledger for site, held in sites.items()}
        engine = engine_record(self.store.training(cell.training)) or {}
        deployed = engine if engine.get("kind") == "flower" else None
        made = made_claims(cell.arm, data, ledgers, self._asked.honest(cell), deployed)
        made = (*made, *central_claims(spec, cell.arm, data))
        bad = colluders(cell.corruption, data.sites, cell.seed)
        notes = claim_notes(spec, made, bad)
        return privacy_record(made, notes if why is None else [*notes, f"{why} (LAWS 13)"])

    def _rounds(self, cell: CellNode) -> list[Mapping[str, Any]]:
        return [] if cell.training is None else read_rounds(self.store, cell.training)

"""A site's limits and ledger in front of its work: checks, in this order.

    judge       whether this study may run here at all    the request alone, no record is read
    recognise   which patients' records these are          also keys what is drawn once per record
    admit       whether it may run on them to its end      own noise, own cost, before the first round
    pay         one round, on disk, before it is computed
    assess      one more model, before it is judged on held-out records

A refusal is a `Refused` that names the limit.  The ledger is open, and locked, only during a check.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path

from consilium.core.charge import Charge
from consilium.core.errors import Refused
from consilium.core.keystream import Secret
from consilium.core.records import Records
from consilium.deploy.protocol.messages import StudyRequest
from consilium.federate.client.participant import Participant

from .ledger import Ledger, open_ledger
from .policy import Planned, SiteLimits, check_policy, check_request
from .record_tokens import Fingerprint
from .secret import Custody, PlainFile

__all__ = ["Admitted", "Guard", "Recognised"]

_WAIT = 10.0


@dataclass(frozen=True, eq=False)
class Recognised:
    """A site's training records in its ledger's terms, and the key of the stream that the site draws from."""

    data: Fingerprint
    key: Secret


@dataclass(frozen=True, eq=False)
class Admitted:
    """A study that a site takes part in: the participant with the site's own limits, and what its rounds cost."""

    request: StudyRequest
    person: Participant
    planned: Planned


@dataclass(frozen=True, eq=False)
class Guard:
    """The limits of one site, the folder of its ledger, which is made where there is none, and where its secret is."""

    limits: SiteLimits
    folder: Path
    custody: Custody = field(default_factory=PlainFile)

    def unlock(self) -> None:
        """Open the ledger once, so that a passphrase is requested, or refused, before anything else."""
        with self._ledger():
            pass

    def judge(self, request: StudyRequest) -> None:
        """Refuse what the limits forbid whatever the records are."""
        check_request(request, self.limits)

    def recognise(self, request: StudyRequest, records: Records, names: Sequence[str] | None = None) -> Recognised:
        """Whose ``records`` these are, before any defence changed them; ``names`` are stable names of their units."""
        with self._ledger() as ledger:
            data = ledger.fingerprint(records, names)
            return Recognised(data, ledger.stream_key(request.digest(), data))

    def admit(
        self, request: StudyRequest, known: Recognised, person: Participant, labels: Sequence[Charge] = ()
    ) -> Admitted:
        """Refuse what the limits or the budget do not allow on these records; ``labels``: what data defences charge.

        Raises Refused: a limit or the budget forbids the study.
        """
        if person.stream.noise != "secret":
            raise Refused("a deployed site's noise must be secret", remedy="build the participant with the site's key")
        rule, n = person.rule, person.rule.count(person.train)
        step, steps = rule.step_charge(n, person.schedule), person.schedule.steps(n)
        most = rule.most_rounds(n, person.schedule)
        bounded = most if most < person.schedule.rounds else None
        planned = Planned(known.data, step, steps, tuple(labels), bounded)
        with self._ledger() as ledger:
            check_policy(request, self.limits, ledger, planned)
        return Admitted(request, replace(person, site=replace(person.site, limits=self.limits.at_site())), planned)

    def pay(self, admitted: Admitted, round: int, question: bytes) -> None:
        """Charge ``round``, requested by ``question``, before it is computed; a stored answer needs no charge.

        Raises Refused: a limit or the budget forbids the round.
        """
        request, planned, study = admitted.request, admitted.planned, admitted.request.digest()
        if not 1 <= round <= request.rounds:
            raise Refused(
                f"the server asks for round {round}; the study has rounds 1 to {request.rounds}",
                where="limits.max-rounds",
            )
        with self._ledger() as ledger:
            if len(ledger.paid(study)) >= self.limits.max_rounds:
                raise Refused(
                    f"{self.limits.max_rounds} rounds of this study were computed, the most allowed, some more "
                    "than once",
                    where="limits.max-rounds",
                )
            if planned.most is not None and len(ledger.paid(study)) >= planned.most:
                raise Refused(
                    f"the study's own budget allows {planned.most} rounds on these records",
                    remedy="end the training here, or give the study a larger epsilon",
                    where="study.epsilon",
                )
            ledger.claim(study, round, question, planned.data, planned.charges(), self.limits.budget, planned.labels)

    def assess(self, request: StudyRequest, question: bytes) -> None:
        """Count the model that the bytes ``question`` hold, before it is judged; the same one again is free."""
        if self.limits.assess:
            with self._ledger() as ledger:
                ledger.judge(request.digest(), question, self.limits.max_assessments)

    def _ledger(self) -> AbstractContextManager[Ledger]:
        return open_ledger(self.folder, witness=self.limits.witness, wait=_WAIT, custody=self.custody)

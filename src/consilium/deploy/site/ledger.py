"""The privacy that a site's records have spent, over all studies and restarts, written before any answer (LAWS 14).

    claim: budget checked -> line in the journal, on disk -> (compute, store the bytes, send)

A crash after the line counts as spent.  Stored bytes are sent again without a claim; a new computation is a new claim.
A claim composes with every earlier one that learned from at least one of the same patients: the cost is the largest
over patients.  A budget is of one example or of one patient.  A charge per example has no cost per patient.  A charge
per patient costs one of their examples what replacing the patient would: the patient's other records stay in the data,
and the patient is sampled as before.  Learning without differential privacy has no finite cost, and a budget never
allows it.

Source: Rogers et al. 2016, arXiv 1605.08294 (privacy odometers and filters: budgets over adaptive compositions)
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from consilium.core.charge import Adjacency, Charge, Composed, PerUnit, RandomisedResponse, Unit
from consilium.core.errors import Refused, Unlawful
from consilium.core.files import read_bytes
from consilium.core.keystream import Secret
from consilium.core.plain import Json, member
from consilium.core.records import Records
from consilium.core.rounding import round_down, round_up
from consilium.federate.client.charges_paid import charge_from_json, charge_to_json
from consilium.measure.accounting import privacy

from .journal import Journal, durable, sync_folder
from .record_tokens import Fingerprint, fingerprint, split_tokens
from .secret import Custody, PlainFile

__all__ = ["Budget", "Ledger", "cost_alone", "open_ledger"]

_VERSION = 1


@dataclass(frozen=True)
class Budget:
    """What any one record may cost in all: epsilon at ``delta`` for examples, ``labels`` for their labels.

    ``epsilon`` None sets no bound; then learning without differential privacy is allowed too.  With ``unit`` patient it
    is what all records of a person may cost together; ``adjacency`` is how one more of them is counted.
    """

    epsilon: float | None = None
    delta: float = 1e-5
    labels: float | None = None
    unit: Unit = "example"
    adjacency: Adjacency = "add-or-remove-one"


@dataclass(frozen=True)
class _Entry:
    """One line: ``charges`` None means without differential privacy, ``exposed`` without any, labels included."""

    study: str
    round: int
    records: str
    order: str
    charges: tuple[Charge, ...] | None
    labels: tuple[Charge, ...]
    exposed: bool


class Ledger:
    """A site's ledger, locked by this process; made by :func:`open_ledger`."""

    def __init__(self, folder: Path, journal: Journal, secret: Secret) -> None:
        self._folder, self._journal, self._secret = folder, journal, secret
        self._entries = [_entry(line, number) for number, line in enumerate(journal.lines) if "round" in line]
        self._judged = {str(line["judged"]) for line in journal.lines if "judged" in line}
        self._tokens: dict[str, frozenset[bytes]] = {}

    def fingerprint(self, records: Records, names: Sequence[str] | None = None) -> Fingerprint:
        """Whose records these are, in this ledger's terms; ``names`` as in :func:`~.fingerprint.fingerprint`."""
        return fingerprint(records, self._secret.derive("tokens"), names)

    def stream_key(self, study: str, data: Fingerprint) -> Secret:
        """What the site's stream is keyed with: other labels for other studies or other orders of the records."""
        return Secret(self._secret.derive(f"stream\x1f{study}\x1f{data.order}"))

    def paid(self, study: str) -> tuple[int, ...]:
        """The rounds of ``study`` that were charged here, in that order, repetitions included."""
        return tuple(entry.round for entry in self._entries if entry.study == study)

    def judge(self, study: str, model: bytes, most: int) -> None:
        """Record that the model of the message ``model`` is evaluated here; refused beyond ``most`` different ones.

        Accuracy on the site's records reveals a little about them with each model, and no noise protects it.

        Raises Refused: ``most`` other models were evaluated already.
        """
        digest = hashlib.sha256(model).hexdigest()
        if digest in self._judged:
            return
        if len(self._judged) >= most:
            raise Refused(
                f"{most} models were evaluated on this site's records, and {most} is the limit",
                remedy="evaluate fewer rounds (federation.assess-every)",
                where="limits.max-assessments",
            )
        self._journal.append({"study": study, "judged": digest, "at": _now()})
        self._judged.add(digest)

    def owed(self, study: str, data: Fingerprint, labels: Sequence[Charge]) -> tuple[Charge, ...]:
        """``labels``, or nothing where they are paid: the same study, records, order and mechanism give one draw."""
        is_paid = any(e.study == study and e.order == data.order and e.labels == tuple(labels) for e in self._entries)
        return () if is_paid else tuple(labels)

    def cost(
        self,
        data: Fingerprint,
        delta: float,
        more: Sequence[Charge] | None = (),
        unit: Unit = "example",
        adjacency: Adjacency = "add-or-remove-one",
    ) -> float:
        """Epsilon at ``delta`` of the person in ``data`` who has paid most, after ``more``; infinite without DP."""
        return max(_epsilon(_joined(case, more), delta, unit, adjacency) for case in self._cases(data))

    def label_cost(self, data: Fingerprint, more: Sequence[Charge] = ()) -> float:
        """The same for labels that were randomised once: their epsilons add up.  Infinite where nothing hid them."""
        return max(
            math.inf if any(e.exposed for e in case) else _epsilon((*(c for e in case for c in e.labels), *more), 0.5)
            for case in self._cases(data)
        )

    def check(
        self,
        data: Fingerprint,
        charges: Sequence[Charge] | None,
        budget: Budget,
        labels: Sequence[Charge] = (),
        randomised: bool = False,
    ) -> None:
        """Refuse ``charges`` (None: no differential privacy) that ``budget`` does not cover after what was spent.

        ``labels`` are charges still due; ``randomised``: the labels are randomised, charged already or not.
        """
        if budget.epsilon is not None:
            self._check_units(data, charges, budget, budget.epsilon)
        if budget.labels is not None:
            self._check_labels(data, labels, budget.labels, exposed=charges is None and not (randomised or labels))

    def claim(
        self,
        study: str,
        round: int,
        inbox: bytes,
        data: Fingerprint,
        charges: Sequence[Charge] | None,
        budget: Budget,
        labels: Sequence[Charge] = (),
    ) -> None:
        """Pay for one round before it is computed; the line is on disk when this returns.

        ``inbox``: the broadcast's bytes as received.  ``charges``: what the round does to a record, planned; None
        without differential privacy.  ``labels``: what was done to labels once; charged by the first round of a study,
        and again if the records or their order changed.  Refused where ``budget`` does not cover it.
        """
        _check_kinds(charges, labels)
        charges_due = self.owed(study, data, labels)
        self.check(data, charges, budget, charges_due, randomised=bool(labels))
        self._keep_tokens(data)
        line: dict[str, Json] = {
            "study": study,
            "round": round,
            "inbox": hashlib.sha256(inbox).hexdigest(),
            "records": data.digest(),
            "order": data.order,
            "n": data.n,
            "charges": None if charges is None else [charge_to_json(c) for c in charges],
            "labels": [charge_to_json(c) for c in charges_due],
            "exposed": charges is None and not labels,
            "at": _now(),
        }
        self._journal.append(line)
        self._entries.append(_entry(line, len(self._journal.lines) - 1))

    def _check_units(self, data: Fingerprint, charges: Sequence[Charge] | None, budget: Budget, most: float) -> None:
        delta, unit, adjacency = budget.delta, budget.unit, budget.adjacency
        n, them = (data.n, "records") if unit == "example" else (len(data.persons), "patients")
        if delta * n >= 1:
            raise Unlawful(
                f"the budget's delta = {delta:g} is not below 1/n for {n} training {them}",
                law=7,
                remedy=f"use a delta below {round_down(1 / n)}",
                where="budget.delta",
            )
        if charges is None:
            raise Refused(
                f"the study learns without differential privacy, and these records may spend at most epsilon {most:g}",
                remedy="add dp-sgd to the study",
                where="budget.epsilon",
            )
        requested = _epsilon(tuple(charges), delta, unit, adjacency)
        if math.isinf(requested):
            raise Refused(
                "the study protects single examples, and the budget is per patient: such training has no "
                "finite cost per patient",
                remedy='set unit = "patient" in dp-sgd',
                where="budget.unit",
            )
        total = self.cost(data, delta, charges, unit, adjacency)
        if total > most * (1 + 1e-9):
            raise _over("epsilon", requested, total, self.cost(data, delta, unit=unit, adjacency=adjacency), most)

    def _check_labels(self, data: Fingerprint, labels: Sequence[Charge], most: float, *, exposed: bool) -> None:
        if exposed:
            raise Refused(
                f"the study learns from labels without randomisation, and labels may spend at most epsilon {most:g}",
                remedy="add label-randomised-response or dp-sgd to the study",
                where="budget.labels",
            )
        spent, requested = self.label_cost(data), _epsilon(tuple(labels), 0.5)
        if labels and spent + requested > most * (1 + 1e-9):
            raise _over("labels", requested, spent + requested, spent, most)

    def _cases(self, data: Fingerprint) -> Iterator[list[_Entry]]:
        """The entries that contain a patient of ``data``, for each case that is not part of another."""
        for case in data.shares(self._known()):
            yield [entry for entry in self._entries if entry.records in case]

    def _known(self) -> dict[str, frozenset[bytes]]:
        for name in {entry.records for entry in self._entries} - set(self._tokens):
            self._tokens[name] = self._read_tokens(name)
        return self._tokens

    def _read_tokens(self, name: str) -> frozenset[bytes]:
        path = self._folder / "records" / f"{name}.bin"
        try:
            data = read_bytes(path)
        except OSError:
            data = b""
        if hashlib.sha256(data).hexdigest() != name:
            raise Refused(
                "whose records were used is missing or damaged", remedy="restore the whole folder", where=str(path)
            )
        return split_tokens(data)

    def _keep_tokens(self, data: Fingerprint) -> None:
        name = data.digest()
        if name not in self._known():
            path = self._folder / "records" / f"{name}.bin"
            path.parent.mkdir(mode=0o700, exist_ok=True)
            durable(path, data.tokens())
            self._tokens[name] = split_tokens(data.tokens())


@contextmanager
def open_ledger(
    folder: Path, *, witness: Path | None = None, wait: float = 0.0, custody: Custody | None = None
) -> Iterator[Ledger]:
    """The ledger in ``folder`` (mode 0700), made where there is none; other processes wait ``wait`` seconds for it.

    A second head in ``witness``, on another disk, detects a folder that was restored from an old copy.  ``custody`` is
    where its secret is stored: unencrypted in the folder by default.

    Raises Refused: a ledger of another version, or a witness without its ledger.
    """
    keeper = custody or PlainFile()
    if not folder.exists() or not any(folder.iterdir()):
        _create(folder, witness, keeper)
    secret = keeper.read(folder / "secret")
    with Journal(folder, secret.derive("journal"), witness, wait) as journal:
        about = journal.lines[0]
        if about.get("ledger") != _VERSION:
            raise Refused(f"the ledger has version {about.get('ledger')!r}", remedy="use the release that wrote it")
        yield Ledger(folder, journal, secret)


def _create(folder: Path, witness: Path | None, custody: Custody) -> None:
    """All of a new ledger appears at once, so that half of one is always damage."""
    if witness is not None and witness.exists():
        raise Refused(
            f"there is no ledger in {folder}, and {witness} records one",
            remedy="restore the ledger's folder: a new one would lose the record of what was spent",
        )
    draft = folder.with_name(folder.name + ".draft")
    for stale in draft.glob("*") if draft.exists() else ():
        stale.unlink()
    draft.mkdir(mode=0o700, parents=True, exist_ok=True)
    secret = custody.make(draft / "secret")
    Journal.create(draft, secret.derive("journal"), {"ledger": _VERSION, "began": _now()})
    draft.rename(folder)
    sync_folder(folder.parent)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _entry(line: dict[str, Json], number: int) -> _Entry:
    try:
        charges = None if line["charges"] is None else member(line, "charges", list)
        return _Entry(
            study=str(line["study"]),
            round=member(line, "round", int),
            records=str(line["records"]),
            order=str(line["order"]),
            charges=None if charges is None else tuple(charge_from_json(c) for c in charges),
            labels=tuple(charge_from_json(c) for c in member(line, "labels", list)),
            exposed=bool(line["exposed"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise Refused(f"line {number + 1} of the ledger is of another release: {error}") from None


def _joined(case: Sequence[_Entry], more: Sequence[Charge] | None) -> tuple[Charge, ...] | None:
    parts = [*(entry.charges for entry in case), more]
    return None if any(part is None for part in parts) else tuple(c for part in parts if part for c in part)


def cost_alone(charges: Sequence[Charge] | None, budget: Budget) -> float:
    """What ``charges`` cost to one unit of ``budget`` that has spent nothing yet; infinite where nothing bounds it."""
    return _epsilon(None if charges is None else tuple(charges), budget.delta, budget.unit, budget.adjacency)


def _epsilon(
    charges: tuple[Charge, ...] | None,
    delta: float,
    unit: Unit = "example",
    adjacency: Adjacency = "add-or-remove-one",
) -> float:
    """The cost to one ``unit``; infinite where nothing bounds it."""
    if charges is None:
        return math.inf
    whole = [_of_patients(charge) for charge in charges]
    if unit == "patient":
        return privacy.epsilon(charges, delta, adjacency).epsilon if all(whole) else math.inf
    if any(whole):  # replace-one bounds what adding or removing one costs as well, so all may be counted under it
        adjacency = "replace-one"
    return privacy.epsilon([_bare(charge) for charge in charges], delta, adjacency).epsilon


def _of_patients(charge: Charge) -> bool:
    return _of_patients(charge.inner) if isinstance(charge, Composed) else isinstance(charge, PerUnit)


def _bare(charge: Charge) -> Charge:
    match charge:
        case Composed(inner, count):
            return Composed(_bare(inner), count)
        case PerUnit(_, inner):
            return inner
    return charge


def _check_kinds(charges: Sequence[Charge] | None, labels: Sequence[Charge]) -> None:
    if any(isinstance(c, RandomisedResponse) for c in charges or ()) or any(
        not isinstance(c, RandomisedResponse) for c in labels
    ):
        raise Unlawful(
            "a label charge and an example charge are never added",
            law=11,
            remedy="compose label charges and example charges separately",
        )


def _over(what: str, requested: float, total: float, spent: float, most: float) -> Refused:
    remaining = max(0.0, most - spent)
    return Refused(
        f"the study asks for epsilon {round_up(requested)}; {round_down(remaining)} of {most:g} is left for these "
        f"records (total with the study: {round_up(total)})",
        remedy="reduce the study's epsilon or its rounds, or use other records",
        where=f"budget.{what}",
    )

"""Are a study's files those that were written?  What their digests stand in, and what becomes of one that changed.

    trainings/D/*               digests in training.json, evidence and study: :mod:`.training_files`  refused by name
    models/D/recipe.json        its own seal; "sha256" of the model, "sites" of the sites' own    refused by name
    cells/D/evidence.json       its own seal; "released" as the recipe has it; a finding's scores made again
    study.json                  its own seal; every cell's seal and training's digests, so that one without is noticed

What was made again must be what was judged: nothing is sealed anew in silence.  Records from before there were seals
are read as they are, and said to be so.  A seal is no signature: see :mod:`consilium.core.seal`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict, TypeGuard

from consilium.core.errors import ConsiliumError, Failed
from consilium.core.plain import Json
from consilium.core.seal import SEAL, file_digest, is_altered, is_sealed, seal_of, sealed, unsealed
from consilium.evidence.cell import CellEvidence
from consilium.evidence.finding import FindingEvidence
from consilium.evidence.storage.read import SCHEMA, read_cell
from consilium.evidence.storage.write import plain
from consilium.study.plan.stage_keys import digest
from consilium.study.store.store import Store, read_stored, write_json

from .personalised import site_file
from .release import unbroken
from .training_files import FileSeals, check_begun, check_finished, check_renewal, left_files

__all__ = [
    "Seals",
    "StoredRecipe",
    "altered_evidence",
    "check_released",
    "is_recipe_of",
    "known_cells",
    "known_trainings",
    "other_cell",
    "recipe_of",
    "released_seals",
    "scores_hold",
    "table",
]

_STORED = ("shape", "tokens", "classes", "inputs", "sha256", "sites", "sample_answers")
_EARLIER = "Part of this evidence was written before evidence was sealed: whether that part was changed cannot be told."


class StoredRecipe(TypedDict, total=False):
    """What a recipe says of the files beside it: the digest of the model, and of each site's own one."""

    sha256: str
    sites: dict[str, str]
    sample_answers: list[list[float]]


class Seals:
    """What one run reads of the cells' evidence and writes of it.

    ``known`` are the seals that the study's record had before the run; ``cells`` those now, by digest, None for none.
    ``trainings`` are the digests of the trainings' files, by training, as far as they are known in this process.
    """

    def __init__(self, store: Store, say: Callable[[str], None], known: Mapping[str, str]) -> None:
        self.cells: dict[str, str | None] = {}
        self._earlier: set[str] = set()
        self._there: dict[str, CellEvidence] = {}
        self._store, self._say, self._known = store, say, known
        self.trainings: dict[str, FileSeals] = known_trainings(store.folder)

    def evidence(self, digest: str, template: CellEvidence) -> CellEvidence:
        """The stored evidence; what cannot be read, or was changed, is made again.

        ``template`` is evidence before anything was measured: it stands for what is not stored.
        """
        path = self._store.cell(digest) / "evidence.json"
        try:
            record = read_stored(path) or {}
            evidence = _strict(path, {**plain(template), **record})
        except ConsiliumError as error:
            self._say(f"{error.reason}: it is made again")
            return template
        if record and altered_evidence(record, self._known.get(digest)):
            self._say(f"{path} was changed after it was written: it is made again")
            return template
        if other := other_cell(record, digest):
            self._say(f"{path} is that of another cell, {other}: it is made again")
            return template
        if not record and digest in self._known:
            self._say(f"{path} is gone: it is made again")
        self.cells[digest] = seal_of(record)
        if record and not is_sealed(record):
            self._earlier.add(digest)
        if record:
            self._there[digest] = evidence
        return evidence

    def is_whole(self, digest: str) -> bool:
        """Whether the evidence that is there is as it was written, as far as its seal and the study's tell."""
        path = self._store.cell(digest) / "evidence.json"
        try:
            record = read_stored(path) or {}
        except ConsiliumError as error:
            self._say(f"{error.reason}: it is made again")
            return False
        if altered_evidence(record, self._known.get(digest)):
            self._say(f"{path} was changed after it was written: it is made again")
            return False
        return True

    def check_training(self, training: str, cells: Iterable[str], finished: bool) -> list[FileSeals]:
        """Fail where a training's files are not those that its ``cells`` and the study know; what it replaces."""
        folder, known = self._store.training(training), self.known_files(training, cells)
        if finished:
            check_finished(folder, training, known)
            self.close_training(training)
            return []
        if known and (folder / "checkpoint.safetensors").is_file():
            self._say(f"{folder / 'training.json'} is gone or was changed: it is made again")
        elif known:
            self._say(f"{folder / 'checkpoint.safetensors'} is gone: the training is run again")
        return check_begun(folder, training, known)

    def known_files(self, training: str, cells: Iterable[str]) -> list[FileSeals]:
        """The digests of a training's files that the study and the evidence of its ``cells`` have, each once."""
        known = list(filter(None, [self.trainings.get(training)]))
        for record in (self._record(cell) for cell in cells):
            seals = table(record, "trained")
            known += [seals] if seals and record.get("training") == training and seals not in known else []
        return known

    def close_training(self, training: str) -> None:
        """The training ended as it now lies there."""
        if seals := left_files(self._store.training(training)):
            self.trainings[training] = seals

    def training_files(self, training: str | None) -> FileSeals | None:
        """The digests of what a finished training left, whichever process it was finished in; None for none."""
        if training is None:
            return None
        return left_files(self._store.training(training)) or self.trainings.get(training)

    def renewed(self, evidence: CellEvidence) -> CellEvidence:
        """``evidence`` with the digests of its training, which ended as it did when the model was judged, or Failed.

        What is judged again because its answers are not there is said to be.
        """
        home = self._store.cell(evidence.cell.digest)
        if not scores_hold(home, evidence):
            path = home / Path(str(evidence.scores)).name
            self._say(f"{path} is gone or was changed after it was written: the model is judged again")
        seals = self.training_files(evidence.training)
        if not evidence.trained or seals is None or evidence.trained == seals:
            return evidence
        check_renewal(self._store.training(str(evidence.training)), evidence.trained)
        return replace(evidence, trained=seals)

    def _record(self, cell: str) -> Mapping[str, Json]:
        """The evidence of a cell as it was written; empty where there is none, or it was changed."""
        try:
            record = read_stored(self._store.cell(cell) / "evidence.json") or {}
        except ConsiliumError:
            return {}
        return {} if altered_evidence(record, self._known.get(cell)) or other_cell(record, cell) else record

    def settle(self, digest: str, evidence: CellEvidence) -> None:
        """Store ``evidence`` unless it is there already."""
        if evidence != self._there.get(digest):
            self.write(digest, evidence)

    def write(self, digest: str, evidence: CellEvidence) -> None:
        """Store ``evidence`` with its seal; a part from before there were seals is said to be one."""
        if digest in self._earlier and _EARLIER not in evidence.notes:
            evidence = replace(evidence, notes=(*evidence.notes, _EARLIER))
        record = sealed(plain(replace(evidence, schema=SCHEMA)))
        write_json(self._store.cell(digest) / "evidence.json", record)
        self.cells[digest] = seal_of(record)

    def check_model(self, digest: str, judged: Mapping[str, Any] | None, make: Callable[[], object]) -> None:
        """The model is there, as it was stored, and is the one that was ``judged``; ``make`` makes what is missing."""
        folder = self._store.model(digest)
        if not self._store.has_model(digest) or not _files_there(folder):
            make()
        check_released(folder, judged)

    def finding(self, digest: str, finding: FindingEvidence | None) -> FindingEvidence | None:
        """``finding``, or None where its scores are not those that were written: the attack is run again."""
        if finding is None or scores_hold(self._store.cell(digest), finding):
            return finding
        path = self._store.cell(digest) / Path(str(finding.scores)).name
        self._say(f"{path} is gone or was changed after it was written: the attack runs again")
        return None


def _strict(path: Path, record: Mapping[str, object]) -> CellEvidence:
    try:
        return read_cell(record, strict=True)
    except ValueError as error:
        raise Failed(f"{path} is not evidence: {error}") from error


def table(record: Mapping[str, Any], name: str) -> dict[str, Json]:
    """The table ``name`` of ``record``; empty where there is none, or something else in its place."""
    value = record.get(name)
    return value if isinstance(value, dict) else {}


def recipe_of(folder: Path) -> StoredRecipe:
    """The recipe of a stored model; empty where it cannot be read or was changed: the model is then made again."""
    try:
        recipe = read_stored(folder / "recipe.json") or {}
    except Failed:
        return {}
    return recipe if is_recipe_of(recipe, folder) and _names_files(recipe) else {}


def is_recipe_of(recipe: Mapping[str, Any], folder: Path) -> bool:
    """True where ``recipe`` is as it was written and its model is that of ``folder``, which has its digest for a name.

    What is said of the stored files is no part of the digest.
    """
    configuration = {name: value for name, value in unsealed(recipe).items() if name not in _STORED}
    return not is_altered(recipe) and digest(configuration) == folder.resolve().name


def _names_files(recipe: Mapping[str, Json]) -> TypeGuard[StoredRecipe]:
    sites = recipe.get("sites", {})
    named = isinstance(sites, dict) and all(isinstance(seal, str) for seal in sites.values())
    return named and isinstance(recipe.get("sha256", ""), str)


def released_seals(recipe: Mapping[str, Any]) -> dict[str, Json]:
    """What evidence keeps of the model that was judged: the digest of its file, and those of the sites' own."""
    return {name: recipe[name] for name in ("sha256", "sites") if name in recipe}


def _files_there(folder: Path) -> bool:
    """True where the recipe can be read and every site's own model is there."""
    recipe = recipe_of(folder)
    return "sha256" in recipe and all(site_file(folder, site).is_file() for site in table(recipe, "sites"))


def check_released(folder: Path, judged: Mapping[str, Any] | None) -> None:
    """Check a model and those of the sites: they are as they were stored, and as they were ``judged`` (if known).

    Raises Failed: the recipe is gone or was changed, or a model is not the one that was stored or judged.
    """
    recipe = recipe_of(folder)
    if not recipe:
        reason = f"{folder / 'recipe.json'} is gone, is that of another model, or was changed after it was written"
        raise Failed(reason, remedy="delete it and run again: the model is stored again")
    unbroken(folder / "model.safetensors", str(recipe.get("sha256")))
    for site, seal in table(recipe, "sites").items():
        unbroken(site_file(folder, site), str(seal))
    if judged and judged != released_seals(recipe):
        raise Failed(
            f"the model in {folder} is not the one that was judged",
            remedy="put that one back, or delete the cell's folder to judge this one",
        )


def altered_evidence(evidence: Mapping[str, Any], known: object) -> bool:
    """True where ``evidence`` does not have its seal, or another one than the study's record has: the ``known`` one."""
    return is_altered(evidence) or (isinstance(known, str) and evidence.get(SEAL) != known)


def other_cell(evidence: Mapping[str, Any], digest: str) -> str:
    """The cell that ``evidence`` is of, where that is not the one of ``digest``; empty where it is, or names none."""
    named = table(evidence, "cell").get("digest")
    return "" if named in (None, digest) else str(named)


def known_cells(study: Path) -> dict[str, str]:
    """The seals of cells in the record of the ``study``'s folder, as its last whole run left it."""
    cells = _study_record(study).get("cells")
    listed = [cell for cell in cells if isinstance(cell, dict)] if isinstance(cells, list) else []
    return {str(c.get("digest")): c[SEAL] for c in listed if isinstance(c.get(SEAL), str)}


def known_trainings(study: Path) -> dict[str, FileSeals]:
    """The digests of the trainings' files that stand there."""
    return {name: seals for name, seals in table(_study_record(study), "trainings").items() if isinstance(seals, dict)}


def _study_record(study: Path) -> Mapping[str, Json]:
    """Empty where it cannot be read or was changed."""
    try:
        record = read_stored(study / "study.json") or {}
    except Failed:
        return {}
    return {} if is_altered(record) else record


def scores_hold(folder: Path, judged: FindingEvidence | CellEvidence) -> bool:
    """True where the scores that are named there are those that were written, or nothing is known of them."""
    name, seal = judged.scores, judged.scores_sha256
    if name is None or seal is None:
        return True
    path = folder / Path(name).name
    return path.is_file() and file_digest(path) == seal

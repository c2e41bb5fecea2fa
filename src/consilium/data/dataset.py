"""A data set as a source returns it: records, the split it came with, the natural sites it came from.

Nothing is decided here: duplicates, pools and sites come later and in one place (`sites.gather`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from consilium.core.inputs import Inputs
from consilium.core.records import Omission, Records

from .words import ProvisionalVocabulary

__all__ = ["SPLITS", "TEST", "TRAIN", "VALIDATION", "Dataset"]

TRAIN, VALIDATION, TEST = 0, 1, 2
SPLITS = ("train", "validation", "test")
"""The splits by number; a higher one judges the lower ones."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Records and their source's description of them.

    split: int8 ``(n,)`` of TRAIN, VALIDATION, TEST, or None where the source has no split of its own.
    keys: int64 ``(n,)``, the natural site of each record, or None; ``key_names[k]`` names key k, where names are known.
    unit_names: those of the units (patients), likewise.
    classes: the name of each label.  provenance: which file was used, with its fingerprint.
    bundled: anyone may see these records.  fitted_on_private: ranges or category lists were read from the records; the
    notes name them.  omitted: the parts of the source that are not used unchanged, counted.
    inputs: what the numbers of an input mean; sites that are machines agree on it.
    provisional: the words of the records, where those of the public slice are still to become the vocabulary.
    cautions: further notes, which are printed before anything trains: figures may not mean what they seem to.
    """

    name: str
    records: Records
    split: Tensor | None
    keys: Tensor | None
    classes: tuple[str, ...]
    provenance: str
    bundled: bool
    notes: tuple[str, ...] = ()
    fitted_on_private: bool = False
    key_names: tuple[str, ...] = ()
    unit_names: tuple[str, ...] = ()
    omitted: tuple[Omission, ...] = ()
    inputs: Inputs = field(default_factory=Inputs)
    cautions: tuple[str, ...] = ()
    provisional: ProvisionalVocabulary | None = None

    def key_name(self, key: int) -> str:
        """What the natural site ``key`` is called."""
        return self.key_names[key] if key < len(self.key_names) else str(key)

    @property
    def names_units(self) -> bool:
        """True if the source names the patient of each record, one record each or not."""
        return self.inputs.patients or bool(self.unit_names)

    def unit_name(self, unit: int) -> str:
        """What the unit (patient) ``unit`` is called."""
        return self.unit_names[unit] if unit < len(self.unit_names) else str(unit)

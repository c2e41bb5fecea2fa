"""Your own texts: a CSV with a column of them, or a folder of .txt files for each class.

    text -> words (lower case, letters and digits) -> ids by a vocabulary -> the first ``length`` of them

Which words there are is private where it is read from private records: so the vocabulary is a public list of yours, or
that of the public slice; one that is read from all records is marked, and no claim of differential privacy can stand
on it (LAWS 9).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from consilium.core.entry import check, check_used
from consilium.core.errors import Refused
from consilium.core.inputs import MOST_TOKENS, UNKNOWN
from consilium.core.records import Omission, Records
from consilium.data.checks.gap_words import GAPS, is_spreadsheet_error
from consilium.data.checks.omissions import by_site, check_none_lost
from consilium.data.columns.spelling import check_words, check_words_apart, plain_text
from consilium.data.dataset import Dataset
from consilium.data.files.arrays import identities, numbered
from consilium.data.files.origin import expanded, given_file, stated
from consilium.data.files.vocabulary import read_vocabulary
from consilium.data.source import Source
from consilium.data.words import ProvisionalVocabulary, Vocabulary, most_frequent, words_of

from ._texts import Texts, texts_of_file, texts_of_folder

__all__ = ["Text"]

_PUBLIC, _RECORDS = "public", "records"


@dataclass(frozen=True)
class Text(Source):
    """Your own texts: a CSV (also gzipped) with the columns ``text`` and ``label``, or a folder path/<class>/*.txt.

    ``vocabulary`` is the path of a public list of words, one a line; or "public": the most frequent words of the
    public slice; or "records": those of all records, which no claim of differential privacy can stand on.  At most
    ``most_words`` of them.  The first ``length`` words of a text are read.  ``site`` and ``patient`` are columns; of a
    folder they are regular expressions with one group that finds them in a file's name.  ``classes`` names the labels
    as public constants.  ``drop_empty`` leaves out texts without a word.  Refused, by row or file: bytes that are not
    UTF-8, a text without a word, a label that is not declared.

    Source: RFC 4180; the folder layout of torchvision's ImageFolder
    """

    path: str
    """Your CSV, or the folder with one folder of .txt files for each class."""
    vocabulary: str
    """Path of a public list of words, one a line; or public (the public slice's words), or records."""
    text: str = "text"
    """The column of the texts."""
    label: str = "label"
    """The column of what is to be predicted."""
    site: str | None = None
    """The column that names the hospital; of a folder, a regular expression that finds it in a file's name."""
    patient: str | None = None
    """The column that names the patient; of a folder, a regular expression that finds it in a file's name."""
    classes: tuple[str, ...] | None = None
    """Names of the labels as public constants; left out: read from the records."""
    length: int = 64
    """Number of words that are read of a text; the rest is left out, and counted."""
    most_words: int = 20_000
    """Most words of the vocabulary, the most frequent first."""
    separator: str = ","
    """What parts the columns of a CSV."""
    drop_empty: bool = False
    """Whether texts without a word are left out, and counted; else they are refused."""
    max_bytes: int = 1_000_000_000
    """Largest file, or sum of files, that is read."""

    def __post_init__(self) -> None:
        check(1 <= self.length <= 10_000, "length", self.length, "1 to 10,000 words")
        check(1 <= self.most_words <= MOST_TOKENS - 2, "most-words", self.most_words, f"1 to {MOST_TOKENS - 2} words")
        check(len(self.separator) == 1, "separator", self.separator, "one character")
        check(self.max_bytes > 0, "max-bytes", self.max_bytes, "a number of bytes above 0")
        if self.classes is not None:
            check(len(set(self.classes)) == len(self.classes) >= 2, "classes", self.classes, "two names or more")
            check_words(self.classes, "classes", alike=True)
        roles = [name for name in (self.text, self.label, self.site, self.patient) if name is not None]
        check(len(set(roles)) == len(roles), "text", self.text, "another column for each of text, label, site, patient")

    def load(self) -> Dataset:
        """Inputs int64 ``(n, length)``; the split is that of a folder with train and test in it."""
        texts, words, omitted = self._spoken(self._read())
        vocabulary = self._vocabulary(words)
        x = vocabulary.ids(words, self.length)
        strange = (
            "no text has a word of the vocabulary, so every word is unknown: is it of another language or spelling?"
        )
        classes = self._classes(texts)
        keys, key_names = (None, ()) if self.site is None else numbered(_names(texts.sites, texts, "site"))
        units, unit_names = (None, ()) if self.patient is None else numbered(_names(texts.patients, texts, "patient"))
        declared, fitted = self.classes is not None, self.vocabulary == _RECORDS
        return Dataset(
            name=self.kind(),
            records=Records.of(x, torch.tensor([classes.index(label) for label in texts.labels]), units),
            split=None if texts.splits is None else torch.tensor(texts.splits, dtype=torch.int8),
            keys=keys,
            classes=classes,
            provenance=stated(texts.files, texts.root),
            bundled=False,
            notes=_notes(fitted, declared),
            fitted_on_private=fitted,
            cautions=() if bool((x > UNKNOWN).any()) else (strange,),
            key_names=key_names,
            unit_names=unit_names,
            omitted=(*texts.omitted, *omitted),
            inputs=vocabulary.inputs(self.length, patients=self.patient is not None, classes_declared=declared),
            provisional=ProvisionalVocabulary(vocabulary, self.most_words) if self.vocabulary == _PUBLIC else None,
        )

    def _read(self) -> Texts:
        folder = expanded(self.path).is_dir()
        for knob in ("text", "label", "separator"):
            check_used(self, knob, not folder, "the path is a folder")
        if folder:
            return texts_of_folder(self.path, self.site, self.patient, self.max_bytes)
        names = (self.text, self.label, self.site, self.patient)
        plain = tuple(None if name is None else plain_text(name) for name in names)
        return texts_of_file(given_file(self.path), plain, self.separator, self.max_bytes)

    def _spoken(self, texts: Texts) -> tuple[Texts, list[list[str]], tuple[Omission, ...]]:
        """The texts with a word in them, their words, and what is left out or cut."""
        words = [words_of(text) for text in texts.texts]
        need = len(words) * self.length * 8
        if need > self.max_bytes:
            reason = f"{len(words)} texts of {self.length} words take {need / 1e9:.1f} GB, more than max-bytes"
            raise Refused(reason, remedy="shorten length, or raise max-bytes", where="max-bytes")
        silent = [number for number, one in enumerate(words) if not one]
        if silent and not self.drop_empty:
            more = f" and {len(silent) - 1} more" if len(silent) > 1 else ""
            raise Refused(
                f"{texts.places[silent[0]]}{more} holds no word",
                remedy="set drop-empty = true to leave such texts out, or fill them in",
                where="drop-empty",
            )
        keep = [number for number, one in enumerate(words) if one]
        what = "texts without a word, left out"
        for kind, groups in (("site", texts.sites), ("class", texts.labels)):
            if groups:
                check_none_lost(what, groups, [groups[k] for k in keep], "fill in these texts", kind)
        spoken, rest = texts.select(keep), [words[k] for k in keep]
        sites, rest_sites = texts.sites or [""] * len(words), spoken.sites or [""] * len(keep)
        cut = [site for site, one in zip(rest_sites, rest, strict=True) if len(one) > self.length]
        return (
            spoken,
            rest,
            (
                *by_site(what, [sites[number] for number in silent]),
                *by_site(f"texts cut to their first {self.length} words", cut),
            ),
        )

    def _vocabulary(self, words: Sequence[Sequence[str]]) -> Vocabulary:
        if self.vocabulary not in (_PUBLIC, _RECORDS):
            return read_vocabulary(self.vocabulary, self.most_words, "vocabulary")
        counts = Counter(word for text in words for word in text[: self.length])
        most = self.most_words if self.vocabulary == _RECORDS else len(counts)
        return Vocabulary(most_frequent(counts, most), "the records")

    def _classes(self, texts: Texts) -> tuple[str, ...]:
        """The declared classes, or those of the labels; refused, by its place, a label that is none of them."""
        if self.classes is None:
            _check_known(texts)
            check_words_apart(texts.labels, range(1, len(texts.labels) + 1), self.label)
            return tuple(sorted(set(texts.labels)))
        known = tuple(map(plain_text, self.classes))
        for place, label in zip(texts.places, texts.labels, strict=True):
            if label not in known:
                raise Refused(
                    f"{place} has the label {label!r}, which is not declared", remedy="name it", where="classes"
                )
        return known


def _check_known(texts: Texts) -> None:
    """Refuse, in a file, a label that says that nothing is known: as a class it would be one that a model learns."""
    if texts.root is not None:  # the names of folders are checked where these are read
        return
    for place, label in zip(texts.places, texts.labels, strict=True):
        if label in GAPS or is_spreadsheet_error(label):
            reason = f"{place} has the label {label!r}, which programs write where nothing is known"
            raise Refused(
                reason, remedy="mend it or take its row out; if it is a class, name all in classes", where="label"
            )


def _names(values: Sequence[str], texts: Texts, where: str) -> list[str]:
    return identities(values, where, texts.places)


def _notes(fitted: bool, declared: bool) -> tuple[str, ...]:
    notes = []
    if fitted:
        notes.append("the vocabulary was read from the records: it is not public and carries no privacy charge")
    if not declared:
        notes.append("the list of classes was read from the labels; name them by classes")
    return tuple(notes)

"""A public list of words, UTF-8, one a line: what a text's words are numbered by."""

from __future__ import annotations

import unicodedata
from pathlib import Path

from consilium.core.errors import Refused
from consilium.data.words import Vocabulary, words_of

from .origin import given_file

__all__ = ["read_vocabulary"]


def read_vocabulary(name: str, most: int, where: str) -> Vocabulary:
    """The words of a public list, UTF-8, one a line.

    Raises Refused: a line that is not one word in lower case, a word twice, more than ``most``, or none.
    """
    file = given_file(name, where)
    places: dict[str, int] = {}
    for number, line in enumerate(_lines(file, where), 1):
        word = line.strip()
        if not word:
            continue
        if words_of(word) == [unicodedata.normalize("NFC", word)] != [word]:
            reason = f"line {number} of {file} is {_shown(word)} with its accents as separate characters (NFD)"
            raise Refused(reason, remedy="save the list in the Unicode form NFC, as texts are read", where=where)
        if words_of(word) != [word]:
            reason = f"line {number} of {file} is {_shown(word)}, which is read as the words {_shown(words_of(word))}"
            raise Refused(reason, remedy="write one word a line, in lower case and without punctuation", where=where)
        if word in places:
            reason = f"line {number} of {file} is {_shown(word)}, as line {places[word]} is"
            raise Refused(reason, remedy="take one of them out", where=where)
        places[word] = number
    if not places:
        raise Refused(f"{file} holds no word", remedy="write one word a line", where=where)
    if len(places) > most:
        reason = f"{file} holds {len(places)} words, more than most-words = {most}"
        raise Refused(reason, remedy="raise most-words, or shorten the list", where=where)
    return Vocabulary(tuple(places), "a list")


def _lines(file: Path, where: str) -> list[str]:
    try:
        return file.read_bytes().decode("utf-8-sig").splitlines()
    except OSError as error:
        raise Refused(
            f"{file} cannot be read: {error.strerror}", remedy="check its permissions", where=where
        ) from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise Refused(f"line {line} of {file} is not UTF-8", remedy="save it as UTF-8", where=where) from error


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "..."

"""The rule for commit messages: a subject in the imperative of at most 72 characters, and a body that says why.

``git blame`` shows the subject beside a line, for years; a body is the only place that keeps the reason.  Commits are
judged from 3dd660e on, when the rule was made, and only where git has that history: a shallow clone has not.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

__all__ = ["START", "bare_commits", "faults"]

START = "3dd660e"
LONGEST = 72
TRAILER = re.compile(r"^[A-Z][A-Za-z-]+: .+$")
ENDINGS = re.compile(r"(?<![eE])ed$|ing$|(?<![suiSUI])s$")
"""Added, Adding, Adds; but Feed, Pass, Focus."""

VERBS = {"bring", "string", "ping", "shed", "embed"}
"""Imperatives that end like other forms."""


def bare_commits(root: Path) -> list[str] | None:
    """A complaint for each fault of the commits since :data:`START`, merges aside; None where there is no history."""
    log = _git(root, "log", "--no-merges", "--format=%h%x1f%s%x1f%b%x1e", f"{START}..HEAD")
    if log is None or _git(root, "merge-base", "--is-ancestor", START, "HEAD") is None:
        return None
    complaints = []
    for entry in filter(None, (part.strip("\n") for part in log.split("\x1e"))):
        number, subject, body = entry.split("\x1f")
        complaints += [f"commit {number}: {fault}" for fault in faults(subject, body)]
    return complaints


def faults(subject: str, body: str) -> Iterator[str]:
    """What is wrong with one message; nothing, where it keeps the rule."""
    if len(subject) > LONGEST:
        yield f"its subject has {len(subject)} characters; {LONGEST} may be"
    first = subject.partition(" ")[0]
    if not first[:1].isupper() or subject.endswith("."):
        yield f"{subject!r} does not begin with a capital letter, or ends with a full stop"
    elif ENDINGS.search(first) and first.lower() not in VERBS:
        yield f"{subject!r} does not begin with an imperative: write what the commit does, as an order"
    if not any(line.strip() and not TRAILER.match(line) for line in body.splitlines()):
        yield f"{subject!r} has no body; say why"


def _git(root: Path, *words: str) -> str | None:
    try:
        return subprocess.run(["git", "-C", str(root), *words], capture_output=True, check=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None

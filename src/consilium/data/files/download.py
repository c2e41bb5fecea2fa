"""Fetching one file: shown while it runs, checked by its digest, never left half written.

The bytes go to a temporary file beside the target, which takes the target's name only once the digest is right.
"""

from __future__ import annotations

import hashlib
import http.client
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from consilium.core.errors import Refused

__all__ = ["download"]

_CHUNK = 1 << 16
_TIMEOUT = 30.0


def download(url: str, target: Path, md5: str) -> None:
    """Put the file at ``url`` at ``target``; refused without network or room, or where its md5 is another.

    Raises Refused: the file cannot be fetched, or has another md5.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetching-") as folder:
            part = Path(folder) / target.name
            digest = _fetch(url, part)
            if digest != md5:
                raise Refused(f"{url} gave a file with md5 {digest}, not {md5}", remedy=_by_hand(url, target))
            part.replace(target)
    except urllib.error.HTTPError as error:
        error.close()
        raise Refused(f"{url} answered {error.code} {error.reason}", remedy=_by_hand(url, target)) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise Refused(f"{url} could not be fetched: {reason}", remedy=_by_hand(url, target)) from error


def _fetch(url: str, part: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with (
        urllib.request.urlopen(url, timeout=_TIMEOUT) as answer,
        part.open("wb") as file,
        Progress(*columns, console=Console(stderr=True), transient=True) as progress,
    ):
        length = answer.headers.get("Content-Length")
        task = progress.add_task(part.name, total=int(length) if length else None)
        while chunk := answer.read(_CHUNK):
            digest.update(chunk)
            file.write(chunk)
            progress.advance(task, len(chunk))
    return digest.hexdigest()


def _by_hand(url: str, target: Path) -> str:
    return f"fetch {url} by hand and put it at {target}, or name it by path"

"""What sites keep between rounds, held in memory or, for many sites, one file each.

    FOLDER/site-7.12.safetensors    the state of site-7 since round 12

A round's files become valid with that round's checkpoint and not before: of each site the newest file that is no newer
than the checkpoint counts, so a kill at any moment leaves the states of the last finished round.  A state is written
when it changes and read when its site takes part; the operating system's page cache is the only cache.

A site has two files at most while training: what the last checkpoint replaced is renamed and written over in place, as
removing files is what costs most on disks that discard; and a round's files are synchronised together.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import unquote

from safetensors.torch import save
from torch import Tensor

from consilium.core.algorithm import AlgorithmState
from consilium.core.errors import Failed, Refused
from consilium.core.files import opened_to_fill
from consilium.core.plain import Json, member
from consilium.core.sealed_tensors import about_sealed, read_sealed

from .charges_paid import charge_from_json, charge_to_json
from .participant import SiteState

__all__ = ["SiteStates", "packed", "unpacked"]

_SITES = 500
_BYTES = 64 * 2**20
"""States stay in memory, and in the checkpoint, for at most so many sites and so many bytes of parameters."""
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_")
_LONGEST = 200
_AT_ONCE = 16
"""Files that are synchronised at once: a journal commits many in the time of one."""


class SiteStates(MutableMapping[str, SiteState]):
    """States by site; with a ``folder`` they are stored there, as of the checkpoint of ``round``, else in memory.

    ``training`` names what they are states of: a file of another training, site or round is refused.
    """

    def __init__(self, folder: Path | None = None, round: int = 0, device: str = "cpu", training: str = "") -> None:
        self.folder, self.device, self.round, self.training = folder, device, round, training
        self._memory: dict[str, SiteState] = {}
        self._newest: dict[str, int] = {} if folder is None else dict(self._state_files(folder))
        self._before: dict[str, SiteState | int | None] = {}
        self._spare: dict[str, int] = {}

    @classmethod
    def fit(cls, folder: Path, sites: int, size: int, device: str = "cpu", training: str = "") -> SiteStates:
        """Fresh states of ``sites`` sites with up to ``size`` bytes each: in memory while few and small."""
        return cls(folder if sites > _SITES or sites * size > _BYTES else None, 0, device, training)

    def __getitem__(self, site: str) -> SiteState:
        return self._memory[site] if self.folder is None else self._read(site, self._newest[site])

    def __setitem__(self, site: str, state: SiteState) -> None:
        if self.folder is None:
            self._before.setdefault(site, self._memory.get(site))
            self._memory[site] = state
            return
        if site not in self._newest and not (state.algorithm.tensors or state.ledger or state.defences or state.rule):
            return  # as a fresh one
        self._before.setdefault(site, self._newest.get(site))
        self._write(site, state)
        self._newest[site] = self.round + 1

    def __delitem__(self, site: str) -> None:
        raise Failed(f"the state of {site} holds its ledger, which is never deleted")

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._memory if self.folder is None else self._newest))

    def __len__(self) -> int:
        return len(self._memory if self.folder is None else self._newest)

    def __contains__(self, site: object) -> bool:
        return site in (self._memory if self.folder is None else self._newest)

    def __copy__(self) -> SiteStates:
        """These states as they are now: read from the same files, which stay until the coming checkpoint counts."""
        twin = SiteStates(None, self.round, self.device, self.training)
        twin.folder, twin._memory, twin._newest = self.folder, dict(self._memory), dict(self._newest)
        return twin

    def roll_back(self, sites: Iterable[str]) -> None:
        """Restore the states of ``sites`` to the start of the round; their ledgers keep what the round cost.

        The state of their gradient rules is kept too: the noise of a lost update was sent, and correlated noise goes on
        from it.
        """
        for site in sites:
            if site in self._before:
                old = self._before[site]
                was = SiteState() if old is None else self._read(site, old) if isinstance(old, int) else old
                self[site] = SiteState(was.algorithm, self[site].ledger, was.defences, self[site].rule)

    def flush(self) -> None:
        """Before the checkpoint: what this round wrote is on the disk and not only on its way there."""
        if self.folder is None or not self._before:
            return
        paths = [self.folder, *(self._path(site, self._newest[site]) for site in self._before)]
        try:
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                list(pool.map(_synchronise, paths))
        except OSError as error:
            raise _unwritten(self.folder, error) from error

    def settle(self, round: int) -> None:
        """The checkpoint of ``round`` is in place: the files that its round replaced may be written over."""
        self._spare |= {
            site: old for site, old in self._before.items() if isinstance(old, int) and old != self._newest[site]
        }
        self._before, self.round = {}, round

    def clean(self) -> None:
        """Remove what is not a state: files newer than the checkpoint, as a killed run leaves, and those replaced."""
        self._spare = {}
        if self.folder is None or not self.folder.is_dir():
            return
        for path in self.folder.iterdir():
            named = _site_and_round(path)
            if named is None or self._newest.get(named[0]) != named[1]:
                path.unlink(missing_ok=True)

    def _state_files(self, folder: Path) -> Iterator[tuple[str, int]]:
        """Each site and the newest round that counts, ascending, so that the last one is the newest."""
        named = [_site_and_round(path) for path in (folder.iterdir() if folder.is_dir() else ())]
        yield from sorted((n for n in named if n is not None and n[1] <= self.round), key=lambda n: n[1])

    def _path(self, site: str, round: int) -> Path:
        assert self.folder is not None
        return self.folder / f"{_quoted(site)}.{round}.safetensors"

    def _write(self, site: str, state: SiteState) -> None:
        """In place, where the site has a file that no longer counts: a file cut short by a kill counts neither."""
        tensors, about = packed(state)
        alone = _alone(tensors)
        data = save(alone, about_sealed(alone, {**self._expected(site, self.round + 1), **about}))
        path = self._path(site, self.round + 1)
        spare = self._spare.pop(site, None)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if spare is not None:
                self._path(site, spare).rename(path)
            with opened_to_fill(path) as file:
                file.write(data)
                file.truncate()
        except OSError as error:
            raise _unwritten(path, error) from error

    def _read(self, site: str, round: int) -> SiteState:
        path, remedy = self._path(site, round), "delete the training to train again"
        tensors, about = read_sealed(path, "state", remedy, self._expected(site, round), self.device)
        try:
            return unpacked(tensors, about)
        except (KeyError, TypeError, ValueError) as error:
            raise Failed(f"state {path} is not readable: {error}", remedy=remedy) from error

    def _expected(self, site: str, round: int) -> dict[str, Json]:
        return {"site": site, "round": round, "training": self.training}


def _alone(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each tensor in memory of its own, as safetensors requires: a view of a larger one is copied."""
    plain = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    return {
        name: t if t.untyped_storage().nbytes() == t.numel() * t.element_size() else t.clone()
        for name, t in plain.items()
    }


def _synchronise(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _unwritten(path: Path, error: OSError) -> Failed:
    return Failed(f"cannot write {path}: {error}", remedy="free disk space and run again; nothing finished is lost")


def packed(state: SiteState) -> tuple[dict[str, Tensor], dict[str, Json]]:
    """A state as named tensors and plain JSON."""
    tensors = {f"kept/{name}": tensor for name, tensor in state.algorithm.tensors.items()}
    for kind, memory in state.defences.items():
        tensors |= {f"defences/{kind}/{name}": tensor for name, tensor in memory.items()}
    tensors |= {f"rule/{name}": tensor for name, tensor in state.rule.items()}
    return tensors, {"ledger": [charge_to_json(c) for c in state.ledger], "defences": list(state.defences)}


def unpacked(tensors: Mapping[str, Tensor], about: Mapping[str, Json]) -> SiteState:
    """The state that :func:`packed` took apart."""
    return SiteState(
        AlgorithmState(_under(tensors, "kept/")),
        tuple(charge_from_json(c) for c in member(about, "ledger", list)),
        {kind: _under(tensors, f"defences/{kind}/") for kind in member(about, "defences", list)},
        _under(tensors, "rule/"),
    )


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def _quoted(site: str) -> str:
    """A site as part of a file's name: small letters and digits as they are, all else as %XX, so none meet."""
    name = "".join(c if c in _PLAIN else "".join(f"%{byte:02X}" for byte in c.encode()) for c in site)
    if len(name) > _LONGEST:
        raise Refused(f"the site {site[:40]}... has too long a name for a file", remedy="use shorter names for sites")
    return name


def _site_and_round(path: Path) -> tuple[str, int] | None:
    """Site and round in the name of a file of states; None for any other file."""
    parts = path.name.rsplit(".", 2)
    if len(parts) != 3 or parts[2] != "safetensors" or not parts[1].isdecimal():
        return None
    return unquote(parts[0]), int(parts[1])

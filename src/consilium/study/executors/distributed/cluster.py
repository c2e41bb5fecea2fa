"""Workers of a Dask cluster, found by the address of its scheduler.

Dask runs a task again whose worker is silent; the stage's lease sees to it that two do not write at once.

Source: Dask.distributed, `Client.get_executor`
"""

from __future__ import annotations

from importlib.util import find_spec

from consilium.core.errors import MissingExtra, Refused
from consilium.study.executors.perform import Prepared

from .foreign import Foreign

__all__ = ["cluster_executor"]


def cluster_executor(address: str, workers: int, prepared: Prepared) -> Foreign:
    """The cluster at ``address`` (``tcp://host:8786``), ``workers`` stages at once (0: one for each of its threads).

    Raises MissingExtra: the extra ``cluster`` is not installed.
    Raises Refused: no scheduler answers at ``address``, or it has no workers.
    """
    if find_spec("distributed") is None:
        raise MissingExtra("distributed is not installed", remedy='pip install "consilium[cluster]"', where="executor")
    from distributed import Client

    try:
        client = Client(address, timeout=30, set_as_default=False)
    except (OSError, ValueError) as error:
        reason = f"no Dask scheduler answers at {address!r}: {error}"
        raise Refused(reason, remedy="give dask:tcp://HOST:PORT", where="executor") from error
    threads = sum(client.nthreads().values())
    if not threads:
        raise Refused(f"the Dask cluster at {address} has no workers", remedy="start some", where="executor")
    return Foreign(prepared, client.get_executor(pure=False, retries=1), workers or threads, close=client.close)

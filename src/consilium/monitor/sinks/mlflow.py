"""MLflow: one run for each training and each cell, in a local database, OUT/<study>/mlflow/mlflow.db.

No server is contacted: the store is a file that is named here, whatever the environment sets, and MLflow's telemetry is
off before it is imported.  It keeps every point, so a resumed series starts after its last one.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .scalars import LAST
from .sink import Curve, Sink

__all__ = ["MLflow"]

_OWN = "consilium.digest"
_LONGEST = 500
_BATCH = 1000
_NO_FILES = "mlflow-artifacts:/"
"""Where a run's files would be, if there were any: no path of this machine."""


class MLflow(Sink):
    """Logs metrics; ``mlflow ui --backend-store-uri sqlite:///OUT/<study>/mlflow/mlflow.db`` shows them."""

    kind = "mlflow"

    def __init__(self, folder: Path, study: str) -> None:
        here = (folder / "mlflow").resolve()
        here.mkdir(parents=True, exist_ok=True)
        self._mlflow = _loaded()
        self._client = self._mlflow.MlflowClient(tracking_uri=f"sqlite:///{here / 'mlflow.db'}")
        experiment = self._client.get_experiment_by_name(study)
        identifier = experiment.experiment_id if experiment else self._client.create_experiment(study, _NO_FILES)
        self._experiment: str = identifier
        self._run, self._open = "", False

    def begin(self, curve: Curve, done: int) -> int:
        """The run of ``curve``; one that went further than the training is has other rounds, and is replaced."""
        run = self._find(curve)
        last = 0 if run is None else self._last(run)
        if run is not None and last > done:
            self._client.delete_run(run)
            run, last = None, 0
        self._run = run or self._make(curve)
        self._open = last < done or self._client.get_run(self._run).info.status != "FINISHED"
        return last

    def write(self, number: int, values: Mapping[str, float], at: float) -> None:
        """One batch for a round: it is stored whole or not at all."""
        if not self._open:
            self._client.update_run(self._run, status="RUNNING")
        self._open = True
        self._log(self._run, values, number, at)

    def end(self, finished: bool) -> None:
        """Record how the run ended."""
        if self._open:
            self._client.set_terminated(self._run, "FINISHED" if finished else "KILLED")
        self._run, self._open = "", False

    def final(self, cell: Curve, values: Mapping[str, float]) -> None:
        """Only what is not there as it is."""
        run = self._find(cell) or self._make(cell)
        recorded = self._client.get_run(run).data.metrics
        new = {name: value for name, value in values.items() if recorded.get(name) != value}
        if new:
            self._log(run, new, 0, time.time())
            self._client.set_terminated(run)

    def close(self) -> None:
        """A run that is open was stopped."""
        self.end(False)

    def _log(self, run: str, values: Mapping[str, float], step: int, at: float) -> None:
        metrics = [self._mlflow.entities.Metric(name, value, int(at * 1000), step) for name, value in values.items()]
        for first in range(0, len(metrics), _BATCH):
            self._client.log_batch(run, metrics=metrics[first : first + _BATCH])

    def _find(self, curve: Curve) -> str | None:
        wanted = f"tags.`{_OWN}` = '{curve.digest}'"
        runs: list[Any] = list(self._client.search_runs([self._experiment], wanted, max_results=1))
        return runs[0].info.run_id if runs else None

    def _make(self, curve: Curve) -> str:
        run: str = self._client.create_run(self._experiment, run_name=curve.label).info.run_id
        kinds = self._mlflow.entities
        facts = [kinds.Param(name, value[:_LONGEST]) for name, value in curve.facts.items()]
        self._client.log_batch(run, params=facts, tags=[kinds.RunTag(_OWN, curve.digest)])
        return run

    def _last(self, run: str) -> int:
        return max((metric.step for metric in self._client.get_metric_history(run, LAST)), default=0)


def _loaded() -> Any:
    """The package, with its telemetry off and its chatter down; both are read when it is imported."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["DO_NOT_TRACK"] = "true"
    import mlflow

    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return mlflow

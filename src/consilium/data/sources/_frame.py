"""A table file -> a frame without gaps, read by pandas (an optional extra)."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from consilium.core.errors import MissingExtra, Refused

__all__ = ["complete", "read_table"]

_PARQUET = (".parquet", ".pq")


def read_table(file: Path, columns: tuple[str, ...] | None, missing: tuple[str, ...]) -> Any:
    """The table in ``file`` as a pandas frame; ``columns`` name those of a CSV without a header."""
    try:
        import pandas as pd
    except ImportError as error:
        raise MissingExtra("table needs pandas", remedy="pip install consilium[tables]") from error
    try:
        if file.suffix.lower() in _PARQUET:
            frame = pd.read_parquet(file)
            return frame.replace(list(missing), np.nan) if missing else frame
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(
                file,
                header=0 if columns is None else None,
                names=None if columns is None else list(columns),
                index_col=False,
                na_values=list(missing),
                skipinitialspace=True,
                low_memory=False,
            )
    except Exception as error:  # whatever pandas makes of bytes that nobody vouches for
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Refused(f"{file} cannot be read as a table: {reason}", remedy="give CSV (UTF-8) or Parquet") from error


def complete(frame: Any, drop_missing: bool) -> Any:
    """``frame`` without gaps: refused, or the rows left out where that was asked for."""
    gaps = frame.isna().sum()
    if gaps.any() and not drop_missing:
        named = ", ".join(f"{name!r} ({count})" for name, count in gaps[gaps > 0].items())
        raise Refused(
            f"values are missing in {named}",
            remedy="set drop-missing = true to leave those rows out, drop the columns, or fill them in",
            where="drop-missing",
        )
    kept = frame.dropna()
    if kept.empty:
        raise Refused("no complete row is left", remedy="drop the columns with gaps", where="drop-missing")
    return kept

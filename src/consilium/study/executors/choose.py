"""From the word for an executor to the executor."""

from __future__ import annotations

from .perform import Prepared
from .port import StageExecutor
from .serial import Serial

__all__ = ["executor_for"]


def executor_for(word: str, workers: int, prepared: Prepared) -> StageExecutor:
    """Who does the stages of ``prepared``."""
    return Serial()

"""Loaders of models that misbehave, for the process that scores in shadow."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

NAMES = ("count", "amount")
"""What the models want: another order than :data:`tests.support.log.logged.PLAN` logs."""


def _model(score: Callable[[Any], Any], names: tuple[str, ...] = NAMES) -> Any:
    return SimpleNamespace(
        plan=SimpleNamespace(names=names),
        threshold=SimpleNamespace(value=0.5),
        score=lambda rows: SimpleNamespace(raw=score(rows), calibrated=score(rows).astype(np.float64), cuts=None),
        decide=lambda calibrated, cuts: calibrated >= 0.5,
    )


def sound(folder: Path, digest: str) -> Any:
    """Scores an amount of n as n / 100."""
    assert len(digest) == 64
    return _model(lambda rows: rows[:, 1] / np.float32(100))


def wants_more(folder: Path, digest: str) -> Any:
    """Wants a feature that is not logged."""
    return _model(lambda rows: rows[:, 0], ("count", "night"))


def gives_nan(folder: Path, digest: str) -> Any:
    """Gives NaN for odd amounts."""
    return _model(lambda rows: np.where(rows[:, 1] % 2 == 1, np.float32("nan"), np.float32(0.25)))


def raises(folder: Path, digest: str) -> Any:
    """Raises with data in its text."""

    def score(rows: Any) -> Any:
        raise ZeroDivisionError(f"secret {rows}")

    return _model(score)


def sleeps(folder: Path, digest: str) -> Any:
    """Takes its time."""

    def score(rows: Any) -> Any:
        time.sleep(60)
        return rows[:, 0]

    return _model(score)


def crashes(folder: Path, digest: str) -> Any:
    """Ends the process as a fault in native code does."""

    def score(rows: Any) -> Any:
        os.kill(os.getpid(), signal.SIGSEGV)
        return rows[:, 0]

    return _model(score)


def short(folder: Path, digest: str) -> Any:
    """Forgets a row."""
    return _model(lambda rows: np.full(len(rows) - 1, np.float32(0.5)))


def cannot_load(folder: Path, digest: str) -> Any:
    """Fails before it scores anything."""
    raise ValueError("secret")

"""The port behind which the library that fits and predicts lies: what a model asks of its booster.

An adapter is one class in a module beside this one, and a row of :data:`bentos.model.booster_adapters.ADAPTERS`;
:class:`bentos.model.xgboost_booster.XGBoostBooster` is the first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]
"""Rows of features, or scores, as the booster reads and gives them."""
Predict = Callable[[Matrix], Matrix]
"""Float32 rows in C order to raw scores (one a row) or contributions (one a feature, then the bias)."""


class Booster(Protocol):
    """A fitted model of one library, which predicts with one thread unless told otherwise."""

    kind: ClassVar[str]
    """Its name in :data:`bentos.model.booster_adapters.ADAPTERS` and in a version's contract."""
    mlflow_flavor: ClassVar[str]
    """Module of ``mlflow`` that stores and loads the library's own object."""
    mlflow_options: ClassVar[Mapping[str, Any]]
    """What that module's ``save_model`` is told besides the object."""

    @property
    def native(self) -> Any:
        """The library's own object."""
        ...

    def predict(self, rows: Matrix) -> Matrix:
        """Return the raw score of each row, float32 in 0..1."""
        ...

    def contributions(self, rows: Matrix) -> Matrix:
        """Return what each feature adds to the log odds of each row, and the bias in the last column, float32."""
        ...

    def quick_predict(self, known: Matrix) -> Predict:
        """Return the fastest function that gives the very bits of :meth:`predict`, proven on ``known`` rows."""
        ...

    def quick_contributions(self, known: Matrix) -> Predict:
        """Return the fastest function that gives the very bits of :meth:`contributions`, proven on ``known`` rows."""
        ...

    def importance(self, names: Sequence[str]) -> Mapping[str, float]:
        """Return the total gain of each feature that is used, by name; ``names`` are the columns in order."""
        ...

    def use_threads(self, count: int) -> None:
        """Predict with this many threads."""
        ...

    def save(self) -> bytes:
        """Return the stored form; the same booster gives the same bytes."""
        ...

    @classmethod
    def load(cls, data: bytes) -> Self:
        """Read what :meth:`save` gave.

        Raises:
            ValueError: the bytes are no model of this library.
        """
        ...

    @staticmethod
    def requirement() -> str:
        """Return the library that reads the stored form, as a requirement: ``xgboost==3.2.0``."""
        ...

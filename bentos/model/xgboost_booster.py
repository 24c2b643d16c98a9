"""XGBoost behind the booster port: the only module of a serving process that imports the library.

The quick functions predict with one C call: what ``Booster.inplace_predict`` does, without 100 us of Python around
it. XGBoost's own method builds configuration, array descriptions and result types anew for each call. On the serving
path a batch is a few rows, and that costs more than the trees. The call here is the same public C function
(``XGBoosterPredictFromDense``); the Python handle of the library is not public, so a predictor proves itself on known
rows first, and where anything differs XGBoost's own method is used.
"""

from __future__ import annotations

import ctypes
import json
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

import numpy as np

from bentos.model.booster import Matrix, Predict

if TYPE_CHECKING:
    from xgboost import Booster

log = logging.getLogger("incumbent.model")

_CONFIG: Final = json.dumps(
    {
        "type": 0,
        "training": False,
        "iteration_begin": 0,
        "iteration_end": 0,
        "missing": float("nan"),
        "strict_shape": False,
        "cache_id": 0,
    }
).encode()


class XGBoostBooster:
    """A fitted ``xgboost.Booster``; see :class:`bentos.model.booster.Booster`."""

    kind: ClassVar[str] = "xgboost"
    mlflow_flavor: ClassVar[str] = "xgboost"
    mlflow_options: ClassVar[Mapping[str, Any]] = {"model_format": "ubj"}

    def __init__(self, native: Booster) -> None:
        self.native = native
        # The serving path scores one row or a small batch: threads only add waiting.
        self.use_threads(1)

    def predict(self, rows: Matrix) -> Matrix:
        """Return the raw score of each row, float32 in 0..1."""
        if not len(rows):
            return np.empty(0, dtype=np.float32)
        return np.asarray(self.native.inplace_predict(rows, validate_features=False), dtype=np.float32)

    def contributions(self, rows: Matrix) -> Matrix:
        """Return the TreeSHAP contribution (log odds) of each feature to each row, then the bias; float32."""
        import xgboost

        data = xgboost.DMatrix(rows, nthread=1)
        return np.asarray(self.native.predict(data, pred_contribs=True, validate_features=False), dtype=np.float32)

    def quick_predict(self, known: Matrix) -> Predict:
        """Return :meth:`predict` as one C call where it gives the very bits on ``known`` rows, else the method."""
        return _proven(lambda: _direct(self.native), self.predict, known, "scores")

    def quick_contributions(self, known: Matrix) -> Predict:
        """Return :meth:`contributions` without the Python around it, proven on ``known`` rows.

        One row of 200 trees of depth 6 takes 0.75 ms here and 1.0 ms through XGBoost's own method; nearly all of the
        rest is TreeSHAP itself.
        """
        return _proven(lambda: _direct_contributions(self.native), self.contributions, known, "contributions")

    def importance(self, names: Sequence[str]) -> Mapping[str, float]:
        """Return the total gain of each feature that a tree asks about, by name."""
        gains: dict[str, float] = self.native.get_score(importance_type="total_gain")
        unnamed = {f"f{place}": name for place, name in enumerate(names)} if self.native.feature_names is None else {}
        return {unnamed.get(name, name): gain for name, gain in gains.items()}

    def use_threads(self, count: int) -> None:
        """Predict with this many threads."""
        self.native.set_param({"nthread": count})

    def save(self) -> bytes:
        """Return the booster in XGBoost's UBJ format."""
        return bytes(self.native.save_raw(raw_format="ubj"))

    @classmethod
    def load(cls, data: bytes) -> Self:
        """Read a booster in UBJ or JSON.

        Raises:
            ValueError: the bytes are neither.
        """
        import xgboost

        native = xgboost.Booster()
        try:
            native.load_model(bytearray(data))
        except xgboost.core.XGBoostError as exc:
            raise ValueError("the bytes are no XGBoost model") from exc
        return cls(native)

    @staticmethod
    def requirement() -> str:
        """Return the library as a requirement: ``xgboost==3.2.0``."""
        import xgboost

        return f"xgboost=={xgboost.__version__}"


def import_lean_xgboost() -> None:
    """Import XGBoost as if scikit-learn were not installed.

    ``import xgboost`` takes scikit-learn, scipy.stats and pandas with it where they are installed: four fifths of its
    time and 130 MB, for estimator classes that no serving process uses. The image has no scikit-learn at all, so this
    is also what runs there.

    For the entry of a process that loads models and trains none: ``xgboost.XGBClassifier`` cannot be used in it.
    """
    if "xgboost" in sys.modules or "sklearn" in sys.modules:
        return
    sys.modules["sklearn"] = None  # type: ignore[assignment]  # Python's own way to say that there is no such module
    try:
        import xgboost  # noqa: F401  # for its effect
    finally:
        del sys.modules["sklearn"]


def _proven(make: Callable[[], Predict], slow: Predict, known: Matrix, what: str) -> Predict:
    """The direct call that ``make`` gives where it has the very bits of ``slow`` on the known rows, else ``slow``."""
    try:
        fast = make()
        same = all(np.array_equal(fast(part), slow(part)) for part in (known, known[:1]) if len(part))
    except (AttributeError, ImportError, OSError, RuntimeError, TypeError, ctypes.ArgumentError) as exc:
        log.warning("the direct call into XGBoost for %s is not there (%s)", what, type(exc).__name__)
        return slow
    if not same:
        log.warning("the direct call into XGBoost gives other %s; its own method is used", what)
        return slow
    return fast


def _direct_contributions(booster: Booster) -> Predict:
    from xgboost.core import _LIB

    library: Any = _LIB
    handle = booster.handle
    settings = json.dumps(
        {"type": 2, "training": False, "iteration_begin": 0, "iteration_end": 0, "strict_shape": False}
    ).encode()
    shape, dimensions = ctypes.POINTER(ctypes.c_uint64)(), ctypes.c_uint64()
    result = ctypes.POINTER(ctypes.c_float)()
    places = ctypes.byref(shape), ctypes.byref(dimensions), ctypes.byref(result)

    def contributions(rows: Matrix) -> Matrix:
        count, width = rows.shape
        data = ctypes.c_void_p()
        if library.XGDMatrixCreateFromDense(_described(rows), b'{"missing":NaN,"nthread":1}', ctypes.byref(data)) != 0:
            raise RuntimeError("XGBoost refused the rows")
        try:
            if library.XGBoosterPredictFromDMatrix(handle, data, settings, *places) != 0:
                raise RuntimeError("XGBoost refused to explain the rows")
            if dimensions.value != 2 or (shape[0], shape[1]) != (count, width + 1):
                raise RuntimeError("XGBoost gave contributions of another shape")
            found = np.empty((count, width + 1), dtype=np.float32)
            ctypes.memmove(found.ctypes.data, result, found.nbytes)
        finally:
            library.XGDMatrixFree(data)
        return found

    # The booster must outlive its handle.
    contributions.booster = booster  # type: ignore[attr-defined]  # a function takes attributes
    return contributions


def _described(rows: Matrix) -> bytes:
    """The rows in the words of the array interface; they must outlive the call."""
    if rows.dtype != np.float32 or not rows.flags.c_contiguous:
        raise TypeError("rows must be float32 in C order")
    return b'{"data":[%d,true],"shape":[%d,%d],"typestr":"<f4","version":3}' % (rows.ctypes.data, *rows.shape)


def _direct(booster: Booster) -> Predict:
    from xgboost.core import _LIB

    call: Any = _LIB.XGBoosterPredictFromDense
    handle = booster.handle
    shape = ctypes.POINTER(ctypes.c_uint64)()
    dimensions = ctypes.c_uint64()
    result = ctypes.POINTER(ctypes.c_float)()
    places = ctypes.byref(shape), ctypes.byref(dimensions), ctypes.byref(result)

    def predict(rows: Matrix) -> Matrix:
        count = len(rows)
        if call(handle, _described(rows), _CONFIG, None, *places) != 0:
            raise RuntimeError("XGBoost refused the rows")
        if dimensions.value != 1 or shape[0] != count:
            raise RuntimeError("XGBoost gave scores of another shape")
        # The library's buffer belongs to this thread and is overwritten by its next call.
        scores = np.empty(count, dtype=np.float32)
        ctypes.memmove(scores.ctypes.data, result, scores.nbytes)
        return scores

    # The booster must outlive its handle.
    predict.booster = booster  # type: ignore[attr-defined]  # a function takes attributes
    return predict

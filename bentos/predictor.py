"""Predict with one C call: what ``Booster.inplace_predict`` does, without 100 us of Python around it.

XGBoost's own method builds configuration, array descriptions and result types anew for each call. On
the serving path a batch is a few rows, and that costs more than the trees. The call here is the same
public C function (``XGBoosterPredictFromDense``); the Python handle of the library is not public, so
a predictor proves itself on known rows first, and where anything differs XGBoost's own method is used.
"""

from __future__ import annotations

import ctypes
import json
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bentos.contract import Matrix

if TYPE_CHECKING:
    from xgboost import Booster

log = logging.getLogger("incumbent.model")

Predict = Callable[[Matrix], Matrix]
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


def fast_predict(booster: Booster, known: Matrix) -> Predict:
    """A function from float32 rows (C order) to raw float32 scores.

    Args:
        booster: predicts with one thread; it must live as long as the function.
        known: rows on which the short way must give the very bits of the long one.
    """

    def slow(rows: Matrix) -> Matrix:
        return np.asarray(booster.inplace_predict(rows, validate_features=False), dtype=np.float32)

    try:
        fast = _direct(booster)
        proven = all(np.array_equal(fast(part), slow(part)) for part in (known, known[:1]) if len(part))
    except (AttributeError, ImportError, OSError, RuntimeError, TypeError, ctypes.ArgumentError) as exc:
        log.warning("the direct call into XGBoost is not there (%s); its own method is used", type(exc).__name__)
        return slow
    if not proven:
        log.warning("the direct call into XGBoost gives other scores; its own method is used")
        return slow
    return fast


def _direct(booster: Booster) -> Predict:
    from xgboost.core import _LIB

    call: Any = _LIB.XGBoosterPredictFromDense
    handle = booster.handle
    shape = ctypes.POINTER(ctypes.c_uint64)()
    dimensions = ctypes.c_uint64()
    result = ctypes.POINTER(ctypes.c_float)()
    places = ctypes.byref(shape), ctypes.byref(dimensions), ctypes.byref(result)

    def predict(rows: Matrix) -> Matrix:
        count, width = rows.shape
        if rows.dtype != np.float32 or not rows.flags.c_contiguous:
            raise TypeError("rows must be float32 in C order")
        described = b'{"data":[%d,true],"shape":[%d,%d],"typestr":"<f4","version":3}' % (rows.ctypes.data, count, width)
        if call(handle, described, _CONFIG, None, *places) != 0:
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

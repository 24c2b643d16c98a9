"""XGBoost without scikit-learn, for processes that only predict.

``import xgboost`` takes scikit-learn, scipy.stats and pandas with it where they are installed: four fifths of its
time and 130 MB, for estimator classes that no serving process uses. The image has no scikit-learn at all, so this is
also what runs there.
"""

from __future__ import annotations

import sys


def import_lean_xgboost() -> None:
    """Import XGBoost as if scikit-learn were not installed.

    For the entry of a process that loads models and trains none: ``xgboost.XGBClassifier`` cannot be used in it.
    """
    if "xgboost" in sys.modules or "sklearn" in sys.modules:
        return
    sys.modules["sklearn"] = None  # type: ignore[assignment]  # Python's own way to say that there is no such module
    try:
        import xgboost  # noqa: F401  # for its effect
    finally:
        del sys.modules["sklearn"]

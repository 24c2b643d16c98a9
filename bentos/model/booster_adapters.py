"""The table of boosters: a new library is one adapter (:class:`bentos.model.booster.Booster`) and one row here."""

from __future__ import annotations

from typing import Final

from bentos.errors import ModelCorrupt
from bentos.model.booster import Booster
from bentos.model.xgboost_booster import XGBoostBooster

DEFAULT: Final = XGBoostBooster
"""Adapter of versions whose contract names none."""
ADAPTERS: Final[dict[str, type[Booster]]] = {XGBoostBooster.kind: XGBoostBooster}
"""Name in a version's contract to adapter."""


def load_booster(kind: str, data: bytes) -> Booster:
    """Read the stored booster of a version.

    Args:
        kind: the adapter that its contract names.
        data: content of ``model.ubj``.

    Raises:
        ModelCorrupt: this installation has no such adapter, or the bytes are no model of its library.
    """
    if kind not in ADAPTERS:
        known = ", ".join(sorted(ADAPTERS))
        raise ModelCorrupt(f"the model was made by booster {kind!r}; this installation reads {known}")
    try:
        return ADAPTERS[kind].load(data)
    except ValueError as exc:
        raise ModelCorrupt(f"model.ubj: {exc}") from exc

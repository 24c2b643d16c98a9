"""The fraud case with columns that a look-up table by customer fills."""

from __future__ import annotations

from datetime import UTC, datetime
from types import MappingProxyType

import numpy as np
import pandas as pd

START = datetime(2025, 12, 1, tzinfo=UTC)
_ADDED = """[[columns]]
name = "credit_limit"
type = "float"
missing = "nan"
lookup = "customer_profile"
source_name = "limit_eur"

[[columns]]
name = "products"
type = "integer"
nullable = true
lookup = "customer_profile"

[[lookups]]
name = "customer_profile"
entity = "customer_id"
max_age = "45d"

[[features]]
name = "credit_limit"
kind = "column"
column = "credit_limit"

[[features]]
name = "of_limit"
kind = "expression"
expression = "amount / credit_limit"

"""
_PLACE = '[[features]]\nname = "amount"\nkind = "column"'
CHANGES = MappingProxyType({_PLACE: _ADDED + _PLACE})
"""What makes the fraud case look values up."""


def fraud_with_lookup(text: str) -> str:
    """The use-case file of the fraud case, with the look-up table."""
    assert _PLACE in text
    return text.replace(_PLACE, CHANGES[_PLACE])


def profiles(seed: int, rows: int, customers: int) -> pd.DataFrame:
    """Made-up rows of ``customer_profile`` from December 2025 to March 2026."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "customer_id": [f"c-{n:04d}" for n in rng.integers(0, customers, rows)],
            "valid_from": START + pd.to_timedelta(rng.integers(0, 120 * 86_400, rows), unit="s"),
            "limit_eur": np.round(rng.lognormal(7, 1, rows), 2),
            "products": rng.integers(1, 6, rows),
        }
    )
    return frame.drop_duplicates(["customer_id", "valid_from"])

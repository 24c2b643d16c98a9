"""The names behind the codes of categories, so that nobody takes a code for a number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from bentos.features.definitions import ColumnDefinition

if TYPE_CHECKING:
    from bentos.model.scoring_model import ScoringModel

UNLISTED = "(unlisted)"
"""A level that the model does not know."""


def category_levels(model: ScoringModel) -> dict[str, tuple[str, ...]]:
    """The features that are categories, with their levels in the order of their codes."""
    categories = [d for d in model.plan.definitions if isinstance(d, ColumnDefinition) and d.type == "category"]
    return {definition.name: definition.categories for definition in categories}


def name_levels(features: pd.DataFrame, levels: Mapping[str, tuple[str, ...]]) -> pd.DataFrame:
    """The same rows with the names of levels for their codes, so that nobody takes a code for a number."""
    names = {
        column: features[column].map(dict(enumerate((*level_names, UNLISTED)))).astype(object)
        for column, level_names in levels.items()
    }
    return features.assign(**names)

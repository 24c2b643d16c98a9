"""Small builders of real things. Each takes what a test cares about and chooses the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bentos.features.plan import FeaturePlan
from bentos.model.calibration import Calibrator, Threshold
from bentos.model.scoring_model import ModelMetadata, ScoringModel, golden_rows
from bentos.model.xgboost_booster import XGBoostBooster
from bentos.schema.event_schema import EventSchema
from bentos.schema.id_hashing import Hasher
from bentos.schema.lookup_file import check_rows, lookup_path, write_rows
from bentos.schema.table_cleaning import empty_labels
from bentos.usecase.definition import UseCase
from bentos.usecase.loading import load_usecase, parse_usecase
from monitoring.drift.reference_profile import ReferenceProfile
from monitoring.policies import DriftPolicy


@cache
def fraud() -> UseCase:
    """The fraud case as shipped."""
    return load_usecase("fraud")


def case_data(**changes: Any) -> dict[str, Any]:
    """The content of a small use-case file: card payments with a place, a channel and an optional fee."""
    data: dict[str, Any] = {
        "name": "cards",
        "event_id": "id",
        "event_time": "at",
        "label": {"column": "fraud", "matures_after": "7d", "sources": ["chargeback", "analyst"]},
        "columns": [
            {"name": "id", "type": "identifier", "source_name": "ID"},
            {"name": "at", "type": "datetime", "source_name": "WHEN"},
            {"name": "card", "type": "identifier", "max_length": 8},
            {"name": "shop", "type": "string", "nullable": True},
            {"name": "amount", "type": "float", "min": 0, "max": 1000},
            {"name": "items", "type": "integer", "min": 1, "max": 50},
            {"name": "fee", "type": "float", "nullable": True},
            {"name": "online", "type": "boolean"},
            {"name": "channel", "type": "category", "categories": ["app", "web"]},
        ],
        "features": [
            {"name": "amount", "kind": "column", "column": "amount"},
            {"name": "fee", "kind": "column", "column": "fee"},
            {"name": "online", "kind": "column", "column": "online"},
            {"name": "channel", "kind": "column", "column": "channel"},
            {"name": "hour", "kind": "calendar", "part": "hour"},
            window("card_count", "card", "count", "2d"),
            window("card_mean", "card", "mean", "2d", column="amount"),
            window("card_fee_mean", "card", "mean", "1d", column="fee"),
            window("shop_count", "shop", "count", "1d", delay="1d"),
            window("shop_risk", "shop", "label_rate", "2d", delay="1d"),
        ],
    }
    return data | changes


def window(name: str, entity: str, agg: str, over: str, **more: Any) -> dict[str, Any]:
    """One window feature of a use-case file."""
    return {"name": name, "kind": "window", "entity": entity, "agg": agg, "over": over, **more}


def case(**changes: Any) -> UseCase:
    """The use case of :func:`case_data`, with some top-level keys replaced."""
    return parse_usecase(case_data(**changes))


NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
"""A Monday."""


def card_event(number: int = 1, after: timedelta = timedelta(), **values: Any) -> dict[str, Any]:
    """One event of :func:`case` as a mapping, ``after`` noon of 2026-03-02; ``values`` replace columns."""
    event: dict[str, Any] = {
        "id": f"e{number:04d}",
        "at": NOON + after,
        "card": "c1",
        "shop": "s1",
        "amount": 10.0,
        "items": 1,
        "fee": None,
        "online": True,
        "channel": "web",
    }
    return event | values


def card_frame(*events: Mapping[str, Any], usecase: UseCase | None = None) -> pd.DataFrame:
    """Events of :func:`card_event` as an events frame, in the given order."""
    schema = EventSchema.of(usecase or case())
    return schema.frame([schema.event(e) for e in events])


def label(number: int, y: int, after: timedelta, source: str = "chargeback") -> tuple[str, int, datetime, str]:
    """One label of event ``number``, observed ``after`` noon of 2026-03-02."""
    return f"e{number:04d}", y, NOON + after, source


def label_frame(*labels: tuple[str, int, datetime, str]) -> pd.DataFrame:
    """A labels frame of (event id, y, observed at, source)."""
    if not labels:
        return empty_labels()
    frame = pd.DataFrame(labels, columns=["event_id", "y", "observed_at", "source"])
    frame["observed_at"] = pd.to_datetime(frame["observed_at"], utc=True).dt.as_unit("us")
    return frame.astype({"y": np.int8, "event_id": object, "source": object})


def tiny_model(
    usecase: UseCase | None = None,
    *,
    seed: int = 1,
    trees: int = 5,
    threshold: float = 0.5,
    calibrator: Calibrator | None = None,
    features: Sequence[str] | None = None,
    version: str = "1.0.0",
) -> ScoringModel:
    """A real, trained and consistent model in about 20 ms; another ``seed`` gives other scores.

    It is trained on noise (the first feature decides the label), over the use case's plan.
    ``features`` keeps some of the use case's features only.
    """
    import xgboost

    usecase = usecase or fraud()
    if features is not None:
        kept = tuple(f for f in usecase.features if f.name in features)
        usecase = usecase.model_copy(update={"features": kept})
    plan = FeaturePlan.of(usecase)
    rng = np.random.default_rng(seed)
    rows = rng.gamma(2.0, 20.0, (400, len(plan.names))).astype(np.float32)
    y = (rows[:, 0] + rng.normal(0, 20, len(rows)) > 60).astype(np.int8)
    data = xgboost.DMatrix(rows, label=y, feature_names=list(plan.names), nthread=1)
    settings = {"objective": "binary:logistic", "max_depth": 2, "base_score": 0.5, "nthread": 1, "seed": seed}
    booster = XGBoostBooster(xgboost.train(settings, data, num_boost_round=trees))
    calibrator = calibrator or Calibrator("platt", slope=1.2, intercept=-0.3)
    golden = golden_rows(booster, calibrator, rows)
    scores = calibrator.apply(booster.predict(rows))
    return ScoringModel(
        booster=booster,
        plan=plan,
        calibrator=calibrator,
        threshold=Threshold(threshold, threshold, threshold),
        profile=ReferenceProfile.fit(pd.DataFrame(rows, columns=list(plan.names)), scores, DriftPolicy(), labels=y),
        schema_fingerprint=EventSchema.of(usecase).fingerprint,
        golden=golden,
        metadata=ModelMetadata(usecase=usecase.name, semantic_version=version, rows=len(rows), seed=seed),
    )


PROFILE = {"name": "profile", "entity": "card"}
"""A look-up table of :func:`looked_up_case`."""


def looked_up_case(lookup: Mapping[str, Any] | None = None, **changes: Any) -> UseCase:
    """:func:`case` with four columns that a look-up table by card fills; two of them are features."""
    data = case_data(**changes)
    columns = [
        {"name": "credit_limit", "type": "float", "nullable": True, "source_name": "limit_eur", "lookup": "profile"},
        {"name": "seats", "type": "integer", "missing": "nan", "lookup": "profile"},
        {"name": "tier", "type": "category", "categories": ["gold", "base"], "nullable": True, "lookup": "profile"},
        {"name": "since", "type": "datetime", "nullable": True, "lookup": "profile"},
    ]
    features = [{"name": name, "kind": "column", "column": name} for name in ("credit_limit", "tier")]
    features.append(window("limit_mean", "card", "mean", "2d", column="credit_limit"))
    data["columns"] = [*data["columns"], *columns]
    data["features"] = [*data["features"], *features]
    return parse_usecase(data | {"lookups": [PROFILE | dict(lookup or {})]})


def profile_frame(*rows: tuple[str, timedelta, float | None], **more: Any) -> pd.DataFrame:
    """A table for :func:`looked_up_case` of (card, valid from so long after :data:`NOON`, credit limit)."""
    frame = pd.DataFrame(
        {
            "card": pd.Series([card for card, _, _ in rows], dtype=object),
            "valid_from": pd.to_datetime(pd.Series([NOON + after for _, after, _ in rows]), utc=True),
            "limit_eur": pd.Series([limit for _, _, limit in rows], dtype=np.float64),
            "seats": pd.Series([len(card) for card, _, _ in rows], dtype="Int64"),
            "tier": pd.Series(["gold" if (limit or 0) > 500 else None for _, _, limit in rows], dtype=object),
            "since": pd.to_datetime(pd.Series([NOON - timedelta(days=400)] * len(rows)), utc=True),
        }
    )
    return frame.assign(**more)


def place_lookup(usecase: UseCase, folder: Path, table: pd.DataFrame, name: str = "profile") -> Path:
    """Put a table where the look-up tables of a folder are; its file."""
    lookup, path = usecase.lookup(name), lookup_path(folder, name)
    write_rows(usecase, lookup, check_rows(usecase, lookup, table, Hasher.for_samples()), path)
    return path

"""Churn: a table without a time, from the file to a scored customer."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bentos.schema.event_schema import EventSchema
from bentos.usecase.loading import load_usecase
from flows.errors import SchemaProblem
from flows.sources import open_source
from flows.steps.data.folds import TrainingHistory
from flows.steps.evaluation.crossfit import assign_folds
from flows.steps.tuning.folds import tuning_folds
from tests.bench.__main__ import main as bench

USECASE = load_usecase("churn")
CUSTOMER: dict[str, Any] = {
    "customer_id": "c-1", "gender": "Female", "senior_citizen": False, "partner": "Yes", "dependents": "No",
    "tenure": 1, "phone_service": "No", "multiple_lines": "No", "internet_service": "DSL", "online_security": "No",
    "online_backup": "Yes", "device_protection": "No", "tech_support": "No", "streaming_tv": "No",
    "streaming_movies": "No", "contract": "Month-to-month", "paperless_billing": "Yes",
    "payment_method": "Electronic check", "monthly_charges": 29.85, "total_charges": None,
}  # fmt: skip
SHIPPED = Path(__file__).parents[4] / "shared" / "data"


def telco() -> Path:
    """The telco table, where this machine has it."""
    file = Path(os.environ.get("INCUMBENT_BENCH_DATA", SHIPPED)) / "telco_churn.csv"
    if not file.is_file():
        pytest.skip("telco_churn.csv is not here; put it into the folder INCUMBENT_BENCH_DATA")
    return file


def table(path: Path, labels: list[str]) -> Path:
    rows = [
        {c.external_name: CUSTOMER[c.name] for c in USECASE.columns if c.name in CUSTOMER}
        | {"customerID": f"c-{n}", "SeniorCitizen": 0, "TotalCharges": " " if n % 3 == 0 else "29.85", "Churn": label}
        for n, label in enumerate(labels)
    ]
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def test_a_request_without_a_time_is_the_same_event_all_day_long() -> None:
    schema = EventSchema.of(USECASE)
    body = json.dumps(CUSTOMER).encode()
    first, second = schema.decode(body), schema.decode(body)
    assert first.body_hash == second.body_hash
    assert first.time_us % 86_400_000_000 == 0
    assert schema.decode(first.as_json()) == first
    assert schema.decode_many(b"[" + body + b"]", 5) == [first]


def test_a_table_without_a_time_gives_the_same_rows_each_time_and_blanks_are_missing(tmp_path: Path) -> None:
    source = open_source(USECASE, "csv", path=str(table(tmp_path / "t.csv", ["Yes", "No", "No", ""] * 20)))
    read, again = source.read(source.extent()), source.read(source.extent())
    pd.testing.assert_frame_equal(read.events, again.events)
    assert len(read.events) == 80
    assert read.events["total_charges"].isna().sum() == 27
    assert (len(read.labels), int(read.labels["y"].sum())) == (60, 20)
    assert read.events["event_time"].dt.date.nunique() > 30


def test_a_target_of_three_values_is_refused_with_the_reason(tmp_path: Path) -> None:
    source = open_source(USECASE, "csv", path=str(table(tmp_path / "t.csv", ["Yes", "No", "Perhaps"] * 5)))
    with pytest.raises(SchemaProblem, match="multiclass"):
        source.read(source.extent())


def test_every_fold_has_its_share_of_positives() -> None:
    y = np.array([1] * 23 + [0] * 77, dtype=np.int8)
    place = assign_folds(y, 5, 7)
    assert sorted(np.bincount(place)) == [20, 20, 20, 20, 20]
    assert sorted(np.bincount(place[y == 1])) == [4, 4, 5, 5, 5]


def test_a_search_over_a_table_without_a_time_measures_every_row_once(tmp_path: Path) -> None:
    source = open_source(USECASE, "csv", path=str(table(tmp_path / "t.csv", ["Yes", "No", "No"] * 40)))
    read, end = source.read(source.extent()), source.extent().end
    known = TrainingHistory.at(USECASE, read.events, read.labels, read.revisions, end)
    assert USECASE.tuning is not None
    folds = tuning_folds(USECASE, USECASE.tuning, known, source.extent().start).folds
    measured = [set(fold.valid.rows["event_id"]) for fold in folds]
    assert len(folds) == 5
    assert sorted(set().union(*measured)) == sorted(read.events["customer_id"])
    assert sum(map(len, measured)) == 120
    assert all(not set(fold.train.rows["event_id"]) & ids for fold, ids in zip(folds, measured, strict=True))
    assert {fold.valid.positives for fold in folds} == {8}


def test_telco_churn_reaches_its_published_figures(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(["usecase", "churn", "--data", str(telco()), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"auc_roc", "average_precision", "baseline_auc_roc"}
    assert found["auc_roc"] >= 0.845
    assert found["average_precision"] >= 0.66
    assert found["baseline_auc_roc"] < found["auc_roc"]

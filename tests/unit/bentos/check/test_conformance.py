from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from bentos.check import sample
from bentos.check.usecase import ConformanceReport, check_usecase
from bentos.features.plan import FeaturePlan
from bentos.schema.event_schema import EventSchema
from bentos.usecase.loading import builtin_usecases, load_usecase
from tests.support.builders import case, case_data, window

OFFER = {"offer_cost": 10, "acceptance_rate": 0.3}


def status(report: ConformanceReport, name: str) -> str:
    return next(f.status for f in report.findings if f.name == name)


def detail(report: ConformanceReport, name: str) -> str:
    return next(f.detail for f in report.findings if f.name == name)


@pytest.mark.parametrize("name", sorted(builtin_usecases()))
def test_every_use_case_that_ships_passes_every_check(name: str) -> None:
    report = check_usecase(load_usecase(name))
    assert report.passed
    assert [f for f in report.findings if f.status != "PASS"] == []


def test_a_report_is_the_same_every_time_and_plain_json() -> None:
    first, second = check_usecase(case()), check_usecase(case())
    assert first == second
    assert first.to_json()["passed"] is True
    assert {f["status"] for f in first.to_json()["findings"]} <= {"PASS", "WARN"}


@pytest.mark.parametrize(
    ("changes", "name", "expected", "said"),
    [
        ({"label": {"observed_at": "WHEN"}}, "columns", "FAIL", "not known when the event is scored"),
        ({"incumbent": {"column": "amount", "threshold": 0.5}}, "columns", "WARN", "incumbent's score"),
        (
            {"features": [window("a", "card", "count", "1d"), window("b", "card", "count", "24h")]},
            "features",
            "WARN",
            "the same",
        ),
        ({"label": {"absent_after_maturity": "negative"}}, "labels", "WARN", "unlabelled young events"),
        ({"label": {"matures_after": "1h"}}, "labels", "PASS", "mature"),
        ({"source": {"simulator": {"days": 30}}}, "history", "FAIL", "need 5"),
        ({"split": {"test": "3d"}}, "history", "WARN", "split.test is shorter than a week"),
        ({"cost": {"false_negative": 0}}, "cost", "FAIL", "a cost of 0"),
        ({"cost": {"false_negative": 0.5}}, "cost", "WARN", "less than a false alarm"),
        ({"cost": {"false_negative": "fee"}}, "cost", "FAIL", "may be negative"),
        ({"cost": {"false_negative": "amount"}}, "cost", "PASS", ""),
        ({}, "capacity", "WARN", "no capacity"),
        ({"capacity": {"alerts_per_day": 5}}, "capacity", "PASS", ""),
        ({"gates": {"min_average_precision": 0.0}}, "gates", "WARN", "every model passes"),
        ({"gates": {"profit": OFFER | {"saved_value": "fee"}}}, "gates", "FAIL", "worth 'fee', which may be negative"),
        ({"gates": {"profit": OFFER | {"saved_value": "amount"}}}, "gates", "PASS", ""),
        ({"gates": {"min_matured_rows": 10}}, "gates", "WARN", "few"),
        ({"promotion": {"max_shadow_days": 20}}, "promotion", "FAIL", "no challenger could ever be promoted"),
        ({"promotion": {"min_matured_days": 5}}, "promotion", "WARN", "weekly patterns"),
        ({"retrain": {"cooldown": "1d"}}, "promotion", "WARN", "cooldown"),
        (
            {"night": ["06:00", "06:00"], "features": [{"name": "n", "kind": "calendar", "part": "night"}]},
            "clocks",
            "WARN",
            "empty",
        ),
    ],
)
def test_what_deserves_a_look_is_found(changes: dict[str, Any], name: str, expected: str, said: str) -> None:
    data = copy.deepcopy(case_data())
    for key, value in changes.items():
        data[key] = data[key] | value if isinstance(data.get(key), dict) else value
    report = check_usecase(case(**data))
    assert status(report, name) == expected
    assert said in detail(report, name)
    assert report.passed == (expected != "FAIL")


def test_a_feature_that_reads_a_telling_column_is_pointed_at() -> None:
    columns = [*case_data()["columns"], {"name": "chargeback_count", "type": "integer"}]
    features = [{"name": "f", "kind": "column", "column": "chargeback_count"}]
    report = check_usecase(case(columns=columns, features=features))
    assert status(report, "columns") == "WARN"
    assert "'chargeback_count'" in detail(report, "columns")


def test_executions_that_disagree_fail_by_the_name_of_the_feature(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = FeaturePlan.row

    def skewed(self: FeaturePlan, *args: Any) -> np.ndarray[Any, Any]:
        row = honest(self, *args)
        row[self.names.index("card_mean")] = np.nextafter(row[self.names.index("card_mean")], np.float32(np.inf))
        return row

    monkeypatch.setattr(FeaturePlan, "row", skewed)
    report = check_usecase(case())
    assert status(report, "sample") == "FAIL"
    assert detail(report, "sample") == "feature 'card_mean' has other values online than offline"


def test_a_schema_that_alters_events_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EventSchema, "bodies", lambda self, frame: [b"{}"] * len(frame))
    assert "turned into requests" in detail(check_usecase(case()), "sample")


def test_the_sample_keeps_declared_limits_of_every_kind() -> None:
    columns = [
        *case_data()["columns"],
        {"name": "far", "type": "float", "min": 2e6, "max": 3e6},
        {"name": "deep", "type": "integer", "max": -5},
        {"name": "half", "type": "integer", "min": 0.5, "max": 1.5},
        {"name": "born", "type": "datetime", "nullable": True},
        {"name": "word", "type": "string", "max_length": 1},
        {"name": "kind", "type": "category"},
    ]
    features = [*case_data()["features"], {"name": "kind", "kind": "column", "column": "kind"}]
    usecase = case(columns=columns, features=features, timezone="America/New_York")
    assert list(sample.sample_problems(usecase)) == []


def test_a_short_calibration_fold_is_fine_where_there_is_no_calibrator() -> None:
    split = {"calibration": "4d"}
    said = [f.detail for f in check_usecase(case(split=split)).findings]
    assert "split.calibration is shorter than a week and misses weekdays" in said
    bare = [f.detail for f in check_usecase(case(split=split, training={"calibration": "none"})).findings]
    assert "split.calibration is shorter than a week and misses weekdays" not in bare


def test_a_comparison_of_monthly_snapshots_needs_a_month_for_each() -> None:
    retention = load_usecase("retention")
    short = retention.promotion.model_copy(update={"max_shadow_days": 365})
    report = check_usecase(retention.model_copy(update={"promotion": short}))
    said = next(f for f in report.findings if f.name == "promotion")
    assert said.status == "FAIL"
    assert "14 matured snapshots, one a month, and 90d of maturity do not fit into 365 shadow days" in said.detail

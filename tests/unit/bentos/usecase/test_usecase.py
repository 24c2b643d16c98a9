from __future__ import annotations

import copy
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bentos.errors import UseCaseError
from bentos.usecase.definition import UseCase, WindowFeature
from bentos.usecase.loading import builtin_usecases, load_usecase, parse_usecase
from tests.support.builders import case, case_data, fraud, window


def refused(data: dict[str, Any]) -> UseCaseError:
    with pytest.raises(UseCaseError) as caught:
        parse_usecase(data, "my.toml")
    return caught.value


def changed(path: str, value: Any) -> dict[str, Any]:
    """The small use case with the value at ``a.b[0].c`` replaced (or added)."""
    data = copy.deepcopy(case_data())
    target: Any = data
    parts = path.replace("[", ".").replace("]", "").split(".")
    for part in parts[:-1]:
        target = target[int(part)] if part.isdigit() else target.setdefault(part, {})
    target[int(parts[-1]) if parts[-1].isdigit() else parts[-1]] = value
    return data


def test_the_fraud_case_declares_fifteen_features_and_its_policies() -> None:
    usecase = fraud()
    assert len(usecase.features) == 15
    assert (usecase.cost.false_negative, usecase.cost.false_positive) == (100, 1)
    assert usecase.label.matures_after == timedelta(days=7)
    assert (usecase.drift.psi_warning, usecase.drift.psi_severe) == (0.1, 0.25)
    assert usecase.promotion.required_recall_gain == 0.01
    assert (usecase.promotion.alpha, usecase.promotion.min_matured_days) == (0.05, 14)
    assert usecase.promotion.min_matured_positives == 200
    assert usecase.gates.min_matured_rows == 10_000
    assert (usecase.retrain.max_age, usecase.retrain.max_new_rows) == (timedelta(days=30), 100_000)
    assert usecase.longest_window == timedelta(days=37)


def test_a_built_in_case_is_found_by_name_and_any_file_by_path(tmp_path: Path) -> None:
    copy_of_fraud = tmp_path / "mine.toml"
    shutil.copy(builtin_usecases()["fraud"], copy_of_fraud)
    assert load_usecase(copy_of_fraud) == load_usecase("fraud")


def test_an_unknown_name_lists_what_is_known() -> None:
    with pytest.raises(UseCaseError, match=r"frod.*no such name or file.*fraud.*path of a \.toml file"):
        load_usecase("frod")


def test_a_use_case_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        case().name = "other"  # type: ignore[misc]  # the mistake under test


def test_broken_toml_is_named_as_such(tmp_path: Path) -> None:
    file = tmp_path / "broken.toml"
    file.write_text("name = ")
    with pytest.raises(UseCaseError) as caught:
        load_usecase(file)
    assert (caught.value.file, caught.value.key, caught.value.allowed) == (file, "syntax", "valid TOML")


def test_a_file_that_is_not_utf8_is_named_as_such(tmp_path: Path) -> None:
    file = tmp_path / "latin.toml"
    file.write_bytes(b'name = "\xe9"')
    with pytest.raises(UseCaseError, match="a readable UTF-8 TOML file"):
        load_usecase(file)


def test_an_error_names_the_file_the_key_what_was_found_and_what_is_allowed() -> None:
    error = refused(changed("label.matures_after", "a week"))
    assert str(error.file) == "my.toml"
    assert error.key == "label.matures_after"
    assert error.found == "'a week'"
    assert "'7d'" in error.allowed


def test_a_missing_key_is_named() -> None:
    data = case_data()
    del data["event_id"]
    error = refused(data)
    assert (error.key, error.found) == ("event_id", "nothing")


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("capacity.alerts_per_dya", "alerts_per_day"),
        ("columns[1].typ", "type"),
        ("features[5].ovr", "over"),
        ("features[4].prt", "part"),
        ("source.simulator.sead", "seed"),
        ("lable", "label"),
    ],
)
def test_an_unknown_key_is_refused_with_the_key_that_was_meant(path: str, meant: str) -> None:
    error = refused(changed(path, 1))
    assert error.key == path
    assert error.found == "an unknown key"
    assert f"did you mean {meant!r}" in error.allowed


@pytest.mark.parametrize(
    ("path", "value", "allowed"),
    [
        ("timezone", "Mars/Olympus", "IANA zone"),
        ("day_starts_at", "6am", "HH:MM"),
        ("night", ["22:00", "25:00"], "HH:MM"),
        ("columns[4].type", "money", "float"),
        ("columns[4].min", "0", "number"),
        ("features[5].kind", "rolling", "window"),
        ("features[5].agg", "median", "mean"),
        ("gates.min_recall", 1.5, "less than or equal to 1"),
        ("promotion.alpha", 0.9, "less than 0.5"),
        ("name", "Fraud Case", "pattern"),
        ("label.sources", ["a", "a"], "ranked once"),
        ("label.sources", [], "at least 1"),
        ("drift", {"psi_warning": 0.3, "psi_severe": 0.2}, "must lie above"),
        ("promotion", {"min_recall_gain": 0.01, "recall_non_inferiority_margin": 0.01}, "not both"),
    ],
)
def test_a_wrong_value_is_refused_with_what_is_allowed(path: str, value: Any, allowed: str) -> None:
    error = refused(changed(path, value))
    assert error.key.startswith(path.split("[")[0].split(".")[0])
    assert allowed in error.allowed


@pytest.mark.parametrize("text", ["nan", "inf", "-inf"])
def test_a_number_that_is_not_finite_is_refused(text: str) -> None:
    error = refused(changed("gates.min_recall", float(text)))
    assert (error.key, error.found, error.allowed) == ("gates.min_recall", text, "a finite number")


@pytest.mark.parametrize(
    ("path", "value", "key", "allowed"),
    [
        ("event_id", "amount", "event_id", "type identifier"),
        ("event_time", "when", "event_time", "declared column (at)"),
        ("features[0].column", "card", "features[0].column", "float or integer"),
        ("features[5].entity", "amount", "features[5].entity", "identifier or category or string"),
        ("features[6].column", "nope", "features[6].column", "declared column"),
        ("evaluation", {"entity": "amount"}, "evaluation.entity", "type identifier"),
        ("cost", {"false_negative": "channel"}, "cost.false_negative", "float or integer"),
        ("incumbent", {"column": "vendor", "threshold": 0.5}, "incumbent.column", "declared column"),
        ("label.column", "amount", "label.column", "not known when the event is scored"),
        ("label.source_name", "WHEN", "label.source_name", "not known when the event is scored"),
        ("columns[4].name", "card", "columns", "each name once"),
        ("columns[4].source_name", "WHEN", "columns.source_name", "each name once"),
        ("features[1].name", "amount", "features", "each name once"),
        ("columns[0].nullable", True, "event_id", "every event has"),
    ],
)
def test_a_reference_that_leads_nowhere_is_refused(path: str, value: Any, key: str, allowed: str) -> None:
    error = refused(changed(path, value))
    assert error.key == key
    assert allowed in error.allowed


@pytest.mark.parametrize(
    ("feature", "said"),
    [
        (window("f", "card", "mean", "1d"), "needs a column"),
        (window("f", "card", "count", "1d", column="amount"), "takes no column"),
        (window("f", "card", "count", "0d"), "longer than nothing"),
        (window("f", "card", "label_rate", "1d", include_current=True), "label_rate never includes the current event"),
        (window("f", "card", "count", "1d", delay="1d", include_current=True), "delayed window never includes"),
    ],
)
def test_a_window_that_contradicts_itself_is_refused(feature: dict[str, Any], said: str) -> None:
    assert said in refused(case_data(features=[feature])).allowed


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ({"name": "x", "type": "string", "min": 1}, "for numbers"),
        ({"name": "x", "type": "float", "min": 2, "max": 1}, "exceeds max"),
        ({"name": "x", "type": "string", "categories": ["a"]}, "for type 'category'"),
    ],
)
def test_a_column_that_contradicts_itself_is_refused(column: dict[str, Any], said: str) -> None:
    assert said in refused(case_data(columns=[*case_data()["columns"], column])).allowed


def test_a_summed_column_must_fit_whole_numbers_of_64_bits() -> None:
    data = changed("columns[6].decimals", 9)
    error = refused(data)
    assert error.key == "features[7].column"
    assert "fewer decimals" in error.allowed
    data["columns"][6]["max"], data["columns"][6]["min"] = 1_000_000, 0
    assert parse_usecase(data).column("fee").decimals == 9


def test_a_window_counts_itself_only_without_delay_and_never_its_own_label() -> None:
    def feature(**more: Any) -> WindowFeature:
        return WindowFeature.model_validate(window("f", "card", more.pop("agg", "count"), "1d", **more))

    assert feature().counts_itself
    assert not feature(delay="1d").counts_itself
    assert not feature(include_current=False).counts_itself
    assert not feature(agg="label_rate").counts_itself


def test_the_zone_and_the_day_boundary_define_the_day() -> None:
    usecase = case(timezone="Europe/Paris", day_starts_at="06:00")
    night_before_six = datetime(2026, 7, 2, 3, 59, tzinfo=UTC)
    assert usecase.calendar.day_of(night_before_six).isoformat() == "2026-07-01"
    assert usecase.calendar.day_of(night_before_six + timedelta(minutes=1)).isoformat() == "2026-07-02"


def test_a_use_case_round_trips_through_json() -> None:
    usecase = fraud()
    assert UseCase.model_validate_json(usecase.model_dump_json()) == usecase


@pytest.mark.parametrize(
    ("fairness", "key", "said"),
    [
        ({"sensitive": ["gender"]}, "fairness.sensitive", "a declared column"),
        ({"sensitive": ["amount"]}, "fairness.edges.amount", "edges that cut the number"),
        ({"slices": ["channel"], "edges": {"channel": [1.0]}}, "fairness.edges.channel", "edges for numbers only"),
        ({"sensitive": ["amount"], "edges": {"amount": [2.0, 1.0]}}, "fairness", "must rise"),
        ({"edges": {"amount": [2.0]}}, "fairness", "neither sensitive nor a slice"),
    ],
)
def test_sensitive_columns_must_be_declared_and_numbers_cut(fairness: dict[str, Any], key: str, said: str) -> None:
    error = refused(case_data(fairness=fairness))
    assert error.key == key
    assert said in error.allowed


@pytest.mark.parametrize(
    ("changes", "key", "said"),
    [
        ({"saved_value": "amuont"}, "gates.profit.saved_value", "a declared column"),
        ({"saved_value": "channel"}, "gates.profit.saved_value", "of type float or integer"),
        ({"saved_value": 40, "contact_cost": 3}, "gates.profit.saved_value", "more than 40, which is what keeping one"),
        ({"acceptance_rate": 1.2}, "gates.profit.acceptance_rate", "less than or equal to 1"),
        ({"offer_cots": 3}, "gates.profit.offer_cots", "did you mean 'offer_cost'"),
    ],
)
def test_an_offer_that_can_earn_nothing_is_refused(changes: dict[str, Any], key: str, said: str) -> None:
    offer = {"offer_cost": 30, "saved_value": 200, "acceptance_rate": 0.3}
    error = refused(case_data(gates={"profit": offer | changes}))
    assert error.key == key
    assert said in error.allowed

"""A use case without a time learns from its log: live customers, labels that came later, gates on profit."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from mlflow.tracking import MlflowClient

from bentos.settings import read_settings
from bentos.usecase.loading import load_usecase
from flows.snapshots.store import SnapshotStore
from flows.sources import open_source
from flows.steps.data.import_history import load_history
from flows.steps.data.read_history import read_history
from flows.steps.data.split import days_needed
from flows.steps.training.train import TrainingOutcome, train_model
from flows.steps.training.training_steps import TrainingStores
from monitoring.performance.gates import judge_gates
from monitoring.store import memory_store
from tests.support.registries import mlflow_registry

DECLARED = load_usecase("churn")
CHURN = DECLARED.model_copy(update={"evaluation": DECLARED.evaluation.model_copy(update={"folds": 2})})
A_DAY = 40
NEEDED = days_needed(CHURN)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TrainingOutcome, MlflowClient]]:
    """One training on a simulated log that is just long enough."""
    folder = tmp_path_factory.mktemp("churn")
    settings, registry = read_settings(home=folder, usecase="churn"), mlflow_registry(folder)
    source = open_source(CHURN, "simulator", days=NEEDED, customers_a_day=A_DAY)
    window, store = source.extent(), memory_store()
    load_history(source, window, store, CHURN, window.end)
    history = read_history(open_source(CHURN, "log", store=store), CHURN, window.end)
    yield (
        train_model(
            CHURN, history.read, history.as_of,
            stores=TrainingStores(settings, registry, SnapshotStore(settings.snapshots)),
        ),
        MlflowClient(registry.uri),
    )  # fmt: skip
    store.close()


def test_it_trains_on_the_days_whose_labels_have_matured(trained: tuple[TrainingOutcome, MlflowClient]) -> None:
    outcome, _ = trained
    assert outcome.passed
    assert outcome.evidence.rows == 50 * A_DAY
    assert outcome.split.matured_until == outcome.verdict.as_of - timedelta(days=30)


def test_profit_is_judged_beside_the_area_under_the_curve(trained: tuple[TrainingOutcome, MlflowClient]) -> None:
    checks = {check.name: check for check in trained[0].verdict.checks}
    assert list(checks)[-2:] == ["profit_per_customer", "profit_above_everybody"]
    assert {checks[name].status for name in ("auc_roc", "profit_per_customer", "profit_above_everybody")} == {"PASS"}
    assert checks["profit_per_customer"].detail.startswith("interval ")


def test_profit_is_a_metric_in_mlflow_with_its_bounds(trained: tuple[TrainingOutcome, MlflowClient]) -> None:
    outcome, client = trained
    metrics = client.get_run(outcome.run_id).data.metrics
    names = ("profit", "profit_per_customer", "profit_above_everybody")
    assert {f"{name}{bound}" for name in names for bound in ("", "_low", "_high")} <= set(metrics)
    assert metrics["profit_per_customer"] == outcome.evidence.value("profit_per_customer")
    assert metrics["profit_per_customer"] > metrics["baseline_profit_per_customer"] > 0


def test_an_offer_that_must_earn_too_much_holds_the_model_back(trained: tuple[TrainingOutcome, MlflowClient]) -> None:
    profit = CHURN.gates.profit
    assert profit is not None
    dear = CHURN.gates.model_copy(update={"profit": profit.model_copy(update={"min_per_customer": 200.0})})
    verdict = judge_gates(trained[0].evidence, None, dear, as_of=trained[0].verdict.as_of)
    assert verdict.outcome == "fail"
    assert verdict.reasons[0].startswith("profit_per_customer is ")
